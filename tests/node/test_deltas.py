"""Deltas: what a chunk has in common with others is copied, whatever becomes of those."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.node.folder.deltas import (
    MAX_RANK,
    NEAR,
    BadDelta,
    Delta,
    Neighbourhood,
    Part,
    decode,
    encode,
    without,
)

KIB = 1024


def name(number: int) -> bytes:
    return random.Random(number).randbytes(32)  # in no order


parts = st.builds(
    Part,
    st.none() | st.binary(min_size=32, max_size=32).filter(any),
    st.integers(0, 1 << 22),
    st.integers(1, 1 << 22),
).map(lambda part: part if part.base is not None else Part(None, 0, part.length))
deltas = st.builds(Delta, st.integers(1, MAX_RANK), st.lists(parts, max_size=6).map(tuple))


@given(deltas)
def test_a_delta_is_read_as_it_was_written(delta: Delta) -> None:
    assert decode(encode(delta), delta.own) == delta


@given(deltas, st.data())
def test_damage_is_told_or_gives_a_delta_of_as_many_own_bytes(delta: Delta, data: st.DataObject) -> None:
    raw = bytearray(encode(delta))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(raw[data.draw(st.integers(0, len(raw))) :]) if data.draw(st.booleans()) else bytes(raw)
    try:
        found = decode(cut, delta.own)
    except BadDelta:
        return
    assert found.own == delta.own


class Shelf:
    """Chunks in memory, whole or as deltas; `read` copies as the files would."""

    def __init__(self) -> None:
        self.whole: dict[bytes, bytes] = {}
        self.deltas: dict[bytes, tuple[Delta, bytes]] = {}

    def write(self, chunk: bytes, data: bytes, delta: Delta | None) -> None:
        if delta is not None and delta.bases:
            self.deltas[chunk] = delta, b"".join(delta.own_bytes(data))
        else:
            self.deltas.pop(chunk, None)
            self.whole[chunk] = data

    def read(self, chunk: bytes, depth: int = 0) -> bytes:
        assert depth < 100, "it copies in a circle"
        if chunk in self.whole:
            return self.whole[chunk]
        delta, own = self.deltas[chunk]
        found, at = b"", 0
        for part in delta.parts:
            if part.base is None:
                found += own[at : at + part.length]
                at += part.length
            else:
                found += self.read(part.base, depth + 1)[part.offset : part.offset + part.length]
        return found

    def load(self, chunk: bytes, length: int) -> tuple[int, bytes] | None:
        rank = self.deltas[chunk][0].rank if chunk in self.deltas else 0
        return rank, self.read(chunk)

    def plain(self) -> Mapping[bytes, Delta]:
        return {chunk: delta for chunk, (delta, _) in self.deltas.items()}


def overwritten(data: bytes, offset: int, piece: bytes) -> bytes:
    return data[:offset] + piece + data[offset + len(piece) :]


def test_of_a_chunk_that_changed_in_a_part_only_that_part_is_its_own() -> None:
    shelf = Shelf()
    before = random.Random(1).randbytes(1000 * KIB)
    after = overwritten(before, 500_000, random.Random(2).randbytes(100 * KIB))
    shelf.write(name(1), before, None)
    delta = Neighbourhood([(name(1), 0, len(before))], shelf.load).delta(after, 0)
    assert delta is not None
    assert delta.rank == 1
    assert delta.own < 260 * KIB
    shelf.write(name(2), after, delta)
    assert shelf.read(name(2)) == after


def test_what_was_moved_by_an_insertion_is_found() -> None:
    shelf = Shelf()
    before = random.Random(1).randbytes(1000 * KIB)
    shelf.write(name(1), before, None)
    delta = Neighbourhood([(name(1), 0, len(before))], shelf.load).delta(b"a few bytes" + before, 0)
    assert delta is not None
    assert delta.own < 130 * KIB


def test_a_chunk_that_is_like_nothing_stays_whole() -> None:
    shelf = Shelf()
    shelf.write(name(1), random.Random(1).randbytes(500 * KIB), None)
    near = Neighbourhood([(name(1), 0, 500 * KIB)], shelf.load)
    assert near.delta(random.Random(2).randbytes(500 * KIB), 0) is None


def test_a_chunk_far_from_its_place_of_before_is_not_found_and_holds_no_memory() -> None:
    shelf = Shelf()
    data = random.Random(1).randbytes(500 * KIB)
    shelf.write(name(1), data, None)
    near = Neighbourhood([(name(1), 0, len(data))], shelf.load)
    assert near.delta(data, NEAR // 2) is not None
    assert near.delta(data, 2 * NEAR) is None
    assert not near._blocks


def test_deltas_of_deltas_are_not_made_without_end() -> None:
    shelf = Shelf()
    data, ranks = random.Random(1).randbytes(200 * KIB), []
    shelf.write(name(1), data, None)
    for change in range(2, 80):
        last, data = data, data + random.Random(change).randbytes(100)
        delta = Neighbourhood([(name(change - 1), 0, len(last))], shelf.load).delta(data, 0)
        shelf.write(name(change), data, delta)
        ranks.append(delta.rank if delta is not None else 0)
        assert shelf.read(name(change)) == data
    assert max(ranks) == MAX_RANK
    assert ranks.count(0) == 2


@st.composite
def shelves(draw: st.DrawFn) -> Shelf:
    """Chunks of few bytes, each made of parts of earlier ones and own bytes, as the files of years may be."""
    shelf = Shelf()
    for number in range(1, draw(st.integers(2, 9))):
        made: list[Part] = []
        rank, data = 0, b""
        for _ in range(draw(st.integers(1, 4))):
            base = draw(st.integers(0, number - 1))
            if base == 0:
                piece = draw(st.binary(min_size=1, max_size=6))
                made.append(Part(None, 0, len(piece)))
            else:
                held = shelf.read(name(base))
                start = draw(st.integers(0, len(held) - 1))
                piece = held[start : draw(st.integers(start + 1, len(held)))]
                made.append(Part(name(base), start, len(piece)))
                rank = max(rank, shelf.load(name(base), 0)[0] + 1)  # type: ignore[index]
            data += piece
        shelf.write(name(number), data, Delta(rank, tuple(made)))
    return shelf


@settings(max_examples=500)
@given(shelves(), st.data())
def test_what_stays_holds_the_same_when_any_chunks_go_one_group_after_the_other(
    shelf: Shelf, data: st.DataObject
) -> None:
    left = {*shelf.whole, *shelf.deltas}
    meant = {chunk: shelf.read(chunk) for chunk in left}
    while left:
        gone = data.draw(st.sets(st.sampled_from(sorted(left)), min_size=1))
        left -= gone
        before = shelf.plain()
        users = {chunk: delta for chunk, delta in before.items() if chunk in gone or delta.bases & gone}
        made = without(gone, users)
        # Every moment in which some are rewritten and others are not is one that a crash may leave.
        for chunk in data.draw(st.permutations(sorted(made))):
            shelf.write(chunk, meant[chunk], made[chunk])
            assert all(shelf.read(each) == meant[each] for each in left)
        for chunk in gone:
            shelf.whole.pop(chunk, None)
            shelf.deltas.pop(chunk, None)
        assert all(shelf.read(each) == meant[each] for each in left)
        assert not any(delta.bases & gone for delta in shelf.plain().values())


def test_what_goes_is_handed_to_one_and_copied_by_the_others() -> None:
    copied = Delta(1, (Part(name(1), 0, 100),))
    made = without({name(1)}, {name(2): copied, name(3): copied, name(4): copied})
    assert sum(delta.own for delta in made.values()) == 100


@pytest.mark.parametrize("size", [0, 9, 10, 60])
def test_a_file_of_zeros_is_no_delta(size: int) -> None:
    with pytest.raises(BadDelta):
        decode(bytes(size), 0)
