"""Whole pieces from others, verified by their roots; and pieces that nobody holds, made of those that somebody does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import trio

from shoal.crdt.model import DeviceId
from shoal.node.packs.backend import BackendFailed, Missing
from shoal.node.packs.sheet import WHOLE, Form, part_of, split_part
from shoal.node.packs.wire import NotThere
from shoal.transfer import erasure, merkle
from shoal.transfer.stream import StreamClosed

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder


class Source:
    """Of one folder's pieces. `PATIENCE`: seconds in which who is to rebuild a pack for all is to have done it."""

    PATIENCE: ClassVar[float] = 60.0

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder

    async def piece(self, device: DeviceId, pack: bytes, part: int, form: Form) -> bytes | None:
        """Return a piece of a pack as it is split now, as a device has it, verified; None where it has not."""
        index = part & 255 if form.k else 0
        data = await self._got(device, pack, part, form.size_of(index))
        if data is None or await trio.to_thread.run_sync(merkle.root_of, data) == form.root_of(index):
            return data
        if device != self._folder.node.key.id:
            self._folder.packs.lied(self._folder, device, pack, f"it sent other bytes than piece {index} of a pack has")
        return None

    async def rebuilt(self, pack: bytes, form: Form, index: int, lost: Sequence[int]) -> bytes | None:
        """Return a piece that nobody holds, made of others; what else of a code is lost is kept for who is to hold
        it."""
        packs = self._folder.packs
        if form.k:
            pieces = await self._some(pack, form)
            if len(pieces) >= form.k:
                return await self._made(pack, form, pieces, index, lost)
        whole = await self._of_another_form(pack, form)
        if whole is None:
            return None
        if not form.k:
            return whole
        made = await trio.to_thread.run_sync(erasure.encode, whole, erasure.Coding(form.k, form.m))
        for each in lost:
            if each != index:
                packs.giver.spare(pack, form.part(each), made[each])
        return made[index]

    async def whole(self, pack: bytes, form: Form) -> bytes | None:
        """Return all of a pack, from those who are there; None where too little of it is."""
        for device in self._folder.there(pack, WHOLE):
            data = await self._got(device, pack, WHOLE, form.size)
            if data is not None and await trio.to_thread.run_sync(merkle.root_of, data) == form.root:
                return data
        pieces = await self._some(pack, form) if form.k else {}
        if form.k and len(pieces) >= form.k:
            coding = erasure.Coding(form.k, form.m)
            return await trio.to_thread.run_sync(erasure.decode, pieces, coding, form.size)
        return await self._of_another_form(pack, form)

    async def _some(self, pack: bytes, form: Form) -> dict[int, bytes]:
        """Return k pieces of a pack, or as many as there are, verified."""
        pieces: dict[int, bytes] = {}
        for index in range(form.pieces):
            for device in self._folder.there(pack, form.part(index)):
                if index not in pieces and len(pieces) < form.k:
                    data = await self.piece(device, pack, form.part(index), form)
                    if data is not None:
                        pieces[index] = data
        return pieces

    async def _made(
        self, pack: bytes, form: Form, pieces: dict[int, bytes], index: int, lost: Sequence[int]
    ) -> bytes | None:
        packs, coding = self._folder.packs, erasure.Coding(form.k, form.m)
        wanted = sorted({index, *lost} - pieces.keys())
        made = await trio.to_thread.run_sync(erasure.rebuild, pieces, coding, form.size, wanted)
        for each, data in made.items():
            if await trio.to_thread.run_sync(merkle.root_of, data) != form.root_of(each):
                packs.trouble(self._folder, "a pack's pieces do not belong together: who declared it is at fault")
                return None
            if each != index:
                packs.giver.spare(pack, form.part(each), data)
        return made[index] if index in made else pieces[index]

    async def _of_another_form(self, pack: bytes, form: Form) -> bytes | None:
        """Return all of a pack from copies or pieces that are there since before it was split as it is now."""
        by_code: dict[tuple[int, int], dict[int, list[DeviceId]]] = {}
        for device, parts in self._folder.ledger.parts_of(pack).items():
            for part in parts:
                k, m, index = split_part(part)
                if (k, m) != (form.k, form.m) and device in self._folder.reachable():
                    by_code.setdefault((k, m), {}).setdefault(index, []).append(device)
        for (k, m), holders in sorted(by_code.items()):
            size = -(-form.size // k) if k else form.size
            pieces: dict[int, bytes] = {}
            for index, devices in holders.items():
                for device in devices:
                    if index not in pieces and len(pieces) < max(1, k):
                        data = await self._got(device, pack, part_of(k, m, index), size)
                        if data is not None:
                            pieces[index] = data
            if len(pieces) < max(1, k):
                continue
            code = erasure.Coding(k, m) if k else erasure.Coding(1, 0)
            whole = await trio.to_thread.run_sync(erasure.decode, pieces, code, form.size)
            if await trio.to_thread.run_sync(merkle.root_of, whole) == form.root:
                return whole
        return None

    async def _got(self, device: DeviceId, pack: bytes, part: int, size: int) -> bytes | None:
        """Return bytes that a device has for a part, unverified."""
        folder, packs = self._folder, self._folder.packs
        if device == folder.node.key.id:
            try:
                return await packs.shelf.read(folder.id, pack, part, 0, size)
            except (Missing, BackendFailed):
                return None
        await packs.budget.wait(size)
        try:
            data = await packs.client.get(device, folder.id, pack, part, 0, size)
        except NotThere:
            packs.withheld(folder, device, pack, part)
            return None
        except StreamClosed:
            return None
        packs.count("repair_received", size)
        return data
