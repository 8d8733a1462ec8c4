"""Fetching: every chunk once and verified, whatever the holders do; what nobody has is named."""

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from shoal.transfer.chunking import chunk_id
from shoal.transfer.client import Fetcher
from shoal.transfer.exchange import SILENCE, Landed
from shoal.transfer.messages import Cancel, Chunks, Missing, Want, decode, encode
from shoal.transfer.scheduler import PATIENCE
from shoal.transfer.server import serve
from shoal.transfer.stream import FrameStream, StreamClosed

F = b"f" * 16
KEY = b"k" * 32
A, B, C = (bytes([n]) * 32 for n in range(3))
Make = Callable[..., Any]


def some_chunks(count: int, size: int = 2000, seed: int = 1) -> dict[bytes, bytes]:
    rng = random.Random(seed)
    made = [rng.randbytes(size + n % 7) for n in range(count)]
    return {chunk_id(KEY, data): data for data in made}


def wants(chunks: dict[bytes, bytes]) -> list[tuple[bytes, int]]:
    return [(chunk, len(data)) for chunk, data in chunks.items()]


class Basket:
    """A sink that takes each chunk once."""

    def __init__(self) -> None:
        self.got: dict[bytes, bytes] = {}
        self.calls = 0

    async def __call__(self, landed: Landed) -> None:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        for chunk, data in landed:
            assert chunk not in self.got
            self.got[chunk] = bytes(data)


class Net:
    """Holders that run `serve`, or an act of their own, behind memory streams."""

    def __init__(self, nursery: trio.Nursery, stream_pair: Make, buffered: float = 16) -> None:
        self.nursery = nursery
        self.stream_pair = stream_pair
        self.buffered = buffered
        self.opened: list[FrameStream] = []

    def holder(self, act: Callable[[FrameStream], Any]) -> Callable[[], Any]:
        async def open_stream() -> FrameStream:
            mine, yours = self.stream_pair(self.buffered)
            self.opened.append(mine)
            self.nursery.start_soon(act, yours)
            return mine  # type: ignore[no-any-return]

        return open_stream

    def serving(self, source: Any) -> Callable[[], Any]:
        return self.holder(lambda stream: serve(stream, source))


@pytest.mark.parametrize(("count", "size"), [(3000, 500), (40, 1_000_000), (1, 4 * 1024 * 1024 - 1), (1, 0)])
async def test_all_chunks_come_once(stream_pair: Make, source_of: Make, count: int, size: int) -> None:
    chunks, basket, fetcher = some_chunks(count, size), Basket(), Fetcher()
    async with trio.open_nursery() as nursery:
        source = source_of(chunks)
        nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source))
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    total = sum(map(len, chunks.values()))
    assert (fetcher.stats.received, fetcher.stats.received_from[A]) == (total, total)
    assert sorted(source.asked) == sorted(chunks)


async def test_nothing_wanted_is_done_at_once() -> None:
    assert await Fetcher().fetch(F, KEY, [], Basket()) == []


async def test_holders_with_parts_complete_each_other_and_what_nobody_has_is_named(
    stream_pair: Make, source_of: Make
) -> None:
    chunks, basket, fetcher = some_chunks(300), Basket(), Fetcher()
    names = list(chunks)
    async with trio.open_nursery() as nursery:
        net = Net(nursery, stream_pair)
        parts = {A: names[:150], B: names[100:290], C: []}
        for peer, held in parts.items():
            nursery.start_soon(fetcher.hold, peer, net.serving(source_of({c: chunks[c] for c in held})))
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(await fetcher.fetch(F, KEY, wants(chunks), basket)) == sorted(names[290:])
        nursery.cancel_scope.cancel()
    assert basket.got.keys() == set(names[:290])


async def test_a_fetch_waits_for_a_holder_to_come(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, basket, fetcher = some_chunks(5), Basket(), Fetcher()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.fetch, F, KEY, wants(chunks), basket)
        await trio.sleep(3600)
        nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source_of(chunks)))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert basket.got == chunks


