"""Memory streams and a memory source for the tests of the exchange."""

import contextlib
import math
from collections.abc import Callable, Sequence

import pytest
import trio

from shoal.transfer.messages import MAX_FRAME
from shoal.transfer.stream import FrameStream, StreamClosed

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


def memory_pair(buffered: float = 16) -> tuple[FrameStream, FrameStream]:
    """Return both ends of a stream: the one of peer `A`s, and the one of peer `B`s, named by whom they talk to."""
    there, back = trio.open_memory_channel[bytes](buffered), trio.open_memory_channel[bytes](buffered)
    mine = MemoryStream(b"B" * 32, there[0], back[1])
    yours = MemoryStream(b"A" * 32, back[0], there[1])
    return FrameStream(mine, MAX_FRAME), FrameStream(yours, MAX_FRAME)


class MemorySource:
    """A `ChunkSource` over a dict."""

    def __init__(self, chunks: dict[bytes, bytes], allowed: bool = True, at_once: float = math.inf) -> None:
        self.chunks = chunks
        self.allowed = allowed
        self.at_once = at_once
        self.asked: list[bytes] = []
        self.sent = 0

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        return self.allowed

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | None]:
        await trio.lowlevel.checkpoint()
        ids = ids[: max(1, int(min(self.at_once, len(ids))))]
        self.asked += ids
        return [self.chunks.get(each) for each in ids]

    def on_sent(self, size: int) -> None:
        self.sent += size


@pytest.fixture
def stream_pair() -> Callable[..., tuple[FrameStream, FrameStream]]:
    return memory_pair


@pytest.fixture
def source_of() -> Callable[..., MemorySource]:
    return MemorySource
