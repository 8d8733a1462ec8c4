"""The rows of a folder's board in the store, and where each chunk is packed, by what the board says.

Keys in column `pack`: b"sheet" + folder + device -> record; b"board" + folder + device + key -> value;
b"chunk" + folder + chunk + pack -> offset (4), size (4) of the sealed chunk in the pack; b"listed" + folder + pack ->
empty: the rows of its chunks are there.

A pack's declaration and the rows of its chunks are written at once, or, where its list cannot be read yet for want of a
key, later; so that what says that a chunk is packed is never there without where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from shoal.crdt.board import Board, Record, read_record
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.packs.sheet import DECLARED
from shoal.node.store import Op, Store

Listing = list[tuple[bytes, int]]
"""A pack's chunks, in its order, with their sealed sizes."""


class Packed(NamedTuple):
    """Where a sealed chunk is."""

    pack: bytes
    offset: int
    size: int


class StoredBoard:
    """The `Rows` of one folder's board. `listing`: reads the chunks of a pack from what was said of it; None where that
    cannot be read."""

    def __init__(self, store: Store, folder: FolderId) -> None:
        self._store = store
        self._folder = folder
        self.listing: Callable[[bytes, bytes], Listing | None] = lambda pack, value: None
        self.gone: dict[bytes, Listing] = {}  # the chunks of packs that ended with the last change

    def value(self, device: DeviceId, key: bytes) -> bytes | None:
        return self._store.get("pack", b"board" + self._folder + device + key)

    def apply(self, record: Record, changes: Mapping[bytes, bytes | None]) -> None:
        prefix = b"board" + self._folder + record.device
        self.gone = {}
        ops: list[Op] = [("pack", prefix + key, value) for key, value in changes.items()]
        for key, value in changes.items():
            if key[:1] != DECLARED:
                continue
            if value is None:
                ops += self._unlisted(key[1:], self.value(record.device, key) or b"")
            elif not self.is_listed(key[1:]):
                ops += self._listed(key[1:], value)
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
        for prefix in (b"sheet", b"board", b"chunk", b"listed"):
            ops += [("pack", key, None) for key, _ in self._store.scan("pack", prefix + self._folder)]
        self._store.write(ops, sync=False)

    # -- where chunks are --------------------------------------------------------------------------------------------

    def is_listed(self, pack: bytes) -> bool:
        """Return whether a pack's chunks are known."""
        return self._store.get("pack", b"listed" + self._folder + pack) is not None

    def list_late(self, pack: bytes, value: bytes) -> bool:
        """Note a pack's chunks, whose list could not be read when it came; return whether it can be now."""
        ops = self._listed(pack, value)
        self._store.write(ops, sync=False)
        return bool(ops)

    def places(self, chunk: bytes) -> Iterator[Packed]:
        """Yield where a chunk is, also in packs that are none any more."""
        for key, value in self._store.scan("pack", b"chunk" + self._folder + chunk):
            yield Packed(key[-32:], int.from_bytes(value[:4]), int.from_bytes(value[4:]))

    def _unlisted(self, pack: bytes, value: bytes) -> list[Op]:
        """Return what forgets a pack's chunks; where another device says the pack, too, they are listed anew."""
        chunks = self.gone[pack] = self.listing(pack, value) or []
        prefix = b"chunk" + self._folder
        ops: list[Op] = [
            *(("pack", prefix + chunk + pack, None) for chunk, _ in chunks),
            ("pack", b"listed" + self._folder + pack, None),
        ]
        return ops

    def _listed(self, pack: bytes, value: bytes) -> list[Op]:
        found = self.listing(pack, value)
        if found is None:
            return []
        ops: list[Op] = [("pack", b"listed" + self._folder + pack, b"")]
        at = 0
        for chunk, size in found:
            ops.append(("pack", b"chunk" + self._folder + chunk + pack, at.to_bytes(4) + size.to_bytes(4)))
            at += size
        return ops
