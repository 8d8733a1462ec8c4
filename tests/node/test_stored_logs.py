"""A folder's logs as a holder has them: checked without being read."""

from __future__ import annotations

import random

from shoal.crdt.frontier import missing
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.log import LogHead
from shoal.crdt.model import ROOT, FolderId, LinkContent
from shoal.node.changes import Create
from shoal.node.replica import Replica
from shoal.node.store import MemoryStore
from shoal.node.stored_logs import HeldFolder

FOLDER = FolderId(b"f" * 16)
KEYS = FolderKeys.from_secret(b"s" * 32)


def replica(number: int) -> Replica:
    key = DeviceKey(bytes([number]) * 32)
    entropy = random.Random(number).randbytes
    return Replica(MemoryStore(), FOLDER, KEYS, key, lambda device: True, lambda: 1000, entropy)


def holder(store: MemoryStore | None = None) -> HeldFolder:
    return HeldFolder(store or MemoryStore(), FOLDER, lambda device: True)


def write(one: Replica, *names: str) -> None:
    one.commit([Create(ROOT, name, "file", LinkContent(name)) for name in names])


def entries(one: Replica) -> list[bytes]:
    return [entry for span in missing(one.frontier, {}) for entry in one.read_entries(span)]


def test_what_is_held_is_passed_on_as_it_is_and_nothing_of_it_can_be_read() -> None:
    one, other, between = replica(1), replica(2), holder()
    write(one, "secret")
    write(one, "more")
    assert between.receive_entries(entries(one)) is None
    assert between.frontier == one.frontier
    passed = [entry for span in missing(between.frontier, other.frontier) for entry in between.read_entries(span)]
    assert not any(b"secret" in entry for entry in passed)
    assert other.receive_entries(passed) is None
    assert {view.name for view in other.children(ROOT)} == {"secret", "more"}


def test_an_entry_that_was_changed_is_refused_by_the_holder_and_by_who_gets_it() -> None:
    one, other, between = replica(1), replica(2), holder()
    write(one, "a")
    (entry,) = entries(one)
    for place in (20, len(entry) // 2, len(entry) - 1):
        changed = entry[:place] + bytes([entry[place] ^ 1]) + entry[place + 1 :]
        for each in (between, other):
            refusal = each.receive_entries([changed])
            assert refusal is not None
            assert refusal.misbehaved
    assert between.frontier == {}


def test_what_an_author_may_not_write_is_not_held() -> None:
    one, between = replica(1), holder()
    write(one, "a")
    write(one, "b")
    between.limit = lambda log: LogHead(1, one.frontier[log].hash) if log == one.log_id else LogHead()
    assert between.receive_entries(entries(one)) is not None
    assert between.entries == 0  # it is another first entry than what was known
    between.limit = lambda log: None
    assert between.receive_entries(entries(one)) is None
    assert between.entries == 2
    between.limit = lambda log: LogHead()
    assert between.keep_to_limits()
    assert between.entries == 0


def test_what_is_held_is_there_after_a_crash_and_gone_once_erased() -> None:
    store, one = MemoryStore(), replica(1)
    write(one, "a")
    holder(store).receive_entries(entries(one))
    store.crash()
    again = holder(store)
    assert again.frontier == one.frontier
    again.erase()
    assert holder(store).frontier == {}
