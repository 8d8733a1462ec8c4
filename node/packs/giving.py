"""What others get of the pieces here: held ones, ones made of files, and ones that were just rebuilt for them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId, FolderId
from shoal.node.packs.backend import BackendFailed, Missing
from shoal.transfer import erasure, merkle

if TYPE_CHECKING:
    from shoal.node.packs.service import Packs

SPARES = 96 * 1024 * 1024  # bytes of rebuilt pieces that are kept for others


class Giver:
    """Of one node; the `Pieces` that `/shoal/packs/1` serves. `spares`: rebuilt pieces, by pack and index."""

    def __init__(self, packs: Packs) -> None:
        self._packs = packs
        self.spares: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    def may_have(self, peer: bytes, folder: bytes) -> bool:
        return self._packs.node.sharing.access.may_sync(DeviceId(peer), FolderId(folder))

    async def read(self, peer: bytes, folder: bytes, pack: bytes, index: int, offset: int, length: int) -> bytes | None:
        data = await self.shelf_read(folder, pack, index, offset, length)
        if data is None:
            data = await self._made(FolderId(folder), pack, index)
            data = data[offset : offset + length if length else None] if data is not None else None
        if data is not None:
            self._packs.count("served", len(data))
            self._note_read(FolderId(folder), DeviceId(peer), pack, len(data))
        return data

    def _note_read(self, folder: FolderId, reader: DeviceId, pack: bytes, size: int) -> None:
        """A reader, and not who comes to hold a piece, or proves another, got bytes of a pack."""
        working = self._packs.working.get(folder)
        about = working.folder.ledger.about.get(reader) if working is not None else None
        if working is not None and about is not None and about.zone and not about.offer and size > merkle.BLOCK:
            working.heat.read(pack, about.zone, trio.current_time())

    async def prove(self, folder: bytes, pack: bytes, index: int, block: int) -> tuple[bytes, list[bytes]] | None:
        data = await self.shelf_read(folder, pack, index, 0, 0)
        if data is None or block * merkle.BLOCK >= len(data):
            return None
        leaves = await trio.to_thread.run_sync(merkle.leaves, data)
        if merkle.root(leaves, len(data)) != self._packs.shelf.root(folder, pack, index):
            await self._packs.shelf.check(folder, pack, index)  # its disk forgot: it says so, before somebody else does
            return None
        at = block * merkle.BLOCK
        return bytes(data[at : at + merkle.BLOCK]), list(merkle.proof(leaves, block))

    async def shelf_read(self, folder: bytes, pack: bytes, index: int, offset: int, length: int) -> bytes | None:
        """Return bytes of a piece that is held here, None where it is not; of length 0, to its end."""
        size = self._packs.shelf.size(folder, pack, index)
        if size is None or offset > size:
            return None
        try:
            return await self._packs.shelf.read(folder, pack, index, offset, min(length or size, size - offset))
        except (Missing, BackendFailed):
            return None

    async def _made(self, folder: FolderId, pack: bytes, index: int) -> bytes | None:
        """Return a piece that is not held here, and can be given all the same: of files, or rebuilt a moment ago."""
        if (pack, index) in self.spares:
            return self.spares[(pack, index)]
        working = self._packs.working.get(folder)
        if working is None or working.packer is None:
            return None
        declared = working.folder.ledger.declared(pack)
        data = await working.packer.rebuilt(pack) if declared is not None and index < declared.pieces else None
        if data is None or declared is None or not declared.k:
            return bytes(data) if data is not None else None
        coding = erasure.Coding(declared.k, declared.m)
        pieces = await trio.to_thread.run_sync(erasure.encode, data, coding)
        return bytes(pieces[index])

    def spare(self, pack: bytes, index: int, data: bytes) -> None:
        """Keep a rebuilt piece for who is to hold it."""
        self.spares[(pack, index)] = data
        while sum(map(len, self.spares.values())) > SPARES:
            self.spares.popitem(last=False)
