"""Chunks out of packs: for a device that has no other device with the files to fetch from, packs are one more holder.

It takes part in the exchange like a device, by frames within this process (`Loop`), so that who fetches need not know.
Each chunk is verified, by its seal and by its id, before it is given on.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId
from shoal.node.packs.rows import Packed
from shoal.node.packs.sheet import Declared
from shoal.node.packs.wire import NotThere
from shoal.transfer import erasure, sealing
from shoal.transfer.chunking import chunk_id
from shoal.transfer.pace import UNLIMITED
from shoal.transfer.stream import FRAME_TARGET, WINDOW, Parts, StreamClosed

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder

TOGETHER = 4 * 1024 * 1024  # bytes of a pack that are fetched as one, where chunks lie near each other
GAP = 128 * 1024  # bytes between two chunks that are fetched along
AT_ONCE = 6
WANTED = 64  # chunks of a call that are looked at


class Loop:
    """One end of frames within this process; the other is `other`."""

    lanes = 1
    frame_target = FRAME_TARGET
    window = WINDOW

    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        self.up = self.down = UNLIMITED
        self.arrived = 0
        self.examine: Callable[[bytes | memoryview], object] | None = None
        self.examined: object = None
        self.other: Loop
        self._send, self._frames = trio.open_memory_channel[bytes](2)

    @classmethod
    def pair(cls, here: bytes, there: bytes) -> tuple[Loop, Loop]:
        """Return two ends."""
        one, other = cls(there), cls(here)
        one.other, other.other = other, one
        return one, other

    def running(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def send(self, frame: bytes | Parts, lane: int = 0, room: memoryview | None = None) -> None:
        try:
            await self.other._send.send(frame if isinstance(frame, bytes) else b"".join(frame))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise StreamClosed("the other end is closed") from None

    async def receive(self) -> bytes | None:
        try:
            frame = await self._frames.receive()
        except trio.EndOfChannel:
            return None
        except trio.ClosedResourceError:
            raise StreamClosed("closed") from None
        self.arrived += len(frame)
        return frame

    async def aclose(self) -> None:
        self.other._send.close()

    async def reset(self) -> None:
        self.other._send.close()
        self._frames.close()


class PackReader:
    """The packs of one folder as a source of chunks."""

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder
        self._slots = trio.Semaphore(AT_ONCE)

    # -- what the exchange asks --------------------------------------------------------------------------------------

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        return folder == self._folder.id

    def on_sent(self, peer: bytes, size: int) -> None:
        pass

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | memoryview | None]:
        """Return chunks from packs, None for those that cannot be had now, or that a device has as files."""
        wanted = ids[:WANTED]
        if self._has_files_elsewhere():
            return [None] * len(wanted)
        places = [self._place(chunk) for chunk in wanted]
        size = count = 0
        for place in places:
            size += place[0].size if place is not None else 0
            count += 1
            if size >= TOGETHER:
                break
        found: dict[bytes, bytes] = {}
        async with trio.open_nursery() as nursery:
            for group in _groups([(c, *p) for c, p in zip(wanted[:count], places, strict=False) if p is not None]):
                nursery.start_soon(self._fetch, group, found)
        lacking = [place[0].pack for place in places[:count] if place is not None]
        if lacking and not found:  # nobody who is known to hold them is there: perhaps the DHT knows others, or where
            await self._folder.packs.seek(self._folder, lacking[0])
        return [found.get(chunk) for chunk in wanted[:count]]

    def _has_files_elsewhere(self) -> bool:
        """Return whether a device is connected that has all of the folder as files."""
        there = self._folder.node.sessions
        return any(device in there for device in self._folder.ledger.plain())

    def _place(self, chunk: bytes) -> tuple[Packed, Declared] | None:
        for place in self._folder.chunks.places(chunk):
            declared = self._folder.ledger.declared(place.pack)
            if declared is not None:
                return place, declared
        return None

    async def _fetch(self, group: list[tuple[bytes, Packed, Declared]], found: dict[bytes, bytes]) -> None:
        """Fetch chunks of one pack that lie near each other."""
        folder = self._folder
        first, last = group[0][1], group[-1][1]
        declared = group[0][2]
        keys = folder.keys
        secret = keys.pack_of(declared.epoch) if keys is not None else None
        if keys is None or secret is None:
            return
        offset, length = first.offset, last.offset + last.size - first.offset

        async def opened(data: bytes) -> bool:
            view = memoryview(data)
            well = True
            for chunk, place, _ in group:
                at = place.offset - offset
                try:
                    plain = sealing.open_sealed(secret, chunk, view[at : at + place.size])
                except sealing.BadSeal:
                    well = False
                    continue
                if chunk_id(keys.content, plain) == chunk:
                    found[chunk] = plain
                else:
                    well = False
            return well

        async with self._slots:
            if declared.k:
                await self._read_split(first.pack, declared, offset, length, opened)
            else:
                await self._read_whole(first.pack, offset, length, opened)

    async def _read_whole(
        self, pack: bytes, offset: int, length: int, opened: Callable[[bytes], Awaitable[bool]]
    ) -> None:
        for device in self._there(pack, 0):
            data = await self._range(device, pack, 0, offset, length)
            if data is not None:
                if await opened(data):
                    return
                self._folder.packs.lied(self._folder, device, pack, "it sent bytes that do not open")

    async def _read_split(
        self, pack: bytes, declared: Declared, offset: int, length: int, opened: Callable[[bytes], Awaitable[bool]]
    ) -> None:
        """Read a part of a pack that is split: from the pieces that it lies in, or of any k at the same place."""
        coding = erasure.Coding(declared.k, declared.m)
        parts: list[bytes] = []
        for span in erasure.spans(coding, declared.size, offset, length):
            part = None
            for device in self._there(pack, span.piece):
                part = part or await self._range(device, pack, span.piece, span.start, span.length)
            parts.append(part or await self._column(pack, declared, coding, span) or b"")
        data = b"".join(parts)
        if len(data) == length and await opened(data):
            return
        if len(data) == length:  # one of them lied: whole pieces can be told from what was signed
            whole = await self._whole(pack, declared, coding)
            if whole is not None:
                await opened(whole[offset : offset + length])

    async def _column(
        self, pack: bytes, declared: Declared, coding: erasure.Coding, span: erasure.Span
    ) -> bytes | None:
        """Return a part of a data piece that nobody has, of the same part of k others, the first that come."""
        pieces: dict[int, bytes] = {}

        async def take(device: DeviceId, index: int, scope: trio.CancelScope) -> None:
            data = await self._range(device, pack, index, span.start, span.length)
            if data is not None and len(pieces) < declared.k:
                pieces[index] = data
                if len(pieces) == declared.k:
                    scope.cancel()

        async with trio.open_nursery() as nursery:
            for index in range(declared.pieces):
                for device in self._there(pack, index)[:1]:
                    nursery.start_soon(take, device, index, nursery.cancel_scope)
        if len(pieces) < declared.k:
            return None
        return bytes(erasure.rebuild_range(pieces, coding, [span.piece])[span.piece])

    async def _whole(self, pack: bytes, declared: Declared, coding: erasure.Coding) -> bytes | None:
        pieces: dict[int, bytes] = {}
        for index in range(declared.pieces):
            for device in self._there(pack, index):
                if index not in pieces and len(pieces) < declared.k:
                    data = await self._folder.packs.piece_of(self._folder, device, pack, index, declared)
                    if data is not None:
                        pieces[index] = data
        return bytes(erasure.decode(pieces, coding, declared.size)) if len(pieces) == declared.k else None

    async def _range(self, device: DeviceId, pack: bytes, index: int, offset: int, length: int) -> bytes | None:
        folder = self._folder
        if device == folder.node.key.id:
            return await folder.packs.giver.shelf_read(folder.id, pack, index, offset, length)
        try:
            return await folder.packs.client.get(device, folder.id, pack, index, offset, length)
        except (NotThere, StreamClosed):
            return None

    def _there(self, pack: bytes, index: int) -> list[DeviceId]:
        """Return who holds a piece and is connected, this device first."""
        folder, own = self._folder, self._folder.node.key.id
        found = [
            device
            for device, held in folder.ledger.claims_of(pack).items()
            if index in held and (device == own or device in folder.node.sessions)
        ]
        random.shuffle(found)
        return sorted(found, key=lambda device: device != own)


def _groups(wanted: list[tuple[bytes, Packed, Declared]]) -> list[list[tuple[bytes, Packed, Declared]]]:
    """Return the chunks in groups that lie near each other in one pack."""
    groups: list[list[tuple[bytes, Packed, Declared]]] = []
    for each in sorted(wanted, key=lambda want: (want[1].pack, want[1].offset)):
        place = each[1]
        if groups:
            first, last = groups[-1][0][1], groups[-1][-1][1]
            near = first.pack == place.pack and place.offset <= last.offset + last.size + GAP
            if near and place.offset + place.size - first.offset <= TOGETHER:
                groups[-1].append(each)
                continue
        groups.append([each])
    return groups
