"""Chunks of kept versions as what they have in common with other chunks, and what they have not. Pure.

A version differs from the one before in a chunk here and there, and such a chunk from the one that was at its place in
a part. So a chunk can be a delta: parts that are copied from other chunks, its bases, and bytes of its own. What is the
same is found by blocks of 32 KiB, cut where the content says so, near the same place of the version before.

A part names a place in what a base *holds*, not in its file: so a base may be rewritten, whole or as another delta, and
whoever copies from it need not know. No chunk is its own base, by whatever way: (rank, id) of a base is always less
than that of what copies from it, where the rank of a whole chunk is 0.

A delta's file, integers big-endian: its own bytes, in order | a part each: base (32; zeros: own bytes), offset in it
(4), length (4) | rank (2) | number of parts (4) | b"SHD1".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3
from pyfastcdc import FastCDC

MAX_RANK = 32  # deltas of deltas; more are not made
MAGIC = b"SHD1"
TAIL = 10  # bytes after the parts
PART = 40
NEAR = 64 * 1024 * 1024  # bytes before and after a place in which the version before is searched
WORTH = 10  # a chunk of which less than this part is elsewhere is kept whole

_CUTTER = FastCDC(avg_size=32 * 1024, min_size=8 * 1024, max_size=128 * 1024)
_OWN = bytes(32)


class BadDelta(ValueError):
    """A delta's file that says nothing sensible: damage."""


@dataclass(frozen=True, slots=True)
class Part:
    """`length` bytes: those at `offset` in what `base` holds, or own ones where that is None."""

    base: bytes | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What a chunk is made of, in order."""

    rank: int
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Return the chunk's length."""
        return sum(part.length for part in self.parts)

    @property
    def own(self) -> int:
        """Return how many bytes it has itself."""
        return sum(part.length for part in self.parts if part.base is None)

    @property
    def bases(self) -> frozenset[bytes]:
        return frozenset(part.base for part in self.parts if part.base is not None)

    def own_bytes(self, data: bytes | memoryview) -> Iterator[memoryview]:
        """Yield the pieces of the chunk that are its own."""
        at = 0
        view = memoryview(data)
        for part in self.parts:
            if part.base is None:
                yield view[at : at + part.length]
            at += part.length


def encode(delta: Delta) -> bytes:
    """Return what follows a delta's own bytes in its file."""
    parts = b"".join((part.base or _OWN) + part.offset.to_bytes(4) + part.length.to_bytes(4) for part in delta.parts)
    return parts + delta.rank.to_bytes(2) + len(delta.parts).to_bytes(4) + MAGIC


def encoded_size(tail: bytes) -> int:
    """Return the length of what `encode` returned, from its last `TAIL` bytes. Raises BadDelta."""
    if len(tail) != TAIL or not tail.endswith(MAGIC):
        raise BadDelta("no delta")
    return int.from_bytes(tail[2:6]) * PART + TAIL


def decode(data: bytes, own: int) -> Delta:
    """Return the delta of what `encode` returned, in a file with `own` bytes before it. Raises BadDelta."""
    if encoded_size(data[-TAIL:]) != len(data):
        raise BadDelta("not as long as it says")
    parts = []
    for at in range(0, len(data) - TAIL, PART):
        base, offset, length = data[at : at + 32], data[at + 32 : at + 36], data[at + 36 : at + PART]
        parts.append(Part(base if base != _OWN else None, int.from_bytes(offset), int.from_bytes(length)))
    delta = Delta(int.from_bytes(data[-TAIL:-8]), tuple(parts))
    if delta.own != own or not all(part.length for part in parts):
        raise BadDelta("not the bytes that it says")
    return delta


