"""Erasure codes: a pack in k + m pieces, any k of which give it back. Pieces 0 to k - 1 are the pack itself, in parts.

Reed-Solomon over GF(2^8) by `zfec`: its field is that of x^8 + x^4 + x^3 + x^2 + 1, its matrix a Vandermonde matrix of
the powers of the generator 2, brought to a form whose first k rows are the identity (Rizzo, "Effective erasure codes",
1997). A pack is filled up with zeros to k equal parts. The code works byte by byte, so that the same range of k pieces
gives that range of any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import zfec

MOST = 64  # of k, and of m


class TooFewPieces(Exception):
    """Fewer pieces than the code needs."""


@dataclass(frozen=True, slots=True)
class Coding:
    """k pieces that suffice, of k + m."""

    k: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST or not 0 <= self.m <= MOST:
            raise ValueError(f"{self.k}+{self.m} is no erasure code: 1 to {MOST}, and 0 to {MOST}")

    @property
    def pieces(self) -> int:
        """How many there are in all."""
        return self.k + self.m

    def piece_size(self, size: int) -> int:
        """Return the bytes of a piece of a pack of `size` bytes."""
        return -(-size // self.k)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a data piece."""

    piece: int
    start: int
    length: int


def encode(data: bytes | bytearray | memoryview, coding: Coding) -> list[bytes]:
    """Return the pieces of a pack."""
    parts = _parts(data, coding)
    if not coding.m:
        return parts
    if coding.k == 1:
        return parts * coding.pieces
    more = zfec.Encoder(coding.k, coding.pieces).encode(parts, list(range(coding.k, coding.pieces)))
    return [*parts, *more]


def decode(pieces: Mapping[int, bytes], coding: Coding, size: int) -> bytes:
    """Return a pack of `size` bytes from any k pieces. Raises TooFewPieces, ValueError for pieces of another size."""
    if any(len(piece) != coding.piece_size(size) for piece in pieces.values()):
        raise ValueError("a piece that is not of the pack's size")
    parts = _data(pieces, coding)
    whole, rest = divmod(size, coding.piece_size(size) or 1)
    return b"".join([*parts[:whole], parts[whole][:rest]] if whole < coding.k else parts)


def rebuild(pieces: Mapping[int, bytes], coding: Coding, size: int, wanted: Sequence[int]) -> dict[int, bytes]:
    """Return pieces of a pack of `size` bytes from any k others. Raises TooFewPieces, ValueError."""
    if any(len(piece) != coding.piece_size(size) for piece in pieces.values()):
        raise ValueError("a piece that is not of the pack's size")
    return rebuild_range(pieces, coding, wanted)


def rebuild_range(pieces: Mapping[int, bytes], coding: Coding, wanted: Sequence[int]) -> dict[int, bytes]:
    """Return a range of pieces from the same range of any k others. Raises TooFewPieces, ValueError."""
    if any(not 0 <= index < coding.pieces for index in wanted):
        raise ValueError("a piece that the code has not")
    parts = _data(pieces, coding)
    above = [index for index in wanted if index >= coding.k]
    if coding.k == 1:
        return dict.fromkeys(wanted, parts[0])
    made = zfec.Encoder(coding.k, coding.pieces).encode(parts, above) if above else []
    return {index: parts[index] for index in wanted if index < coding.k} | dict(zip(above, made, strict=True))


def spans(coding: Coding, size: int, offset: int, length: int) -> Iterator[Span]:
    """Yield where bytes of a pack are in its data pieces, in order."""
    piece_size = coding.piece_size(size)
    if not 0 <= offset <= offset + length <= size:
        raise ValueError("bytes that the pack has not")
    while length:
        piece, start = divmod(offset, piece_size)
        part = min(length, piece_size - start)
        yield Span(piece, start, part)
        offset, length = offset + part, length - part


def _parts(data: bytes | bytearray | memoryview, coding: Coding) -> list[bytes]:
    size = coding.piece_size(len(data))
    view = memoryview(data)
    return [bytes(view[at * size : (at + 1) * size]).ljust(size, b"\0") for at in range(coding.k)]


def _data(pieces: Mapping[int, bytes], coding: Coding) -> list[bytes]:
    """Return the data pieces, or ranges of them."""
    if any(not 0 <= index < coding.pieces for index in pieces):
        raise ValueError("a piece that the code has not")
    if len({len(piece) for piece in pieces.values()}) > 1:
        raise ValueError("pieces of several sizes")
    if len(pieces) < coding.k:
        raise TooFewPieces(f"{len(pieces)} pieces where {coding.k} are needed")
    chosen = sorted(pieces)[: coding.k]
    if chosen == list(range(coding.k)):
        return [bytes(pieces[index]) for index in chosen]
    if coding.k == 1:
        return [bytes(pieces[chosen[0]])]
    # A data piece must stand in its own place.
    row: list[int | None] = [index if index in chosen else None for index in range(coding.k)]
    others = iter(index for index in chosen if index >= coding.k)
    numbers = [index if index is not None else next(others) for index in row]
    made: list[bytes] = zfec.Decoder(coding.k, coding.pieces).decode([bytes(pieces[n]) for n in numbers], numbers)
    return made
