"""Cutting files into chunks where the content says so, and naming chunks by keyed hash.

FastCDC, average 1 MiB, 256 KiB to 4 MiB; a file under 256 KiB is one chunk, an empty file none. A chunk's id is
BLAKE3 keyed with the folder's content key over the plain bytes. Packed references are 36 bytes a chunk: id, length.
"""

from __future__ import annotations

from typing import Protocol

import blake3
from pyfastcdc import FastCDC

MIN_CHUNK = 256 * 1024
AVERAGE_CHUNK = 1024 * 1024
MAX_CHUNK = 4 * 1024 * 1024
WINDOW = 16 * 1024 * 1024  # bytes of a file held while it is cut

_CUTTER = FastCDC(avg_size=AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK)


class FileChanged(Exception):
    """The file was written to while it was read; look at it again later."""


def chunk_id(key: bytes, data: bytes | memoryview) -> bytes:
    """Return the 32-byte id of a chunk's plain bytes."""
    return blake3.blake3(data, key=key).digest()


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


def chunk_file(file: Source, key: bytes) -> bytes:
    """Return the packed references of an open file's content. Raises FileChanged, OSError. Runs without the GIL for
    most of its time, so it belongs in a thread; memory is the page cache's."""
    before = file.mark()
    refs = _refs(file, before[0], key)
    if file.mark() != before:
        raise FileChanged("the file changed while it was read")
    return refs


def _refs(file: Source, size: int, key: bytes) -> bytes:
    if size == 0:
        return b""
    if size < MIN_CHUNK:
        data = bytearray(size)
        with memoryview(data) as view:
            if file.read_into(view, 0) != size:
                raise FileChanged("the file shrank while it was read")
            return pack_refs([(chunk_id(key, view), size)])
    refs: list[tuple[bytes, int]] = []
    # Read in windows, not mapped: a mapped file that another process truncates would end this one with SIGBUS.
    at = 0
    window = bytearray(min(WINDOW, size))
    held = 0
    while at < size:
        with memoryview(window) as view:
            wanted = view[held : min(WINDOW, size - at)]
            got = file.read_into(wanted, at + held) if wanted else 0
        held += got
        if held < min(WINDOW, size - at):
            if got == 0:
                raise FileChanged("the file shrank while it was read")
            continue
        last = at + held == size
        with memoryview(window) as view, view[:held] as content:
            used = 0
            for chunk in _CUTTER.cut_buf(content):
                length = chunk.length
                # The last cut of a window is one of the window's end, not of the content: cut it again with the next.
                if not last and chunk.offset + length == held:
                    break
                with content[chunk.offset : chunk.offset + length] as piece:
                    refs.append((chunk_id(key, piece), length))
                used = chunk.offset + length
            rest = bytes(content[used:])
        window[: len(rest)] = rest
        at += used
        held = len(rest)
    return pack_refs(refs)
