"""The document without pycrdt in memory says what pycrdt would, and falls back to it where it must."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pycrdt import Doc, Map

from shoal.crdt import plain_update
from shoal.crdt.document import Document, MalformedUpdate, MemoryShards, shard_of
from shoal.crdt.model import DeviceId, Fact, FactId, FileContent, NodeId, Version
from shoal.crdt.plain_update import MAP, Section

KEYS = st.text("0123456789abcdef", min_size=1, max_size=60)
ITEMS = st.dictionaries(KEYS, st.binary(max_size=300), min_size=1, max_size=20)
CLIENTS = st.integers(1, (1 << 48) - 1)
NODE = NodeId(b"\7" * 16)


def facts_of(update: bytes, *more: bytes) -> dict[str, bytes]:
    """Return what pycrdt makes of updates."""
    doc: Doc[Any] = Doc()
    for each in (update, *more):
        doc.apply_update(each)
    return {key: bytes(value) for key, value in doc.get(MAP, type=Map).items()}


def version(rng: random.Random) -> tuple[NodeId, Fact]:
    content = FileContent(0, 0o644, rng.randrange(1 << 40), b"")
    return NODE, Version(FactId(rng.randbytes(12)), (), 1, DeviceId(bytes(32)), 5, content)


@given(client=CLIENTS, first=ITEMS, second=ITEMS)
def test_pycrdt_reads_what_is_written_without_it(
    client: int, first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    new = {key: value for key, value in second.items() if key not in first}
    one = plain_update.encode(Section(client, 0, list(first.items())))
    assume(new)
    two = plain_update.encode(Section(client, len(first), list(new.items())))
    assert facts_of(two, one) == facts_of(one, two) == first | new


@given(client=CLIENTS, first=ITEMS, second=ITEMS)
def test_new_keys_that_pycrdt_writes_are_read_without_it(
    client: int, first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    doc: Doc[Any] = Doc(client_id=client)
    facts = doc.get(MAP, type=Map)
    clock = 0
    for items in (first, {key: value for key, value in second.items() if key not in first}):
        before = doc.get_state()
        with doc.transaction():
            for key, value in items.items():
                facts[key] = value
        if items:
            expected = [Section(client, clock, list(items.items()))]
            assert plain_update.parse(doc.get_update(before)) == expected
            assert plain_update.encode(expected[0]) == doc.get_update(before)
        clock += len(items)


def test_any_other_update_is_left_to_pycrdt() -> None:
    doc: Doc[Any] = Doc(client_id=1)
    facts = doc.get(MAP, type=Map)
    facts["a"] = b"1"
    before = doc.get_state()
    facts["a"] = b"2"
    assert plain_update.parse(doc.get_update(before)) is None
    before = doc.get_state()
    del facts["a"]
    assert plain_update.parse(doc.get_update(before)) is None
    other: Doc[Any] = Doc()
    other.get("other", type=Map)["a"] = b"1"
    assert plain_update.parse(other.get_update()) is None
    number: Doc[Any] = Doc()
    number.get(MAP, type=Map)["a"] = 5
    assert plain_update.parse(number.get_update()) is None


@given(items=ITEMS, cut=st.integers(0, 5000), noise=st.binary(max_size=40))
def test_no_bytes_make_the_reader_fail(items: dict[str, bytes], cut: int, noise: bytes) -> None:
    update = plain_update.encode(Section(3, 0, list(items.items())))
    assert plain_update.parse(update[: cut % len(update)]) is None
    plain_update.parse(update[: cut % len(update)] + noise)
    plain_update.parse(noise)


def test_updates_that_come_early_or_twice_give_each_fact_once() -> None:
    rng = random.Random(1)
    written = [version(rng) for _ in range(6)]
    author, reader = Document(1, MemoryShards()), Document(2, MemoryShards())
    updates = [author.add([fact]) for fact in written]
    taken = []
    for number in (0, 0, 2, 1, 1, 4, 5, 3, 2):
        taken += reader.apply(updates[number])
    assert sorted(taken, key=repr) == sorted(written, key=repr)
    assert sorted(reader.facts(), key=repr) == sorted(written, key=repr)


def test_a_document_that_met_another_kind_of_update_goes_on_writing_and_reading() -> None:
    rng = random.Random(2)
    shards = MemoryShards()
    document, reader = Document(1, shards), Document(2, MemoryShards())
    first, second, third = (version(rng) for _ in range(3))
    early = document.add([first])
    stranger: Doc[Any] = Doc(client_id=9)
    stranger.get(MAP, type=Map)["junk"] = b"1"
    stranger.get(MAP, type=Map)["junk"] = b"2"  # an overwritten key
    document.apply({shard_of(NODE): stranger.get_update()})
    late = document.add([second])
    taken = reader.apply(late) + reader.apply(early)
    assert sorted(taken, key=repr) == sorted([first, second], key=repr)
    again = Document(1, shards)
    last = again.add([third])
    assert reader.apply(last) == [third]
    assert sorted(again.facts(), key=repr) == sorted([first, second, third], key=repr)


def test_what_is_no_update_changes_nothing() -> None:
    rng = random.Random(3)
    document, author = Document(1, MemoryShards()), Document(2, MemoryShards())
    good = author.add([version(rng)])
    with pytest.raises(MalformedUpdate):
        document.apply({**good, 200: b"\x01\x02nonsense"})
    assert list(document.facts()) == []
    assert len(document.apply(good)) == 1
