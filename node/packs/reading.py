"""Chunks out of packs: for a device that has no other device with the files to fetch from, packs are one more holder.

It takes part in the exchange like a device (see `loop`), so that who fetches need not know. Each chunk is verified,
by its seal and by its id, before it is given on. As long as a device with the files is connected, that one is to give
them: only what is asked for again after a while comes from packs, whoever says to have all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId
from shoal.node.packs.rows import Packed
from shoal.node.packs.sheet import WHOLE, Form
from shoal.node.packs.wire import NotThere
from shoal.transfer import erasure, sealing
from shoal.transfer.chunking import chunk_id
from shoal.transfer.stream import StreamClosed

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder

TOGETHER = 4 * 1024 * 1024  # bytes of a pack that are fetched as one, where chunks lie near each other
GAP = 128 * 1024  # bytes between two chunks that are fetched along
AT_ONCE = 6
WANTED = 64  # chunks of a call that are looked at
LEFT_TO_FILES = 8.0  # seconds in which a device with the files is to give a chunk
MOST_LEFT = 100_000  # chunks that are remembered as left to those

Wanted = tuple[bytes, Packed, Form]


class PackReader:
    """The packs of one folder as a source of chunks."""

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder
        self._slots = trio.Semaphore(AT_ONCE)
        self._left: dict[bytes, float] = {}  # chunks that were left to devices with the files, since when

    # -- what the exchange asks --------------------------------------------------------------------------------------

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        return folder == self._folder.id

    def on_sent(self, peer: bytes, size: int) -> None:
        pass

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | memoryview | None]:
        """Return chunks from packs, None for those that cannot be had now, or are left to who has the files."""
        places: list[tuple[Packed, Form] | None] = []
        size = 0
        for chunk in ids[:WANTED]:
            places.append(None if self._is_left(chunk) else self._place(chunk))
            size += places[-1][0].size if places[-1] is not None else 0
            if size >= TOGETHER:
                break
        wanted = [(chunk, *place) for chunk, place in zip(ids, places, strict=False) if place is not None]
        found: dict[bytes, bytes] = {}
        async with trio.open_nursery() as nursery:
            for group in _groups(wanted):
                nursery.start_soon(self._fetch, group, found)
        if wanted and not found:  # nobody who is known to hold them is there: perhaps the DHT knows others, or where
            await self._folder.packs.seek(self._folder, wanted[0][1].pack)
        return [found.get(chunk) for chunk in ids[: len(places)]]

    def _is_left(self, chunk: bytes) -> bool:
        """Return whether a device with the files is to give a chunk."""
        there, now = self._folder.node.sessions, trio.current_time()
        if not any(device in there for device in self._folder.ledger.plain()):
            self._left.clear()
            return False
        if len(self._left) >= MOST_LEFT:
            self._left.clear()
        return now - self._left.setdefault(chunk, now) < LEFT_TO_FILES

    def _place(self, chunk: bytes) -> tuple[Packed, Form] | None:
        for place in self._folder.places(chunk):
            form = self._folder.ledger.form(place.pack)
            if form is not None:
                return place, form
        return None

    async def _fetch(self, group: list[Wanted], found: dict[bytes, bytes]) -> None:
        """Fetch chunks of one pack that lie near each other."""
        folder, (_, first, form), last = self._folder, group[0], group[-1][1]
        declared, keys = folder.ledger.declared(first.pack), folder.keys
        secret = keys.pack_of(declared.epoch) if keys is not None and declared is not None else None
        if keys is None or secret is None:
            return
        content = keys.content
        offset, length = first.offset, last.offset + last.size - first.offset

        def opened(data: bytes) -> bool:
            view, well = memoryview(data), True
            for chunk, place, _ in group:
                at = place.offset - offset
                try:
                    plain = sealing.open_sealed(secret, chunk, view[at : at + place.size])
                except sealing.BadSeal:
                    well = False
                    continue
                if chunk_id(content, plain) == chunk:
                    found[chunk] = plain
                else:
                    well = False
            return well

        async with self._slots:
            if await self._read_whole(first.pack, offset, length, opened):
                return
            if form.k and await self._read_split(first.pack, form, offset, length, opened):
                return
            # What lies is found in whole pieces, by what was signed of them; and it may be there in another form.
            whole = await folder.packs.source(folder).whole(first.pack, form)
            if whole is not None:
                opened(bytes(whole[offset : offset + length]))

    async def _read_whole(self, pack: bytes, offset: int, length: int, opened: Callable[[bytes], bool]) -> bool:
        for device in self._folder.there(pack, WHOLE):
            data = await self._range(device, pack, WHOLE, offset, length)
            if data is not None:
                if opened(data):
                    return True
                self._folder.packs.lied(self._folder, device, pack, "it sent bytes that do not open")
        return False

    async def _read_split(
        self, pack: bytes, form: Form, offset: int, length: int, opened: Callable[[bytes], bool]
    ) -> bool:
        """Read a part of a pack that is split: from the pieces that it lies in, or of any k at the same place."""
        coding = erasure.Coding(form.k, form.m)
        parts: list[bytes] = []
        for span in erasure.spans(coding, form.size, offset, length):
            part = None
            for device in self._folder.there(pack, form.part(span.piece)):
                part = part or await self._range(device, pack, form.part(span.piece), span.start, span.length)
            part = part or await self._column(pack, form, coding, span)
            if part is None:
                return False
            parts.append(part)
        return opened(b"".join(parts))

    async def _column(self, pack: bytes, form: Form, coding: erasure.Coding, span: erasure.Span) -> bytes | None:
        """Return a part of a data piece that nobody has, of the same part of k others, the first that come."""
        pieces: dict[int, bytes] = {}

        async def take(device: DeviceId, index: int, scope: trio.CancelScope) -> None:
            data = await self._range(device, pack, form.part(index), span.start, span.length)
            if data is not None and len(pieces) < form.k:
                pieces[index] = data
                if len(pieces) == form.k:
                    scope.cancel()

        async with trio.open_nursery() as nursery:
            for index in range(form.pieces):
                for device in self._folder.there(pack, form.part(index))[:1]:
                    nursery.start_soon(take, device, index, nursery.cancel_scope)
        if len(pieces) < form.k:
            return None
        return erasure.rebuild_range(pieces, coding, [span.piece])[span.piece]

    async def _range(self, device: DeviceId, pack: bytes, part: int, offset: int, length: int) -> bytes | None:
        folder = self._folder
        if device == folder.node.key.id:
            return await folder.packs.giver.held(folder.id, pack, part, offset, length)
        try:
            return await folder.packs.client.get(device, folder.id, pack, part, offset, length)
        except NotThere:
            folder.packs.withheld(folder, device, pack, part)
        except StreamClosed:
            pass
        return None


def _groups(wanted: list[Wanted]) -> list[list[Wanted]]:
    """Return the chunks in groups that lie near each other in one pack."""
    groups: list[list[Wanted]] = []
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
