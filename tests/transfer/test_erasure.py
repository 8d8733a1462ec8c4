"""Erasure codes: any k pieces give all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.erasure import Coding, TooFewPieces, decode, encode, rebuild, rebuild_range, spans

WRITTEN = ["694a", "71b2"]
CODINGS = st.builds(Coding, st.integers(1, 8), st.integers(0, 5))


@st.composite
def some_pieces(draw: st.DrawFn) -> tuple[bytes, Coding, dict[int, bytes]]:
    """Return a pack, a code, and k of its pieces."""
    data, coding = draw(st.binary(min_size=1, max_size=400)), draw(CODINGS)
    pieces = encode(data, coding)
    kept = draw(st.permutations(range(coding.pieces)))[: coding.k]
    return data, coding, {index: pieces[index] for index in kept}


@given(some_pieces())
def test_any_k_pieces_give_the_pack(case: tuple[bytes, Coding, dict[int, bytes]]) -> None:
    data, coding, pieces = case
    assert decode(pieces, coding, len(data)) == data


@given(some_pieces())
def test_any_k_pieces_give_all_others(case: tuple[bytes, Coding, dict[int, bytes]]) -> None:
    data, coding, pieces = case
    made = rebuild(pieces, coding, len(data), range(coding.pieces))
    assert [made[index] for index in range(coding.pieces)] == encode(data, coding)


@given(some_pieces(), st.data())
def test_a_range_of_k_pieces_gives_that_range_of_any(
    case: tuple[bytes, Coding, dict[int, bytes]], data: st.DataObject
) -> None:
    whole, coding, pieces = case
    size = coding.piece_size(len(whole))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    wanted = data.draw(st.integers(0, coding.pieces - 1))
    part = rebuild_range({index: piece[start:end] for index, piece in pieces.items()}, coding, [wanted])
    assert part[wanted] == encode(whole, coding)[wanted][start:end]


@given(st.binary(min_size=1, max_size=400), CODINGS, st.data())
def test_bytes_of_the_pack_are_read_from_data_pieces(whole: bytes, coding: Coding, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, len(whole) - offset))
    pieces = encode(whole, coding)
    found = b"".join(
        pieces[span.piece][span.start : span.start + span.length] for span in spans(coding, len(whole), offset, length)
    )
    assert found == whole[offset : offset + length]


def test_the_first_pieces_are_the_pack_itself() -> None:
    assert encode(b"abcdef", Coding(3, 2))[:3] == [b"ab", b"cd", b"ef"]


def test_the_others_are_those_that_were_written_down() -> None:
    assert [piece.hex() for piece in encode(b"abcdef", Coding(3, 2))[3:]] == WRITTEN


def test_fewer_than_k_pieces_give_nothing() -> None:
    pieces = encode(b"abcdef", Coding(3, 2))
    with pytest.raises(TooFewPieces):
        decode({0: pieces[0], 4: pieces[4]}, Coding(3, 2), 6)


@pytest.mark.parametrize("pieces", [{0: b"a", 1: b"cd", 2: b"ef"}, {0: b"ab", 1: b"cd", 9: b"ef"}])
def test_pieces_that_do_not_fit_are_refused(pieces: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="piece"):
        decode(pieces, Coding(3, 2), 6)


@pytest.mark.parametrize(("k", "m"), [(0, 1), (65, 1), (1, 65), (3, -1)])
def test_what_is_no_code_is_refused(k: int, m: int) -> None:
    with pytest.raises(ValueError, match="no erasure code"):
        Coding(k, m)


def test_bytes_beyond_the_pack_are_refused() -> None:
    with pytest.raises(ValueError, match="has not"):
        list(spans(Coding(3, 2), 6, 5, 2))