async def test_a_break_in_the_middle_is_resumed_without_fetching_a_chunk_twice(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, basket, fetcher = some_chunks(200, 20_000), Basket(), Fetcher()
    source = source_of(chunks, at_once=1)

    async def breaking(stream: FrameStream) -> None:
        with trio.move_on_after(0.5):
            await serve(stream, source)
        await stream.stream.reset()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        async def read(self, folder: bytes, ids: list[bytes]) -> Any:
            await trio.sleep(0.01)
            return await real.read(folder, ids)

    real, source = source, Slow()
    async with trio.open_nursery() as nursery:
        net = Net(nursery, stream_pair, 0)
        nursery.start_soon(fetcher.hold, A, net.holder(breaking))
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert len(net.opened) >= 3
    assert fetcher.stats.received == sum(map(len, chunks.values()))


async def test_a_lying_holder_is_left_and_the_others_give_what_it_owed(stream_pair: Make, source_of: Make) -> None:
    chunks, basket, fetcher = some_chunks(100), Basket(), Fetcher()
    lies = {chunk: bytes(len(data)) for chunk, data in chunks.items()}
    async with trio.open_nursery() as nursery:
        net = Net(nursery, stream_pair)
        async with trio.open_nursery() as fetches:
            fetches.start_soon(fetcher.fetch, F, KEY, wants(chunks), basket)
            await fetcher.hold(A, net.serving(source_of(lies)))
            assert basket.got == {}
            nursery.start_soon(fetcher.hold, B, net.serving(source_of(chunks)))
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert fetcher.stats.received_from[A] == 0


async def test_a_chunk_of_a_wrong_length_counts_as_missing(stream_pair: Make, source_of: Make) -> None:
    chunks, basket, fetcher = some_chunks(3), Basket(), Fetcher()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source_of(chunks)))
        asked = wants(chunks)
        asked[1] = (asked[1][0], asked[1][1] + 1)
        assert await fetcher.fetch(F, KEY, asked, basket) == [asked[1][0]]
        nursery.cancel_scope.cancel()
    assert len(basket.got) == 2


@pytest.mark.parametrize(
    "answers",
    [
        [Missing(1, (0, 0))],
        [Missing(2, (0,))],
        [Chunks(1, [(5000, b"x")])],
        [Want(1, F, (bytes(32),))],
        [Missing(1, tuple(range(9))), Missing(1, (0,))],
    ],
)
async def test_a_holder_that_breaks_the_protocol_loses_its_stream_alone(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock, answers: list[Any]
) -> None:
    chunks, basket, fetcher = some_chunks(10), Basket(), Fetcher()

    async def act(stream: FrameStream) -> None:
        with contextlib.suppress(StreamClosed):
            await stream.receive()
            for answer in answers:
                await stream.send(encode(answer))
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        net = Net(nursery, stream_pair)
        nursery.start_soon(fetcher.hold, A, net.holder(act))
        await trio.sleep(0.1)
        nursery.start_soon(fetcher.fetch, F, KEY, wants(chunks), basket)
        await trio.sleep(0.1)
        assert net.opened[0].stream.was_reset  # type: ignore[attr-defined]
        nursery.start_soon(fetcher.hold, B, net.serving(source_of(chunks)))
        await trio.sleep(SILENCE * 4)
        nursery.cancel_scope.cancel()
    assert basket.got == chunks


@pytest.mark.parametrize("others", [0, 1])
async def test_a_holder_that_falls_silent_is_replaced(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock, others: int
) -> None:
    chunks, basket, fetcher = some_chunks(10), Basket(), Fetcher()
    streams = 0

    async def act(stream: FrameStream) -> None:
        nonlocal streams
        streams += 1
        if streams == 1:
            await trio.sleep_forever()
        await serve(stream, source_of(chunks))

    async with trio.open_nursery() as nursery:
        net = Net(nursery, stream_pair)
        nursery.start_soon(fetcher.hold, A, net.holder(act))
        await trio.sleep(1)
        start = trio.current_time()
        nursery.start_soon(fetcher.hold, B, net.serving(source_of(chunks if others else {})))
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        assert trio.current_time() - start <= (2 * PATIENCE if others else 2 * SILENCE)
        nursery.cancel_scope.cancel()
    assert basket.got == chunks


async def test_fetches_share_a_chunk_that_both_want(stream_pair: Make, source_of: Make) -> None:
    chunks, fetcher = some_chunks(50), Fetcher()
    baskets = [Basket(), Basket()]
    source = source_of(chunks)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as fetches:
            for basket in baskets:
                fetches.start_soon(fetcher.fetch, F, KEY, wants(chunks), basket)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source))
        nursery.cancel_scope.cancel()
    assert [basket.got for basket in baskets] == [chunks, chunks]
    assert len(source.asked) == 50


