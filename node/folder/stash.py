"""Bytes that a version is about to name and that are in no file of the folder: kept, durable, in `.shoal/versions`.

From there the engine's ordinary way puts them in place, and other devices get them, as with what was replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shoal.crdt.model import FileContent, NodeId
from shoal.node.folder.disk import Disk
from shoal.node.folder.local import PRIVATE
from shoal.node.folder.marker import PART
from shoal.transfer.chunking import FileChanged

PIECE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stashed:
    """A kept file that is not known to the chunk index yet: that is committed with the version which names it."""

    name: str
    content: FileContent


class Stash:
    """Makes kept files. Its calls belong in a thread, and raise OSError."""

    def __init__(self, disk: Disk, root: str, key: bytes, now_ms: Callable[[], int]) -> None:
        self._disk = disk
        self._root = root
        self._key = key
        self._now_ms = now_ms

    def keep(self, node: NodeId, data: bytes) -> Stashed:
        """Keep bytes."""
        return self._keep(node, iter([data]))

    def keep_file(self, node: NodeId, path: str) -> Stashed:
        """Keep a copy of any file on this disk. Raises FileChanged when it was written to meanwhile."""
        file = self._disk.fs.open(path, "read")
        try:
            before = file.stat()
            made = self._keep(node, self._pieces(path, before.size))
            if file.stat() != before or made.content.size != before.size:
                self._disk.remove_quietly(self._path(made.name))
                raise FileChanged("it changed while it was read")
            return made
        finally:
            file.close()

    def drop(self, stashed: Stashed) -> None:
        """Remove what is not needed after all."""
        self._disk.remove_quietly(self._path(stashed.name))

    def _pieces(self, path: str, size: int) -> Iterator[bytes]:
        for at in range(0, size, PIECE):
            data = self._disk.read_piece(path, at, min(PIECE, size - at))
            if data is None:
                raise FileChanged("it changed while it was read")
            yield data

    def _keep(self, node: NodeId, pieces: Iterator[bytes]) -> Stashed:
        stamp = self._now_ms() * 1_000_000
        while self._disk.look(self._path(name := f"{node.hex()}-0-{stamp}")) is not None:
            stamp += 1
        temporary = os.path.join(self._root, PRIVATE, "tmp", name + PART)
        try:
            file = self._disk.fs.open(temporary, "write")
            try:
                file.truncate(0)
                at = 0
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        done = file.write(view, at)
                        view, at = view[done:], at + done
                file.sync()
            finally:
                file.close()
            signature = self._disk.fs.lstat(temporary)
            content = self._disk.read_content(temporary, self._key, signature)
            assert isinstance(content, FileContent)
            self._disk.rename_new(temporary, self._path(name))
        except BaseException:
            self._disk.remove_quietly(temporary)
            raise
        self._disk.sync_directories({os.path.dirname(self._path(name))})
        return Stashed(name, content)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, PRIVATE, "versions", name)
