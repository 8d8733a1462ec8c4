"""A quicker way beside the stream: taken while there is much to fetch, and done without where it fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from shoal.transfer.chunking import chunk_id
from shoal.transfer.client import BULK_AGAIN, BULK_IDLE, Fetcher
from shoal.transfer.exchange import SILENCE, Landed
from shoal.transfer.server import serve
from shoal.transfer.stream import FrameStream, StreamClosed

F, KEY, PEER = b"f" * 16, b"k" * 32, b"p" * 32
MIB = 1 << 20
Make = Callable[..., Any]


class Counting:
    """A source that counts how often each chunk was read, and takes its time."""

    def __init__(self, source: Any, seconds: float = 0.0) -> None:
        self._source = source
        self._seconds = seconds
        self.read_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def read(self, folder: bytes, ids: list[bytes]) -> Any:
        await trio.sleep(self._seconds)
        found = await self._source.read(folder, ids)
        self.read_bytes += sum(map(len, filter(None, found)))
        return found


class Peer:
    """A holder with a stream and a bulk channel, both of memory."""

    def __init__(self, nursery: trio.Nursery, stream_pair: Make, source_of: Make, chunks: dict[bytes, bytes]) -> None:
        self._nursery = nursery
        self._pair = stream_pair
        self.by_stream = Counting(source_of(chunks, at_once=4), 0.01)
        self.by_bulk = Counting(source_of(chunks, at_once=4), 0.001)
        self.bulk_tried: list[float] = []
        self.bulk_fails = False
        self.bulk: FrameStream | None = None

    async def open_stream(self) -> FrameStream:
        mine, yours = self._pair(0)
        self._nursery.start_soon(serve, yours, self.by_stream)
        return mine  # type: ignore[no-any-return]

    async def open_bulk(self) -> FrameStream:
        self.bulk_tried.append(trio.current_time())
        await trio.sleep(0.05)
        if self.bulk_fails:
            raise StreamClosed("the port is blocked")
        mine, yours = self._pair(0)
        self.bulk = yours
        self._nursery.start_soon(serve, yours, self.by_bulk)
        return mine  # type: ignore[no-any-return]


def some_chunks(count: int, size: int = 200_000) -> dict[bytes, bytes]:
    source = random.Random(count)
    return {chunk_id(KEY, data): data for data in (source.randbytes(size) for _ in range(count))}


class Basket:
    """A sink that takes each chunk once; calls `after` once half of them came."""

    def __init__(self, half: int, after: Callable[[], Any]) -> None:
        self.got: dict[bytes, bytes] = {}
        self._half = half
        self._after: Callable[[], Any] | None = after

    async def __call__(self, landed: Landed) -> None:
        await trio.lowlevel.checkpoint()
        for chunk, data in landed:
            assert chunk not in self.got
            self.got[chunk] = bytes(data)
        if self._after is not None and len(self.got) >= self._half:
            after, self._after = self._after, None
            await after()


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


def wants(chunks: dict[bytes, bytes]) -> list[tuple[bytes, int]]:
    return [(chunk, len(data)) for chunk, data in chunks.items()]


async def test_much_goes_by_bulk_and_nothing_is_read_twice(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, fetcher = some_chunks(200), Fetcher()
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, stream_pair, source_of, chunks)
        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        basket = Basket(0, nothing)
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert peer.by_bulk.read_bytes > 30 * MIB
    assert peer.by_bulk.read_bytes + peer.by_stream.read_bytes == sum(map(len, chunks.values()))


async def test_little_goes_over_the_stream(stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock) -> None:
    chunks, fetcher = some_chunks(3), Fetcher()
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, stream_pair, source_of, chunks)
        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        await trio.testing.wait_all_tasks_blocked()
        basket = Basket(0, nothing)
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert peer.bulk_tried == []


async def test_a_blocked_port_costs_nothing_but_tries_that_become_rare(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, fetcher = some_chunks(500, 1000), Fetcher()
    chunks |= some_chunks(2500, 60_000)
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, stream_pair, source_of, chunks)
        peer.by_stream = Counting(source_of(chunks, at_once=4), 0.2)
        peer.bulk_fails = True
        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        basket = Basket(0, nothing)
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert peer.by_stream.read_bytes == sum(map(len, chunks.values()))
    pauses = [later - earlier for earlier, later in pairwise(peer.bulk_tried)]
    assert len(pauses) > 3
    assert all(later > 1.9 * earlier for earlier, later in pairwise(pauses))


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_bulk_channel_that_dies_in_the_middle_is_gone_on_without(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock, comes_back: bool
) -> None:
    chunks, fetcher = some_chunks(200), Fetcher()
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, stream_pair, source_of, chunks)
        if comes_back:
            peer.by_stream = Counting(source_of(chunks, at_once=1), 1.0)

        async def die() -> None:
            assert peer.bulk is not None
            peer.bulk_fails = not comes_back
            await peer.bulk.reset()

        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        basket = Basket(100, die)
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert peer.bulk_tried[1] - peer.bulk_tried[0] >= BULK_AGAIN if comes_back else len(peer.bulk_tried) >= 1
    assert peer.by_stream.read_bytes > 0
    if comes_back:
        assert len(peer.bulk_tried) == 2
    assert fetcher.stats.received == sum(map(len, chunks.values()))


async def test_a_bulk_channel_that_falls_silent_is_left(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, fetcher = some_chunks(100), Fetcher()
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, stream_pair, source_of, chunks)
        peer.by_bulk = Counting(source_of(chunks), 10 * SILENCE)
        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        basket = Basket(0, nothing)
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert peer.bulk_tried


async def test_an_idle_bulk_channel_is_closed_and_opened_again_when_there_is_much(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, fetcher = some_chunks(200), Fetcher()
    first = dict(list(chunks.items())[:100])
    second = dict(list(chunks.items())[100:])
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, stream_pair, source_of, chunks)
        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        basket = Basket(0, nothing)
        assert await fetcher.fetch(F, KEY, wants(first), basket) == []
        assert peer.bulk is not None
        await trio.sleep(2 * BULK_IDLE)
        assert await fetcher.fetch(F, KEY, wants(dict([second.popitem()])), basket) == []
        assert len(peer.bulk_tried) == 1
        assert await fetcher.fetch(F, KEY, wants(second), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert len(peer.bulk_tried) == 2


async def test_a_peer_that_lacks_what_is_wanted_is_not_dialled_again_and_again(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, fetcher = some_chunks(100), Fetcher()
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, stream_pair, source_of, {})
        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        nursery.start_soon(fetcher.hold, b"o" * 32, trio.sleep_forever)  # another may still be coming
        nursery.start_soon(fetcher.fetch, F, KEY, wants(chunks), Basket(0, nothing))
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert 2 <= len(peer.bulk_tried) <= 13


async def test_what_a_peer_lacks_is_named_whichever_way_is_open(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, fetcher = some_chunks(200), Fetcher()
    lacking = set(list(chunks)[::7])
    async with trio.open_nursery() as nursery:
        has = {chunk: data for chunk, data in chunks.items() if chunk not in lacking}
        peer = Peer(nursery, stream_pair, source_of, has)
        nursery.start_soon(fetcher.hold, PEER, peer.open_stream, peer.open_bulk)
        basket = Basket(0, nothing)
        assert set(await fetcher.fetch(F, KEY, wants(chunks), basket)) == lacking
        nursery.cancel_scope.cancel()
    assert basket.got == has