async def test_what_the_sink_raises_ends_its_fetch_and_no_other(stream_pair: Make, source_of: Make) -> None:
    chunks, basket, fetcher = some_chunks(100), Basket(), Fetcher()

    async def full_disk(landed: Landed) -> None:
        raise OSError(28, "No space left on device")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source_of(chunks)))
        with pytest.raises(OSError, match="No space"):
            await fetcher.fetch(F, KEY, wants(chunks), full_disk)
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks


async def test_a_slow_sink_bounds_what_is_asked_for(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, fetcher = some_chunks(150, 200_000), Fetcher()
    source = source_of(chunks, at_once=4)

    async def stuck(landed: Landed) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source))
        with trio.move_on_after(60):
            await fetcher.fetch(F, KEY, wants(chunks), stuck)
        assert 0 < len(source.asked) < 100
        basket = Basket()
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        assert basket.got == chunks
        nursery.cancel_scope.cancel()


async def test_a_cancelled_fetch_tells_the_holder_to_stop(stream_pair: Make, autojump_clock: trio.abc.Clock) -> None:
    chunks, fetcher = some_chunks(10), Fetcher()
    seen: list[Any] = []

    async def act(stream: FrameStream) -> None:
        while frame := await stream.receive():
            seen.append(decode(frame))
            if isinstance(seen[-1], Cancel):
                await stream.send(encode(Missing(seen[-1].request, tuple(range(10)))))
            elif len(seen) == 3:
                await stream.send(encode(Chunks(2, list(enumerate(chunks.values())))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).holder(act))
        with trio.move_on_after(5):
            await fetcher.fetch(F, KEY, wants(chunks), Basket())
        await trio.sleep(1)
        assert [type(message) for message in seen] == [Want, Cancel]
        basket = Basket()
        # What the cancelled request's answer called missing is not taken for missing.
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        assert basket.got == chunks
        nursery.cancel_scope.cancel()


async def test_urgent_chunks_overtake(stream_pair: Make, source_of: Make) -> None:
    bulk, small, fetcher = some_chunks(40, 1_000_000), some_chunks(1, 10, seed=2), Fetcher()
    source = source_of(bulk | small, at_once=1)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as fetches:
            fetches.start_soon(fetcher.fetch, F, KEY, wants(bulk), Basket())
            await trio.testing.wait_all_tasks_blocked()
            fetches.start_soon(fetcher.fetch, F, KEY, wants(small), Basket(), -1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source))
        nursery.cancel_scope.cancel()
    assert source.asked[0] in small


async def test_a_holder_that_gained_content_is_asked_again(stream_pair: Make, source_of: Make) -> None:
    chunks, basket, fetcher = some_chunks(4), Basket(), Fetcher()
    names = list(chunks)
    source = source_of({names[0]: chunks[names[0]]})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.hold, A, Net(nursery, stream_pair).serving(source))
        assert len(await fetcher.fetch(F, KEY, wants(chunks), basket)) == 3
        source.chunks = chunks
        fetcher.retry_missing(A)
        rest = [each for each in wants(chunks) if each[0] != names[0]]
        assert await fetcher.fetch(F, KEY, rest, basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks


async def test_a_stream_that_cannot_be_opened_is_tried_again_more_and_more_seldom(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    chunks, basket, fetcher = some_chunks(2), Basket(), Fetcher()
    tried: list[float] = []

    async with trio.open_nursery() as nursery:
        good = Net(nursery, stream_pair).serving(source_of(chunks))

        async def open_stream() -> FrameStream:
            tried.append(trio.current_time())
            if len(tried) < 8:
                raise StreamClosed("not connected")
            stream: FrameStream = await good()
            return stream

        nursery.start_soon(fetcher.hold, A, open_stream)
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
    assert tried[-1] - tried[-2] > 10 * (tried[1] - tried[0])


async def test_two_streams_to_one_peer_at_once_do_no_harm(stream_pair: Make, source_of: Make) -> None:
    chunks, basket, fetcher = some_chunks(500), Basket(), Fetcher()
    async with trio.open_nursery() as nursery:
        net = Net(nursery, stream_pair)
        async with trio.open_nursery() as first:
            first.start_soon(fetcher.hold, A, net.serving(source_of(chunks)))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(fetcher.hold, A, net.serving(source_of(chunks)))
            await trio.testing.wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        assert await fetcher.fetch(F, KEY, wants(chunks), basket) == []
        nursery.cancel_scope.cancel()
    assert basket.got == chunks
