from __future__ import annotations

import itertools

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.catalog import Catalog, FolderEntry, make_statement
from shoal.crdt.keys import DeviceKey, later_epoch
from shoal.crdt.model import DeviceId, FolderId

ACCOUNT, SECRET = b"a" * 32, b"s" * 32
ONE, OTHER, STRANGER = DeviceKey(b"1" * 32), DeviceKey(b"2" * 32), DeviceKey(b"3" * 32)


def is_member(device: DeviceId) -> bool:
    return device in (ONE.id, OTHER.id)


def catalog(*statements: bytes) -> Catalog:
    made = Catalog(ACCOUNT, lambda: [SECRET], is_member, is_member)
    made.add(statements)
    return made


def entry(number: int, name: str = "Photos", time_ms: int = 5) -> FolderEntry:
    return FolderEntry(FolderId(bytes([number]) * 16), name, ((0, bytes([number]) * 32),), time_ms)


def say(key: DeviceKey, said: FolderEntry, account: bytes = ACCOUNT, secret: bytes = SECRET) -> bytes:
    return make_statement(account, secret, key, said)


def test_a_statement_makes_a_folder() -> None:
    assert catalog(say(ONE, entry(1))).folders() == {entry(1).id: entry(1)}


def test_any_order_and_repetition_gives_the_same_folders() -> None:
    said = [say(ONE, entry(1, "a", 1)), say(OTHER, entry(1, "b", 2)), say(ONE, entry(2, "c", 1))]
    expected = catalog(*said).folders()
    assert expected[entry(1).id].name == "b"
    for order in itertools.permutations([*said, said[0]]):
        assert catalog(*order).folders() == expected


def test_only_news_is_told_of() -> None:
    made = catalog()
    statement = say(ONE, entry(1))
    assert made.add([statement]) == [statement]
    assert made.add([statement]) == []


@pytest.mark.parametrize(
    "statement",
    [
        say(STRANGER, entry(1)),
        say(ONE, entry(1), account=b"b" * 32),
        say(ONE, entry(1), secret=b"t" * 32),
        say(ONE, entry(1, name="")),
        say(ONE, entry(1, name="x" * 256)),
    ],
    ids=["stranger", "other account", "other secret", "no name", "long name"],
)
def test_unfit_statements_are_refused(statement: bytes) -> None:
    made = catalog(statement)
    assert made.folders() == {}
    assert made.refused == 1


def test_a_statement_has_one_encoding() -> None:
    fields = cbor2.loads(say(ONE, entry(1)))
    loose = b"\x9f" + b"".join(cbor2.dumps(field) for field in fields) + b"\xff"
    assert catalog(loose).folders() == {}


@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    statement = bytearray(say(ONE, entry(1)))
    at = data.draw(st.integers(0, len(statement) - 1))
    statement[at] ^= data.draw(st.integers(1, 255))
    assert catalog(bytes(statement)).folders() == {}


@given(st.binary(max_size=300))
def test_garbage_is_refused(garbage: bytes) -> None:
    assert catalog(garbage).folders() == {}


def with_epochs(*epochs: int) -> FolderEntry:
    return FolderEntry(entry(1).id, "Photos", tuple((epoch, epoch.to_bytes(32)) for epoch in epochs), 5)


def test_the_secrets_of_all_statements_are_known_and_the_newest_is_used() -> None:
    one, other = later_epoch(0, b"1" * 32), later_epoch(0, b"2" * 32)
    made = catalog(say(ONE, with_epochs(0, one)), say(OTHER, with_epochs(0, other)))
    assert [epoch for epoch, _ in made.folders()[entry(1).id].secrets] == sorted([0, one, other])
    assert made.folders()[entry(1).id].keys().epoch == max(one, other)


@pytest.mark.parametrize("epochs", [(), (1 << 32,), (0, 2 << 32), (0, 0), (0, 2 << 32, 1 << 32)])
def test_epochs_out_of_order_or_out_of_reach_are_refused(epochs: tuple[int, ...]) -> None:
    assert catalog(say(ONE, with_epochs(*epochs))).folders() == {}


def test_a_folder_of_a_former_member_alone_is_to_be_said_again_and_until_then_is_none() -> None:
    made = Catalog(ACCOUNT, lambda: [SECRET], is_member, lambda device: device == OTHER.id)
    made.add([say(ONE, entry(1)), say(ONE, entry(2)), say(OTHER, entry(2, time_ms=1))])
    assert set(made.folders()) == {entry(2).id}
    assert made.to_say_again(SECRET, lambda secret: False) == [(entry(1), False)]


def test_what_a_former_member_said_last_of_a_folder_does_not_count() -> None:
    made = Catalog(ACCOUNT, lambda: [SECRET], is_member, lambda device: device == OTHER.id)
    made.add([say(OTHER, entry(1, "Photos", 1)), say(ONE, entry(1, "taken over", 9))])
    assert made.folders()[entry(1).id].name == "Photos"


@pytest.mark.parametrize("exposed", [False, True])
def test_what_was_sealed_with_another_secret_than_the_current_one_is_to_be_said_again(exposed: bool) -> None:
    current = b"new".ljust(32)
    made = Catalog(ACCOUNT, lambda: [current, SECRET], is_member, is_member)
    made.add([say(ONE, entry(1)), say(ONE, entry(2), secret=current)])
    assert made.to_say_again(current, lambda secret: exposed) == [(entry(1), exposed)]
