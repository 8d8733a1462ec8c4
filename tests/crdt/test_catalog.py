from __future__ import annotations

import itertools

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.catalog import Catalog, FolderEntry, make_statement
from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId, FolderId

ACCOUNT, SECRET = b"a" * 32, b"s" * 32
ONE, OTHER, STRANGER = DeviceKey(b"1" * 32), DeviceKey(b"2" * 32), DeviceKey(b"3" * 32)


def is_member(device: DeviceId) -> bool:
    return device in (ONE.id, OTHER.id)


def catalog(*statements: bytes) -> Catalog:
    made = Catalog(ACCOUNT, SECRET, is_member)
    made.add(statements)
    return made


def entry(number: int, name: str = "Photos", time_ms: int = 5) -> FolderEntry:
    return FolderEntry(FolderId(bytes([number]) * 16), name, bytes([number]) * 32, time_ms)


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
