"""What others get of the packs here: parts that are held, that are made of files, and that were just rebuilt for
them."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId, FolderId
from shoal.node.packs.backend import BackendFailed, Missing
from shoal.node.packs.sheet import WHOLE, split_part
from shoal.node.store import StoreFull
from shoal.transfer import erasure, merkle

if TYPE_CHECKING:
    from shoal.node.packs.service import Packs

SPARES = 96 * 1024 * 1024  # bytes of parts that were made, and are kept for a while for who is to hold them
SPARE_FOR = 120.0  # seconds
READ = 2 * merkle.BLOCK  # bytes from which on a read is one of somebody who reads, and no challenge


class Giver:
    """Of one node; the `Pieces` that `/shoal/packs/1` serves."""

    def __init__(self, packs: Packs) -> None:
        self._packs = packs
        self._spares: OrderedDict[tuple[bytes, int], tuple[float, bytes]] = OrderedDict()

    def may_have(self, peer: bytes, folder: bytes) -> bool:
        return self._packs.node.sharing.access.may_sync(DeviceId(peer), FolderId(folder))

    async def read(self, folder: bytes, pack: bytes, part: int, offset: int, length: int) -> bytes | None:
        data = await self.held(folder, pack, part, offset, length)
        if data is None:
            made = await self._made(FolderId(folder), pack, part)
            data = bytes(made[offset : offset + length]) if made is not None else None
        if data is not None:
            self._packs.count("served", len(data))
        return data

    async def prove(self, folder: bytes, pack: bytes, part: int, block: int) -> tuple[bytes, list[bytes]] | None:
        shelf = self._packs.shelf
        size = shelf.size(folder, pack, part)
        data = await self.held(folder, pack, part, 0, size) if size is not None else None
        if size is None or block * merkle.BLOCK >= size:
            return None
        leaves = await trio.to_thread.run_sync(merkle.leaves, data or b"")
        if data is None or merkle.root(leaves, len(data)) != shelf.root(folder, pack, part):
            with contextlib.suppress(BackendFailed, StoreFull):
                await shelf.check(folder, pack, part)  # its disk forgot: it says so, before somebody else does
            return None
        at = block * merkle.BLOCK
        return data[at : at + merkle.BLOCK], list(merkle.proof(leaves, block))

    def on_read(self, peer: bytes, folder: bytes, pack: bytes, size: int) -> None:
        working = self._packs.working.get(FolderId(folder))
        about = working.folder.ledger.about.get(DeviceId(peer)) if working is not None else None
        if working is not None and about is not None and about.zone and not about.offer and size >= READ:
            working.heat.read(pack, about.zone, trio.current_time())

    async def held(self, folder: bytes, pack: bytes, part: int, offset: int, length: int) -> bytes | None:
        """Return bytes of a part that is held here, None where it is not."""
        size = self._packs.shelf.size(folder, pack, part)
        if size is None or offset >= size:
            return None
        try:
            return await self._packs.shelf.read(folder, pack, part, offset, min(length, size - offset))
        except (Missing, BackendFailed):
            return None

    async def _made(self, folder: FolderId, pack: bytes, part: int) -> bytes | memoryview | None:
        """Return a part that is not held here, and can be given all the same: rebuilt a moment ago, or made of all of
        the pack, which is held here or can be made of files."""
        self._expire()
        if (pack, part) in self._spares:
            return self._spares[(pack, part)][1]
        working = self._packs.working.get(folder)
        form = working.folder.ledger.form(pack) if working is not None else None
        k, m, index = split_part(part)
        if working is None or form is None or (part and ((k, m) != (form.k, form.m) or index >= form.pieces)):
            return None
        data: bytes | bytearray | None = await self.held(folder, pack, WHOLE, 0, form.size)
        if data is None and working.packer is not None:
            data = await working.packer.rebuilt(pack)
        if data is None or not part:
            return memoryview(data) if data is not None else None
        pieces = await trio.to_thread.run_sync(erasure.encode, data, erasure.Coding(k, m))
        for each, piece in enumerate(pieces):
            self.spare(pack, form.part(each), piece)
        return pieces[index]

    # -- what is kept for a while ------------------------------------------------------------------------------------

    def spare(self, pack: bytes, part: int, data: bytes) -> None:
        """Keep a part that was made for who is to hold it."""
        self._spares[(pack, part)] = trio.current_time(), data
        while sum(len(each) for _, each in self._spares.values()) > SPARES:
            self._spares.popitem(last=False)

    def taken(self, pack: bytes, part: int) -> bytes | None:
        """Return a part that was made here a moment ago, and is kept for nobody any more."""
        self._expire()
        kept = self._spares.pop((pack, part), None)
        return kept[1] if kept is not None else None

    def _expire(self) -> None:
        now = trio.current_time()
        for key in [key for key, (at, _) in self._spares.items() if now - at > SPARE_FOR]:
            del self._spares[key]
