"""The audit log: what was recorded is found again, and what was changed since is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shoal.crdt.keys import DeviceKey
from shoal.node import audit
from shoal.node.audit import HEAD, PREFIX, Audit
from shoal.node.events import EventLog
from shoal.node.store import MemoryStore, StoreFull
from shoal.node.store.port import Op

KEY = DeviceKey(b"k" * 32)


def opened(store: MemoryStore) -> Audit:
    return Audit(store, KEY, lambda: 1000)


def with_records(count: int) -> MemoryStore:
    store = MemoryStore()
    log = opened(store)
    for number in range(count):
        log.add("paired", f"number {number}")
    return store


def key(number: int) -> bytes:
    return PREFIX + number.to_bytes(8)


def test_records_are_numbered_and_there_after_a_restart() -> None:
    store = with_records(3)
    opened(store).add("revoked", "gone")
    found = list(opened(store).records())
    assert [(record.number, record.text) for record in found] == [
        (1, "number 0"),
        (2, "number 1"),
        (3, "number 2"),
        (4, "gone"),
    ]
    assert [record.number for record in opened(store).records(after=2)] == [3, 4]
    assert opened(store).fault() is None


def test_an_empty_log_is_whole() -> None:
    assert opened(MemoryStore()).fault() is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda store: [("meta", key(2), store.get("meta", key(2)).replace(b"number 1", b"number 9"))],
            "record 3 does",
        ),
        (lambda store: [("meta", key(2), None)], "record 2 is missing"),
        (lambda store: [("meta", key(1), None)], "record 1 is missing"),
        (lambda store: [("meta", key(4), None)], "it ends with record 3"),
        (lambda store: [("meta", key(5), store.get("meta", key(4)))], "record 5 is missing"),
        (lambda store: [("meta", key(2), b"\xff")], "record 2 cannot be read"),
        (lambda store: [("meta", HEAD, None)], "its head is missing"),
        (lambda store: [("meta", HEAD, store.get("meta", HEAD)[:-1] + b"x")], "not signed"),
    ],
)
def test_whatever_is_changed_is_noticed(change: Callable[[MemoryStore], list[Op]], said: str) -> None:
    store = with_records(4)
    store.write(change(store), sync=True)
    assert said in (opened(store).fault() or "")


def test_another_devices_head_is_none() -> None:
    store = with_records(2)
    assert Audit(store, DeviceKey(b"o" * 32), lambda: 0).fault() is not None


def test_of_very_many_the_oldest_go_and_the_rest_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST", 10)
    monkeypatch.setattr(audit, "GO", 4)
    store = with_records(23)
    numbers = [record.number for record in opened(store).records()]
    assert numbers == list(range(numbers[0], 24))
    assert 7 <= len(numbers) <= 10
    assert opened(store).fault() is None


def test_events_that_matter_to_security_are_recorded_and_others_are_not() -> None:
    store = MemoryStore()
    events = EventLog(lambda: 5)
    events.listener = opened(store).on_event
    events.add("connected", "to somebody")
    events.add("paired", "with a phone")
    assert [record.kind for record in opened(store).records()] == ["paired"]


def test_on_a_full_disk_the_node_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    log, events = opened(store), EventLog(lambda: 5)
    events.listener = log.on_event

    def full(*arguments: object, **options: object) -> None:
        raise StoreFull("full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        events.add("paired", "lost")
    events.add("paired", "kept")
    assert [(record.number, record.text) for record in log.records()] == [(1, "kept")]
    assert log.fault() is None


def test_any_text_can_be_recorded() -> None:
    store = MemoryStore()
    opened(store).add("paired", "a\udcff" + "x" * 100_000)
    assert opened(store).fault() is None
    assert next(iter(opened(store).records())).text.startswith("a\\udcffxx")
