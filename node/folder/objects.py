"""Objects: the chunks of packed versions, files in `.shoal/objects` named by chunk id; whole, or as deltas (see
`deltas`) under the same name with `.delta`. Calls belong in a thread.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable
from os.path import dirname, join

from shoal.node.folder.deltas import TAIL, BadDelta, Delta, decode, encode, encoded_size
from shoal.node.folder.disk import Disk
from shoal.node.folder.local import OBJECTS, object_path

DELTA = ".delta"
FRESH = ".new"  # objects being written
DEEPEST = 200  # deltas of deltas that are read: more is damage


class Objects:
    """The objects of one folder."""

    def __init__(self, disk: Disk, root: str) -> None:
        self._disk = disk
        self._root = root

    def read_source(self, path: str, offset: int, length: int) -> bytes | None:
        """Return bytes of a file that `LocalIndex.sources` named, None where they are not there. Not verified."""
        if path.startswith(OBJECTS):
            return self.read(bytes.fromhex(path.rpartition("/")[2]), length)
        return self._disk.read_piece(join(self._root, path), offset, length)

    def read_source_into(self, path: str, offset: int, view: memoryview) -> bool:
        """Fill the view likewise; return False where the bytes are not there."""
        if not path.startswith(OBJECTS):
            return self._disk.read_piece_into(join(self._root, path), offset, view)
        data = self.read(bytes.fromhex(path.rpartition("/")[2]), len(view))
        if data is not None:
            view[:] = data
        return data is not None

    def read(self, chunk: bytes, length: int) -> bytes | None:
        """Return a chunk, None where it is not there. Not verified."""
        data = self._disk.read_piece(self._path(chunk), 0, length)
        for _ in range(2):  # what it copies from may have gone, and it been rewritten, between two looks
            if data is not None:
                break
            found = bytearray()
            with contextlib.suppress(OSError, BadDelta):
                self._add(found, chunk, 0, length, {}, 0)
                data = bytes(found) if len(found) == length else None
        return data

    def delta(self, chunk: bytes) -> Delta | None:
        """Return what a chunk is made of; None when it is whole. Raises BadDelta, OSError."""
        if self._disk.look(self._path(chunk)) is not None:
            return None
        file = self._disk.fs.open(self._path(chunk) + DELTA, "read")
        try:
            size = file.stat().size
            rest = encoded_size(file.read(TAIL, max(0, size - TAIL)))
            if rest > size:
                raise BadDelta("longer than its file")
            return decode(file.read(rest, size - rest), size - rest)
        finally:
            file.close()

    def sound_size(self, chunk: bytes, known: dict[bytes, int]) -> int:
        """Return a chunk's length as far as the sizes of files tell, -1 where it, or what it copies from, is not there.
        `known`: what was returned before. Raises OSError."""
        if chunk not in known:
            known[chunk] = -1
            whole = self._disk.look(self._path(chunk))
            known[chunk] = whole.size if whole is not None else self._delta_size(chunk, known)
        return known[chunk]

    def _delta_size(self, chunk: bytes, known: dict[bytes, int]) -> int:
        try:
            delta = self.delta(chunk)
        except (BadDelta, FileNotFoundError, NotADirectoryError):
            return -1
        if delta is None:
            return -1
        copied = [part for part in delta.parts if part.base is not None]
        there = all(part.offset + part.length <= self.sound_size(part.base or b"", known) for part in copied)
        return delta.size if there else -1

    def write(self, chunk: bytes, data: bytes | memoryview, delta: Delta | None = None, *, safely: bool = False) -> int:
        """Write an object in place of what it may have been, as a delta where one is given; return by how much more is
        on disk. Not durable before `sync`, but `safely`: what has the name is whole at any time. Raises OSError."""
        path = self._path(chunk)
        target, other = (path, path + DELTA) if delta is None else (path + DELTA, path)
        if self._disk.look(dirname(path)) is None:
            with contextlib.suppress(FileExistsError):
                self._disk.fs.mkdir(dirname(path), 0o700)
        self._disk.remove_quietly(target + FRESH)
        try:
            pieces = (memoryview(data),) if delta is None else (*delta.own_bytes(data), memoryview(encode(delta)))
            size = self._write(target + FRESH, pieces, safely=safely)
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.remove_quietly(target + FRESH)  # the disk may be full
            raise
        before = self._size(target) + self._size(other)
        self._disk.fs.rename(target + FRESH, target)
        if safely:
            self._disk.sync_directories({dirname(path)})
        self._disk.remove_quietly(other)
        return size - before

    def _write(self, path: str, pieces: Iterable[memoryview], *, safely: bool) -> int:
        at = 0
        for piece in pieces:
            self._disk.write_piece(path, at, piece)
            at += len(piece)
        if safely:
            file = self._disk.fs.open(path, "write")
            try:
                file.sync()
            finally:
                file.close()
        return at

    def remove(self, chunk: bytes) -> int:
        """Remove an object; return its size. Raises OSError."""
        freed = 0
        for path in (self._path(chunk) + DELTA, self._path(chunk)):
            size = self._size(path)
            self._disk.remove_quietly(path)
            freed += size
        return freed

    def sync(self) -> None:
        """Make what was written durable. Raises OSError."""
        self._disk.fs.sync_all(join(self._root, OBJECTS))

    def _add(
        self, to: bytearray, chunk: bytes, offset: int, length: int, deltas: dict[bytes, Delta | None], depth: int
    ) -> None:
        if depth > DEEPEST:
            raise BadDelta("it copies in a circle")
        if chunk not in deltas:
            deltas[chunk] = self.delta(chunk)
        delta = deltas[chunk]
        if delta is None:
            to += self._piece(self._path(chunk), offset, length)
            return
        at = own = 0
        for part in delta.parts:
            first, last = max(at, offset), min(at + part.length, offset + length)
            if first < last and part.base is None:
                to += self._piece(self._path(chunk) + DELTA, own + first - at, last - first)
            elif first < last and part.base is not None:
                self._add(to, part.base, part.offset + first - at, last - first, deltas, depth + 1)
            at += part.length
            own += part.length if part.base is None else 0

    def _piece(self, path: str, offset: int, length: int) -> bytes:
        data = self._disk.read_piece(path, offset, length)
        if data is None:
            raise OSError(errno.EIO, "an object is shorter than it was", path)
        return data

    def _path(self, chunk: bytes) -> str:
        return join(self._root, object_path(chunk))

    def _size(self, path: str) -> int:
        found = self._disk.look(path)
        return found.size if found is not None else 0
