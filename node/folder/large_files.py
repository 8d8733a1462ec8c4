"""Large files are read beside: what else changes in the folder is told meanwhile, not after gigabytes were hashed.

The others are told of their chunks as they are cut, and can have them before the file is read to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os.path import dirname

import trio

from shoal.crdt.model import Content, NodeId
from shoal.node.folder.arriving import Arriving
from shoal.node.folder.coming import MOST as MOST_PIECES
from shoal.node.folder.coming import Coming, Piece, upload_of
from shoal.node.folder.disk import Disk, Seen, kind_of
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.signature import Signature
from shoal.transfer.chunking import FileChanged

LARGE = 64 * 1024 * 1024  # bytes from which on a file is read beside
MOST = 1000  # files that wait for their turn, or whose content waits to be told
ASK_AGAIN = 5.0  # seconds after which whoever waits for a content looks again, should it have been forgotten
TELL_AFTER = 1.0  # seconds of reading: before that, it would only slow the reading down
TELL_EVERY = 0.05  # seconds
TELL_ANYWAY = 20.0  # seconds without a new chunk

Read = Content | FileChanged | OSError


@dataclass(slots=True, eq=False)
class _Reading:
    signature: Signature
    base: Content | None
    result: Read | None = None
    pieces: deque[Piece] = field(default_factory=deque)  # cut, and nobody was told yet; filled in other threads
    told: set[int] = field(default_factory=set)  # offsets

    def on_cut(self, pieces: Sequence[Piece]) -> None:
        self.pieces.extend(pieces)


class LargeFiles:
    """Reads the large files of one folder, one at a time."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        index: LocalIndex,
        key: bytes,
        done: Callable[[set[str]], None],
        coming: Callable[[Coming], None] = lambda coming: None,
    ) -> None:
        """`done`: told of the relative path of each that was read; `coming`: of chunks that are new, meanwhile."""
        self._disk = disk
        self._turns = turns
        self._index = index
        self._key = key
        self._done = done
        self._coming = coming
        self._readings: dict[str, _Reading] = {}
        self._news = trio.Event()
        self._cut_of: set[str] = set()  # paths
        self.cut = Arriving()  # chunks of files that the index does not know yet

    @property
    def busy(self) -> bool:
        """Whether any is being read, or waits for that."""
        return any(reading.result is None for reading in self._readings.values())

    def is_large(self, seen: Seen) -> bool:
        """Return whether a file is read beside."""
        return seen.signature is not None and seen.signature.size >= LARGE and kind_of(seen.signature) == "file"

    def take(self, seen: Seen, base: Content | None) -> Read | None:
        """Return the content of a large file as it was seen, or what went wrong; None when it is yet to be read: then
        that is begun. `base`: see `Disk.read_content`."""
        assert seen.signature is not None
        reading = self._readings.get(seen.path)
        if reading is not None and (reading.signature, reading.base) == (seen.signature, base):
            if reading.result is not None:
                del self._readings[seen.path]
            return reading.result
        if reading is not None or len(self._readings) < MOST:
            self._readings[seen.path] = _Reading(seen.signature, base)
            self._news.set()
        return None

    async def run(self, absolute: Callable[[str], str]) -> None:
        """Read until cancelled. `absolute`: gives the path on the disk of a relative one."""
        self._readings.clear()
        while True:
            waiting = next(((path, each) for path, each in self._readings.items() if each.result is None), None)
            if waiting is None:
                self._news = trio.Event()
                await self._news.wait()
                continue
            path, reading = waiting
            self._forget_cut()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, path, reading)
                reading.result = await self._turns.apart(self._read, absolute(path), reading)
                nursery.cancel_scope.cancel()
            self._forget_surplus()
            self._done({path})

    def _read(self, path: str, reading: _Reading) -> Read:
        try:
            return self._disk.read_content(path, self._key, reading.signature, reading.base, reading.on_cut)
        except (FileChanged, OSError) as error:
            return error

    async def _tell(self, path: str, reading: _Reading) -> None:
        """Tell of what is cut, until cancelled."""
        upload, last = upload_of(self._key, path, reading.signature), trio.current_time()
        await trio.sleep(TELL_AFTER)
        while True:
            pieces = self._new_pieces(reading)
            if pieces:
                self.cut.add((chunk, (path, at, length)) for at, chunk, length in pieces)
                self._cut_of.add(path)
            if pieces or (reading.told and trio.current_time() > last + TELL_ANYWAY):
                last = trio.current_time()
                self._coming(Coming(upload, self._near(path), tuple(pieces)))
            await trio.sleep(TELL_EVERY)

    def _new_pieces(self, reading: _Reading) -> list[Piece]:
        found = []
        while reading.pieces:
            at, chunk, length = reading.pieces.popleft()
            known = at in reading.told or next(iter(self._index.sources(chunk)), None) is not None
            if not known and len(reading.told) < MOST_PIECES:
                reading.told.add(at)
                found.append((at, chunk, length))
        return found

    def _near(self, path: str) -> NodeId:
        """Return the node at a path, or the nearest above it."""
        node = self._index.find(path)
        while node is None:
            path = dirname(path)
            node = self._index.find_folder(path)
        return node

    def _forget_cut(self) -> None:
        """By now the index knows the chunks of files whose content was taken."""
        for path in self._cut_of - self._readings.keys():
            self._cut_of.discard(path)
            self.cut.drop(path)

    def _forget_surplus(self) -> None:
        """Contents that nobody came for: the file changed, or went."""
        done = [path for path, reading in self._readings.items() if reading.result is not None]
        for path in done[: max(0, len(done) - MOST // 2)]:
            del self._readings[path]
