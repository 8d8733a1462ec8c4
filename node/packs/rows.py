"""The rows of a folder's board in the store, and where each chunk is packed, by what the board says.

Keys in column `pack`: b"sheet" + folder + device -> record; b"board" + folder + device + key -> value;
b"chunk" + folder + chunk + pack -> offset (4), size (4) of the sealed chunk in the pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from shoal.crdt.board import Board, Record, read_record
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.store import Op, Store


class Packed(NamedTuple):
    """Where a sealed chunk is."""

    pack: bytes
    offset: int
    size: int


class StoredBoard:
    """The `Rows` of one folder's board."""

    def __init__(self, store: Store, folder: FolderId) -> None:
        self._store = store
        self._folder = folder

    def value(self, device: DeviceId, key: bytes) -> bytes | None:
        return self._store.get("pack", b"board" + self._folder + device + key)

    def apply(self, record: Record, changes: Mapping[bytes, bytes | None]) -> None:
        prefix = b"board" + self._folder + record.device
        ops: list[Op] = [("pack", prefix + key, value) for key, value in changes.items()]
        ops.append(("pack", b"sheet" + self._folder + record.device, record.encoded))
        self._store.write(ops, sync=bool(changes))

    def load(self, board: Board) -> None:
        """Have a board be as it was kept."""
        for _, encoded in list(self._store.scan("pack", b"sheet" + self._folder)):
            record = read_record(encoded, self._folder)
            prefix = b"board" + self._folder + record.device
            board.load(record, ((key[len(prefix) :], value) for key, value in self._store.scan("pack", prefix)))

    def erase(self) -> None:
        """Forget the folder's board, and its chunks' places."""
        ops: list[Op] = []
        for prefix in (b"sheet", b"board", b"chunk"):
            ops += [("pack", key, None) for key, _ in self._store.scan("pack", prefix + self._folder)]
        self._store.write(ops, sync=False)


class PackedChunks:
    """Where one folder's chunks are packed."""

    def __init__(self, store: Store, folder: FolderId) -> None:
        self._store = store
        self._prefix = b"chunk" + folder

    def add(self, pack: bytes, chunks: Iterable[tuple[bytes, int]]) -> None:
        """Note what a pack has: chunk ids and sealed sizes, in its order."""
        ops: list[Op] = []
        at = 0
        for chunk, size in chunks:
            ops.append(("pack", self._prefix + chunk + pack, at.to_bytes(4) + size.to_bytes(4)))
            at += size
        self._store.write(ops, sync=False)

    def remove(self, pack: bytes, chunks: Iterable[tuple[bytes, int]]) -> None:
        """Note that a pack is one no more."""
        self._store.write([("pack", self._prefix + chunk + pack, None) for chunk, _ in chunks], sync=False)

    def places(self, chunk: bytes) -> Iterator[Packed]:
        """Yield where a chunk is."""
        for key, value in self._store.scan("pack", self._prefix + chunk):
            yield Packed(key[-32:], int.from_bytes(value[:4]), int.from_bytes(value[4:]))

    def has(self, chunk: bytes) -> bool:
        """Return whether a chunk is in a pack."""
        return next(self.places(chunk), None) is not None
