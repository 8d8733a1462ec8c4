"""What texts on this disk were before: kept as the common ancestor for a merge, in case a person changes one.

Most programs write over the file, so by the time that a change is seen, what was there is gone. So the chunks of texts
are copied into the store, compressed, when the engine has nothing else to do; the oldest go first. Losing them costs no
data: two changes of one text are then shown as a conflict instead of being merged.

Keys after the folder's 16 bytes, in column `local`:
    b + chunk id    number (8), compressed bytes
    q + number      chunk id, size of those bytes (4)
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence

from shoal.crdt.model import FileContent, FolderId
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import LocalIndex, LocalNode
from shoal.node.merge3 import MAX_TEXT, is_text
from shoal.node.store import Staging
from shoal.transfer.chunking import chunk_id

BUDGET = 64 * 1024 * 1024  # compressed bytes in a folder
AT_ONCE = 40  # files between two looks at whether something else is to be done


class TextBases:
    """The kept texts of one folder."""

    def __init__(
        self, disk: Disk, turns: DiskTurns, root: str, index: LocalIndex, staging: Staging, folder: FolderId, key: bytes
    ) -> None:
        self._disk = disk
        self._turns = turns
        self._root = root
        self._index = index
        self._staging = staging
        self._folder = folder
        self._key = key
        self.budget = BUDGET
        rows = list(staging.scan("local", folder + b"q"))
        self._next = int.from_bytes(rows[-1][0][17:]) + 1 if rows else 0
        self._size = sum(int.from_bytes(row[32:]) for _, row in rows)

    def get(self, chunk: bytes) -> bytes | None:
        """Return a kept chunk, verified."""
        row = self._staging.get("local", self._folder + b"b" + chunk)
        if row is None:
            return None
        try:
            data = zlib.decompress(row[8:])
        except zlib.error:
            return None
        return data if chunk_id(self._key, data) == chunk else None

    async def keep_some(self) -> bool:
        """Keep a few of the texts that came to the disk since; return whether there were any."""
        fresh = self._index.fresh
        records: list[LocalNode] = []
        while fresh and len(records) < AT_ONCE:
            record = self._index.get(fresh.popleft())
            if record is not None and self._lacks(record):
                records.append(record)
        if not records:
            return bool(fresh)
        for found in await self._turns.run(self._read_all, records, lambda record: record.signature.size):
            for chunk, data in found:
                self._put(chunk, data)
        self._index.commit()
        return True

    def _lacks(self, record: LocalNode) -> bool:
        content = record.content
        if not isinstance(content, FileContent) or not 0 < content.size <= MAX_TEXT:
            return False
        return any(self._staging.get("local", self._folder + b"b" + chunk) is None for chunk, _ in content.refs())

    def _read_all(self, records: Sequence[LocalNode]) -> list[list[tuple[bytes, bytes]]]:
        """Return the chunks of those that are texts, and still on disk as they were."""
        with self._disk.fs.held():
            return [self._read(record) for record in records]

    def _read(self, record: LocalNode) -> list[tuple[bytes, bytes]]:
        path, content = self._index.path(record.id), record.content
        if path is None or not isinstance(content, FileContent):
            return []
        data = self._disk.read_piece(os.path.join(self._root, path), 0, content.size)
        if data is None or not is_text(data):
            return []
        found, at = [], 0
        for chunk, length in content.refs():
            piece = data[at : at + length]
            if chunk_id(self._key, piece) != chunk:
                return []  # a person changed it just now
            found.append((bytes(chunk), piece))
            at += length
        return found

    def _put(self, chunk: bytes, data: bytes) -> None:
        key = self._folder + b"b" + chunk
        if self._staging.get("local", key) is not None:
            return
        packed = zlib.compress(data, 1)
        self._staging.put("local", key, self._next.to_bytes(8) + packed)
        self._staging.put("local", self._folder + b"q" + self._next.to_bytes(8), chunk + len(packed).to_bytes(4))
        self._next += 1
        self._size += len(packed)
        if self._size > self.budget:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        for key, row in list(self._staging.scan("local", self._folder + b"q")):
            if self._size <= self.budget * 3 // 4:
                return
            self._staging.delete("local", key)
            self._staging.delete("local", self._folder + b"b" + row[:32])
            self._size -= int.from_bytes(row[32:])
