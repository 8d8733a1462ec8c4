"""Chunks for other devices, read from the files on this disk; each is verified before it goes out."""

from __future__ import annotations

from collections.abc import Sequence

from shoal.node.folder.arriving import Arriving
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.objects import Objects
from shoal.node.replica import Replica
from shoal.transfer.buffers import shared
from shoal.transfer.bulk import LaidOut
from shoal.transfer.chunking import chunk_id

READ_BYTES = 4 * 1024 * 1024  # of chunks read at once

_Wanted = tuple[bytes, Sequence[tuple[str, int, bool]], memoryview]
"""A chunk's id, the relative paths and offsets where it should be, whether that is known for sure, and where it is read
to."""


class ChunkReader:
    """Reads chunks of one folder."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        others: Sequence[Arriving] = (),
    ) -> None:
        """`others`: chunks that are in files which the index does not know, or not yet as they are."""
        self._others = others
        self._disk = disk
        self._objects = Objects(disk, root)
        self._turns = turns
        self._index = index
        self._key = replica.content_key

    async def read(self, ids: Sequence[bytes]) -> tuple[LaidOut, set[str]]:
        """Return chunks, None where nobody has one, fewer than asked where they have more than 4 MiB; and the relative
        paths of files that are not what they were."""
        places: list[list[tuple[str, int, bool]]] = []
        lengths: list[int] = []
        size = 0
        for chunk in ids:
            sources = list(self._index.sources(chunk))
            unsure = [source for other in self._others for source in other.sources(chunk)]
            length = (sources or unsure or [("", 0, 0)])[0][2]
            if lengths and size + length > READ_BYTES:
                break
            places.append([(path, at, each is sources) for each in (sources, unsure) for path, at, _ in each])
            lengths.append(length)
            size += length
        chunks = LaidOut(lengths, shared.take)
        wanted = [(chunk, at, view) for chunk, at, view in zip(ids, places, chunks, strict=False) if view is not None]
        read = await self._turns.run(self._read_all, wanted, lambda want: len(want[2]))
        chunks[:] = [data for data, _ in read]
        return chunks, {path for _, damaged in read for path in damaged}

    def _read_all(self, wanted: Sequence[_Wanted]) -> list[tuple[memoryview | None, list[str]]]:
        with self._disk.fs.held():
            return [self._read(*want) for want in wanted]

    def _read(
        self, chunk: bytes, places: Sequence[tuple[str, int, bool]], into: memoryview
    ) -> tuple[memoryview | None, list[str]]:
        """Return the chunk from the first place that has it, None from none; and the paths that did not."""
        damaged: list[str] = []
        for path, offset, is_sure in places:
            if self._objects.read_source_into(path, offset, into) and chunk_id(self._key, into) == chunk:
                return into, damaged
            if is_sure:
                damaged.append(path)
        return None, damaged