class Neighbourhood:
    """The blocks of the version before that are near a place in the file; the place only goes up.

    `former`: its chunks that the new version has not, as (id, offset, length) in order; `load`: returns a chunk's rank
    and bytes, None where it cannot be had.
    """

    def __init__(
        self, former: Sequence[tuple[bytes, int, int]], load: Callable[[bytes, int], tuple[int, bytes] | None]
    ) -> None:
        self._ahead = deque(former)
        self._load = load
        self._behind: deque[tuple[int, bytes, list[bytes]]] = deque()  # end, chunk, its blocks
        self._blocks: dict[bytes, tuple[bytes, int, int]] = {}  # hash -> chunk, its rank, offset in it

    def delta(self, data: bytes, offset: int) -> Delta | None:
        """Return what a chunk at this place of the new version is made of; None where it is best kept whole."""
        self._go(offset, offset + len(data))
        if not self._blocks:
            return None
        parts: list[Part] = []
        rank = 0
        for _, length, digest in _blocks(data):
            found = self._blocks.get(digest)
            if found is None:
                parts.append(Part(None, 0, length))
            else:
                base, of_base, there = found
                parts.append(Part(base, there, length))
                rank = max(rank, of_base + 1)
        delta = Delta(rank, _joined(parts))
        return delta if delta.own * WORTH <= len(data) * (WORTH - 1) else None

    def _go(self, start: int, end: int) -> None:
        while self._behind and self._behind[0][0] < start - NEAR:
            _, chunk, digests = self._behind.popleft()
            for digest in digests:
                if self._blocks.get(digest, _NONE)[0] == chunk:
                    del self._blocks[digest]
        while self._ahead and self._ahead[0][1] < end + NEAR:
            chunk, offset, size = self._ahead.popleft()
            if offset + size < start - NEAR or (loaded := self._load(chunk, size)) is None:
                continue
            rank, data = loaded
            if rank < MAX_RANK:
                blocks = [(digest, at) for at, _, digest in _blocks(data)]
                self._behind.append((offset + size, chunk, [digest for digest, _ in blocks]))
                self._blocks.update((digest, (chunk, rank, at)) for digest, at in blocks)


_NONE = (b"", 0, 0)


def _blocks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, length and hash of each block."""
    with memoryview(data) as view:
        for block in _CUTTER.cut_buf(view) if data else ():
            with view[block.offset : block.offset + block.length] as piece:
                yield block.offset, block.length, blake3(piece).digest()


def without(gone: Collection[bytes], deltas: Mapping[bytes, Delta]) -> dict[bytes, Delta]:
    """Return what becomes of deltas when chunks go that they are based on.

    `deltas`: those that copy from what goes, and those that go; what goes and is not among them is whole. The first
    that copies a byte gets it for its own, the others copy from that one. One without bases then is to be whole.
    """
    heirs: dict[bytes, list[tuple[int, int, bytes, int]]] = {}  # of what goes: offset, end -> who has it, offset there
    made = {}
    for chunk in sorted((chunk for chunk in deltas if chunk not in gone), key=lambda each: (deltas[each].rank, each)):
        parts: list[Part] = []
        at = 0
        for part in deltas[chunk].parts:
            for piece in _pieces(part, gone, deltas):
                if piece.base is not None and piece.base in gone:
                    parts += _inherited(piece, heirs.setdefault(piece.base, []), chunk, at)
                else:
                    parts.append(piece)
                at += piece.length
        made[chunk] = Delta(deltas[chunk].rank, _joined(parts))
    return made


def _pieces(part: Part, gone: Collection[bytes], deltas: Mapping[bytes, Delta]) -> Iterator[Part]:
    """Yield what a part is made of: own bytes, copies from what stays, and the own bytes of what goes."""
    base = deltas.get(part.base) if part.base is not None and part.base in gone else None
    if base is None:
        yield part
        return
    at, end = 0, part.offset + part.length
    for each in base.parts:
        first, last = max(at, part.offset), min(at + each.length, end)
        if first < last and each.base is None:
            yield Part(part.base, first, last - first)
        elif first < last:
            yield from _pieces(Part(each.base, each.offset + first - at, last - first), gone, deltas)
        at += each.length


def _inherited(piece: Part, heirs: list[tuple[int, int, bytes, int]], chunk: bytes, at: int) -> Iterator[Part]:
    """Yield where `chunk` has bytes from that go with their owner; take note of those that it gets for its own."""
    offset, end = piece.offset, piece.offset + piece.length
    while offset < end:
        found = next((heir for heir in heirs if heir[0] <= offset < heir[1]), None)
        if found is not None:
            stop = min(end, found[1])
            is_other = found[2] != chunk
            yield Part(found[2] if is_other else None, found[3] + offset - found[0] if is_other else 0, stop - offset)
        else:
            stop = min([end, *(heir[0] for heir in heirs if heir[0] > offset)])
            heirs.append((offset, stop, chunk, at))
            yield Part(None, 0, stop - offset)
        at += stop - offset
        offset = stop


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the parts, those that go on where the one before ended as one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last is not None and last.base == part.base and part.base is None:
            found[-1] = Part(None, 0, last.length + part.length)
        elif last is not None and last.base == part.base and last.offset + last.length == part.offset:
            found[-1] = Part(last.base, last.offset, last.length + part.length)
        else:
            found.append(part)
    return tuple(found)
