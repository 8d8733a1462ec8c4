"""Framed memory streams and a memory source for the tests of the exchange."""

import math
from collections.abc import Callable, Sequence

import pytest
import trio
from streams import stream_ends

from shoal.transfer.messages import MAX_FRAME
from shoal.transfer.stream import FrameStream


def memory_pair(buffered: float = 16) -> tuple[FrameStream, FrameStream]:
    """Return both ends of a stream: the one of peer `A`s, and the one of peer `B`s, named by whom they talk to."""
    mine, yours = stream_ends(b"B" * 32, b"A" * 32, buffered)
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

    def on_sent(self, peer: bytes, size: int) -> None:
        self.sent += size


@pytest.fixture
def stream_pair() -> Callable[..., tuple[FrameStream, FrameStream]]:
    return memory_pair


@pytest.fixture
def source_of() -> Callable[..., MemorySource]:
    return MemorySource
