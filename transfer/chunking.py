"""Cutting files into chunks where the content says so, and naming chunks by keyed hash.

FastCDC, average 1 MiB, 256 KiB to 4 MiB; a file under 256 KiB is one chunk, an empty file none. A chunk's id is
BLAKE3 keyed with the folder's content key over the plain bytes. Packed references are 36 bytes a chunk: id, length.

Zeros are cut out first: each longest run of blocks of 64 KiB (counted from the file's start; the last may be shorter)
that are all zeros, if it has 256 KiB or more, is chunks of 4 MiB and one of what is left over; what lies between such
runs is cut by itself. Any reader knows the ids of such chunks without having them, so they need not be sent, stored or
written; and whether the zeros were a hole or were written makes no difference to the cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Protocol

import blake3
from pyfastcdc import FastCDC

MIN_CHUNK = 256 * 1024
AVERAGE_CHUNK = 1024 * 1024
MAX_CHUNK = 4 * 1024 * 1024
WINDOW = 8 * 1024 * 1024  # bytes of a file held while it is cut
PARALLEL = 64 * 1024 * 1024  # bytes of a file from which on two threads cut it
OVERLAP = 16 * 1024 * 1024  # bytes that the first goes on where the second has been
ZERO_BLOCK = 64 * 1024
ZERO_RUN = MIN_CHUNK
ZERO_LEAST = 4096  # bytes; a shorter file of zeros is a chunk like any other
HOLE = 64 * 1024 * 1024  # holes from this size on are passed over; smaller ones are read, which is quick

_ZEROS = bytes(MAX_CHUNK)
_BLOCK = bytes(ZERO_BLOCK)

Ref = tuple[int, bytes, int]
"""A chunk: where it is, its id, its length."""
Cut = Callable[[Sequence[Ref]], None]
"""Told of chunks as they are cut, in the thread that does it."""

_CUTTER = FastCDC(avg_size=AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK)


class FileChanged(Exception):
    """The file was written to while it was read; look at it again later."""


def chunk_id(key: bytes, data: bytes | memoryview) -> bytes:
    """Return the 32-byte id of a chunk's plain bytes."""
    return blake3.blake3(data, key=key).digest()


@lru_cache(maxsize=1024)
def zeros_id(key: bytes, length: int) -> bytes:
    """Return the id of a chunk of `length` zeros, `MAX_CHUNK` at most."""
    with memoryview(_ZEROS) as view:
        return chunk_id(key, view[:length])


def is_zeros(key: bytes, chunk: bytes, length: int, *, last: bool) -> bool:
    """Return whether a chunk is one of zeros, as they are cut out here. `last`: it is its file's last."""
    if not ZERO_LEAST <= length <= MAX_CHUNK or (length % ZERO_BLOCK and not last):
        return False
    return zeros_id(key, length) == chunk


def zero_chunks(key: bytes, refs: Iterator[tuple[bytes, int]], size: int) -> dict[int, int]:
    """Return offset -> length of a file's chunks of zeros."""
    found = {}
    at = 0
    for chunk, length in refs:
        if is_zeros(key, chunk, length, last=at + length == size):
            found[at] = length
        at += length
    return found


def pack_refs(refs: list[tuple[bytes, int]]) -> bytes:
    """Return (id, length) pairs as packed references."""
    return b"".join(identity + length.to_bytes(4) for identity, length in refs)


class Source(Protocol):
    """An open file to be cut."""

    def mark(self) -> tuple[int, int, int]:
        """Return size, and the times of change of content and of the file as such."""
        ...

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill the view; return how many bytes there were."""
        ...

    def next_data(self, offset: int) -> int:
        """Return where the next byte is that is in no hole; the file's size when there is none."""
        ...


def chunk_file(file: Source, key: bytes, before: tuple[int, int, int] | None = None, cut: Cut | None = None) -> bytes:
    """Return the packed references of an open file's content. `before`: its mark, where that was asked for already;
    `cut`: told of most chunks but those of zeros, some twice, and seldom of one that it does not have in the end.
    Raises FileChanged, OSError. Runs without the GIL for most of its time, so it belongs in a thread; memory is the
    page cache's."""
    before = before or file.mark()
    refs = _refs(file, before[0], key, cut or _nobody)
    if file.mark() != before:
        raise FileChanged("the file changed while it was read")
    return refs


def _nobody(refs: Sequence[Ref]) -> None:
    pass


def _refs(file: Source, size: int, key: bytes, cut: Cut) -> bytes:
    if size == 0:
        return b""
    if size < MIN_CHUNK:
        data = bytearray(size)
        with memoryview(data) as view:
            if file.read_into(view, 0) != size:
                raise FileChanged("the file shrank while it was read")
            return chunk_id(key, view) + size.to_bytes(4)
    return pack_refs([(identity, length) for _, identity, length in _cut_both_ends(file, size, key, cut)])


