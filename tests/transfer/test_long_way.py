"""A way with a long round trip is filled: what is asked for ahead follows bandwidth times delay. In virtual time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from shoal.transfer import exchange, lanes, stream
from shoal.transfer.chunking import chunk_id
from shoal.transfer.client import Fetcher
from shoal.transfer.exchange import Landed
from shoal.transfer.messages import MAX_FRAME
from shoal.transfer.server import serve
from shoal.transfer.stream import FrameStream

F, KEY, PEER = b"f" * 16, b"k" * 32, b"p" * 32
MIB = 1 << 20
Make = Callable[..., Any]


class Way:
    """One direction of a link: so many bytes a second, each `delay` seconds late."""

    def __init__(self, delay: float, rate: float) -> None:
        self.delay = delay
        self.rate = rate
        self.free_at = 0.0
        self.queue: deque[tuple[float, bytes]] = deque()
        self.news = trio.Event()


class Far:
    """An end of a link, as a `ByteStream`. A sender waits until what it sent has left it."""

    def __init__(self, there: Way, back: Way) -> None:
        self.peer = PEER
        self._there, self._back = there, back

    async def send_all(self, data: bytes) -> None:
        way = self._there
        for at in range(0, len(data), 65536):
            piece = data[at : at + 65536]
            way.free_at = max(way.free_at, trio.current_time()) + len(piece) / way.rate
            way.queue.append((way.free_at + way.delay, piece))
            way.news.set()
            await trio.sleep_until(way.free_at)

    async def receive_some(self, max_bytes: int) -> bytes:
        way = self._back
        while not way.queue:
            way.news = trio.Event()
            await way.news.wait()
        await trio.sleep_until(way.queue[0][0])
        when, data = way.queue.popleft()
        if len(data) > max_bytes:
            way.queue.appendleft((when, data[max_bytes:]))
        return data[:max_bytes]

    async def aclose(self) -> None: ...

    async def reset(self) -> None: ...


BULK, STREAM = lanes.WINDOW, stream.WINDOW


@pytest.mark.parametrize(
    ("mbit", "ms", "window"),
    [(200, 100, BULK), (1000, 100, BULK), (200, 300, BULK), (1000, 2, BULK), (200, 100, STREAM), (200, 300, STREAM)],
)
async def test_a_long_way_is_filled(
    source_of: Make,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    mbit: float,
    ms: float,
    window: int,
) -> None:
    monkeypatch.setattr(exchange, "IN_THREAD", 1 << 40)  # threads do not live in virtual time
    rate, delay = mbit * 1e6 / 8, ms / 2000
    piece = random.Random(1).randbytes(MIB // 4 - 8)
    chunks = {chunk_id(KEY, data): data for data in (n.to_bytes(8) + piece for n in range(400))}
    there, back = Way(delay, rate), Way(delay, rate)
    fetcher = Fetcher()

    async def sink(landed: Landed) -> None:
        await trio.lowlevel.checkpoint()

    async def opened() -> FrameStream:
        frames = FrameStream(Far(there, back), MAX_FRAME)
        frames.window = window
        return frames

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, FrameStream(Far(back, there), MAX_FRAME), source_of(chunks, at_once=4))
        nursery.start_soon(fetcher.hold, PEER, opened)
        start = trio.current_time()
        assert await fetcher.fetch(F, KEY, [(chunk, len(data)) for chunk, data in chunks.items()], sink) == []
        seconds = trio.current_time() - start
        nursery.cancel_scope.cancel()
    assert sum(map(len, chunks.values())) / seconds > 0.8 * rate
