"""The giving side of the exchange protocol: reads wants, sends chunks, a bounded number of bytes at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shoal.transfer.messages import FRAME_TARGET, BadMessage, Chunks, Missing, Want, decode, encode
from shoal.transfer.stream import FrameStream, FrameTooLarge, StreamClosed

BATCH = 64  # chunks read from the source at once, unless they are large


class ChunkSource(Protocol):
    """Where chunks come from."""

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        """Return whether the peer may have the folder's chunks."""
        ...

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | None]:
        """Return the chunks, each verified against its id, None where it is not here. May stop early: the result can
        be shorter than `ids`, never empty."""
        ...

    def on_sent(self, size: int) -> None:
        """`size` bytes of chunks went out."""
        ...


async def serve(stream: FrameStream, source: ChunkSource) -> None:
    """Answer wants until the peer ends the stream or breaks the protocol; never raises for what a peer does."""
    try:
        while (frame := await stream.receive()) is not None:
            want = decode(frame)
            if not isinstance(want, Want):
                raise BadMessage("only wants are understood here")
            await _answer(stream, source, want)
        await stream.stream.aclose()
    except (BadMessage, FrameTooLarge, StreamClosed):
        await stream.stream.reset()


async def _answer(stream: FrameStream, source: ChunkSource, want: Want) -> None:
    if not source.may_read(stream.peer, want.folder):
        await stream.send(encode(Missing(want.request, tuple(range(len(want.ids))))))
        return
    at = 0
    held: list[tuple[int, bytes]] = []
    size = 0
    missing: list[int] = []
    while at < len(want.ids):
        batch = await source.read(want.folder, want.ids[at : at + BATCH])
        for place, data in enumerate(batch, at):
            if data is None:
                missing.append(place)
                continue
            if held and size + len(data) > FRAME_TARGET:
                await _send(stream, source, want.request, held, size)
                held, size = [], 0
            held.append((place, data))
            size += len(data)
        at += len(batch)
    if held:
        await _send(stream, source, want.request, held, size)
    if missing:
        await stream.send(encode(Missing(want.request, tuple(missing))))


async def _send(
    stream: FrameStream, source: ChunkSource, request: int, held: Sequence[tuple[int, bytes]], size: int
) -> None:
    await stream.send(encode(Chunks(request, held)))
    source.on_sent(size)
