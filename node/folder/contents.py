"""Whole contents by their chunks, wherever they are to be had: for merging, and for showing what differs."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from shoal.crdt.model import Content, FileContent, LinkContent
from shoal.node.folder.arriving import Fetch, Landed
from shoal.node.folder.bases import TextBases
from shoal.node.folder.reading import ChunkReader
from shoal.transfer.chunking import chunk_id
from shoal.transfer.scheduler import URGENT

ASKS = 3.0  # seconds for which others are asked for what is not here


class Contents:
    """Reads contents of one folder."""

    def __init__(self, reader: ChunkReader, bases: TextBases, fetch: Fetch, key: bytes) -> None:
        self._reader = reader
        self._bases = bases
        self._fetch = fetch
        self._key = key

    async def whole(self, contents: Sequence[Content], *, ask: bool = True) -> list[bytes | None]:
        """Return the bytes of each, None where they are not to be had; of a link, its target. Files are read into
        memory: the caller looks at their sizes first."""
        wanted = {
            bytes(chunk): length
            for content in contents
            if isinstance(content, FileContent)
            for chunk, length in content.refs()
        }
        found = await self._here(list(wanted))
        lacking = [(chunk, length) for chunk, length in wanted.items() if chunk not in found]
        if lacking and ask:

            async def sink(landed: Landed) -> None:
                found.update((chunk, bytes(data)) for chunk, data in landed if chunk_id(self._key, data) == chunk)

            with trio.move_on_after(ASKS):
                await self._fetch(lacking, sink, URGENT)
        return [_joined(content, found) for content in contents]

    async def _here(self, chunks: list[bytes]) -> dict[bytes, bytes]:
        found = {chunk: data for chunk in chunks if (data := self._bases.get(chunk)) is not None}
        asked = [chunk for chunk in chunks if chunk not in found]
        while asked:
            read, _ = await self._reader.read(asked)
            found |= {chunk: bytes(data) for chunk, data in zip(asked, read, strict=False) if data is not None}
            asked = asked[max(1, len(read)) :]
        return found


def _joined(content: Content, chunks: dict[bytes, bytes]) -> bytes | None:
    if isinstance(content, LinkContent):
        return content.target.encode("utf-8", "surrogateescape")
    if not isinstance(content, FileContent):
        return None
    pieces = [chunks.get(bytes(chunk)) for chunk, _ in content.refs()]
    whole = b"".join(piece for piece in pieces if piece is not None)
    return whole if None not in pieces and len(whole) == content.size else None