def _cut_both_ends(file: Source, size: int, key: bytes, cut: Cut) -> list[Ref]:
    """Cut a large file in two threads, one from its middle on. What follows a cut depends on what comes after it alone,
    so from the first chunk on that both have found all is the same as if the file had been cut from its start."""
    if size < PARALLEL:
        return _cut(file, size, key, 0, size, cut)
    middle = size // 2 - size // 2 % ZERO_BLOCK
    with ThreadPoolExecutor(1) as beside:
        # Where it begins, the second may cut elsewhere than the first, which goes on to there.
        sure = partial(_tell_from, middle + OVERLAP, cut)
        second = beside.submit(_cut, file, size, key, middle, size, sure)
        first = _cut(file, size, key, 0, middle + OVERLAP, cut)
        rest = second.result()
    places = {ref: place for place, ref in enumerate(rest)}
    for place, ref in enumerate(first):
        if ref in places:
            return first[:place] + rest[places[ref] :]
    at, _, length = first[-1]
    return first + _cut(file, size, key, at + length, size, cut)


def _tell_from(at: int, cut: Cut, refs: Sequence[Ref]) -> None:
    cut([ref for ref in refs if ref[0] >= at])


def _cut(file: Source, size: int, key: bytes, at: int, until: int, cut: Cut) -> list[Ref]:
    """Cut a file from `at` on, which is where a cut is, until a cut at or after `until`."""
    refs: list[Ref] = []
    # Read in windows, not mapped: a mapped file that another process truncates would end this one with SIGBUS.
    window = bytearray(min(WINDOW, size))
    held = 0
    while at < size and at < until:
        held = _fill(file, window, held, at, size)
        last = at + held == size
        start, end, whole = _first_run(window, held, at, last)
        is_run = end - start >= ZERO_RUN
        with memoryview(window) as view, view[: start if is_run else held] as content:
            used, told = 0, len(refs)
            for chunk in _CUTTER.cut_buf(content) if content else ():
                after = chunk.offset + chunk.length
                # What a window's end cut, or what may be a run of zeros yet, is cut again with the next window.
                if not is_run and not last and after >= start:
                    break
                with content[chunk.offset : after] as piece:
                    refs.append((at + chunk.offset, chunk_id(key, piece), chunk.length))
                used = after
        cut(refs[told:])
        if is_run:
            used = end
            stop = at + end if whole else _end_of_run(file, window, at + end, size)
            refs += _zeros(key, at + start, stop)
            if stop > at + end:
                at, held = stop, 0
                continue
        rest = bytes(memoryview(window)[used:held])
        window[: len(rest)] = rest
        at += used
        held = len(rest)
    return refs


def _fill(file: Source, window: bytearray, held: int, at: int, size: int) -> int:
    """Read until the window, whose first byte is the file's at `at`, is full or has the rest; return what it holds."""
    full = min(len(window), size - at)
    with memoryview(window) as view:
        while held < full:
            got = file.read_into(view[held:full], at + held)
            if got == 0:
                raise FileChanged("the file shrank while it was read")
            held += got
    return held


def _first_run(window: bytearray, held: int, at: int, last: bool) -> tuple[int, int, bool]:
    """Return the first run of zeros in the window that is long enough, or may be, as it goes on to the window's end:
    its start and end, and whether it ends there. Without one, the end of what is held."""
    begin = -at % ZERO_BLOCK
    end = held if last else held - (at + held) % ZERO_BLOCK
    start: int | None = None
    for block in range(begin, end, ZERO_BLOCK):
        if _is_zero(window, block, min(end, block + ZERO_BLOCK)):
            start = block if start is None else start
        elif start is not None:
            if block - start >= ZERO_RUN:
                return start, block, True
            start = None
    return (start, end, last) if start is not None else (held, held, True)


def _end_of_run(file: Source, window: bytearray, at: int, size: int) -> int:
    """Return where the zeros end that go on at `at`, which is a block's start."""
    while at < size:
        data = file.next_data(at)
        if data - at >= HOLE:
            at = size if data >= size else data - data % ZERO_BLOCK
            continue
        held = _fill(file, window, 0, at, size)
        for block in range(0, held, ZERO_BLOCK):
            if not _is_zero(window, block, min(held, block + ZERO_BLOCK)):
                return at + block
        at += held
    return size


def _is_zero(window: bytearray, start: int, end: int) -> bool:
    return window.startswith(_BLOCK if end - start == ZERO_BLOCK else _BLOCK[: end - start], start)


def _zeros(key: bytes, start: int, end: int) -> Iterator[Ref]:
    for at in range(start, end, MAX_CHUNK):
        piece = min(MAX_CHUNK, end - at)
        yield at, zeros_id(key, piece), piece
