"""Byte streams in memory, as libp2p's behave: short reads, a clean end, a reset that both sides feel."""

from __future__ import annotations

import contextlib

import trio

from shoal.transfer.stream import StreamClosed

SHORT_READ = 65_524  # as libp2p's


class MemoryStream:
    """One end of an in-memory byte stream: short reads, a clean end, and a reset that both sides feel."""

    def __init__(
        self, peer: bytes, outgoing: trio.MemorySendChannel[bytes], incoming: trio.MemoryReceiveChannel[bytes]
    ) -> None:
        self._peer = peer
        self._out = outgoing
        self._in = incoming
        self._rest = memoryview(b"")
        self.was_reset = False
        self.sent = 0

    @property
    def peer(self) -> bytes:
        return self._peer

    async def receive_some(self, max_bytes: int) -> bytes:
        if not self._rest:
            try:
                self._rest = memoryview(await self._in.receive())
            except trio.EndOfChannel:
                return b""
            except trio.ClosedResourceError as error:
                raise StreamClosed("reset") from error
            if not self._rest:
                raise StreamClosed("reset by the other side")
        data = bytes(self._rest[: min(max_bytes, SHORT_READ)])
        self._rest = self._rest[len(data) :]
        return data

    async def send_all(self, data: bytes) -> None:
        try:
            await self._out.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamClosed("gone") from error
        self.sent += len(data)

    async def aclose(self) -> None:
        self._out.close()

    async def reset(self) -> None:
        self.was_reset = True
        with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._out.send_nowait(b"")
        self._out.close()
        self._in.close()


def stream_ends(one: bytes, other: bytes, buffered: float = 16) -> tuple[MemoryStream, MemoryStream]:
    """Return both ends of a stream: the one that talks to peer `one`, and the one that talks to `other`."""
    there, back = trio.open_memory_channel[bytes](buffered), trio.open_memory_channel[bytes](buffered)
    return MemoryStream(one, there[0], back[1]), MemoryStream(other, back[0], there[1])
