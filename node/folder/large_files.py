"""Large files are read beside: what else changes in the folder is told meanwhile, not after gigabytes were hashed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from shoal.crdt.model import Content
from shoal.node.folder.disk import Disk, Seen, kind_of
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.signature import Signature
from shoal.transfer.chunking import FileChanged

LARGE = 64 * 1024 * 1024  # bytes from which on a file is read beside
MOST = 1000  # files that wait for their turn, or whose content waits to be told
ASK_AGAIN = 5.0  # seconds after which whoever waits for a content looks again, should it have been forgotten

Read = Content | FileChanged | OSError


@dataclass(slots=True, eq=False)
class _Reading:
    signature: Signature
    base: Content | None
    result: Read | None = None


class LargeFiles:
    """Reads the large files of one folder, one at a time."""

    def __init__(self, disk: Disk, turns: DiskTurns, key: bytes, done: Callable[[set[str]], None]) -> None:
        """`done`: told of the relative path of each that was read."""
        self._disk = disk
        self._turns = turns
        self._key = key
        self._done = done
        self._readings: dict[str, _Reading] = {}
        self._news = trio.Event()

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
            reading.result = await self._turns.apart(self._read, absolute(path), reading)
            self._forget_surplus()
            self._done({path})

    def _read(self, path: str, reading: _Reading) -> Read:
        try:
            return self._disk.read_content(path, self._key, reading.signature, reading.base)
        except (FileChanged, OSError) as error:
            return error

    def _forget_surplus(self) -> None:
        """Contents that nobody came for: the file changed, or went."""
        done = [path for path, reading in self._readings.items() if reading.result is not None]
        for path in done[: max(0, len(done) - MOST // 2)]:
            del self._readings[path]
