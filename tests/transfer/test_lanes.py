"""A bulk channel at work, over real sockets: exchanges, cuts, and somebody in the middle."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Sequence, Set
from typing import Any

import pytest
import trio
import trio.lowlevel
from lanes import GIVER, joined_pair, lane_pair

from shoal.transfer.aead import Cipher
from shoal.transfer.buffers import SIZE, Buffers, shared
from shoal.transfer.bulk import LaidOut
from shoal.transfer.chunking import chunk_id
from shoal.transfer.client import Fetcher, Landed
from shoal.transfer.lanes import Lanes
from shoal.transfer.pace import Throttle, Way
from shoal.transfer.server import serve
from shoal.transfer.stream import FrameStream, StreamClosed

KEY = b"k" * 32
FOLDER = b"f" * 16
MIB = 1 << 20
Make = Callable[..., Any]


def some_chunks(*sizes: int) -> dict[bytes, bytes]:
    source = random.Random(5)
    return {chunk_id(KEY, data): data for data in map(source.randbytes, sizes)}


async def fetch_over(
    lanes: Lanes, chunks: dict[bytes, bytes], lacking: Set[bytes] = frozenset()
) -> tuple[dict[bytes, bytes], Fetcher]:
    """Fetch all chunks over one channel, which is opened once."""
    got: dict[bytes, bytes] = {}
    fetcher = Fetcher()
    left = [lanes]

    async def opened() -> Lanes:
        if not left:
            raise StreamClosed("once is enough")
        return left.pop()

    async def sink(landed: Landed) -> None:
        await trio.lowlevel.checkpoint()
        got.update((chunk, bytes(data)) for chunk, data in landed)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.hold, GIVER, opened)
        missing = await fetcher.fetch(FOLDER, KEY, [(chunk, len(data)) for chunk, data in chunks.items()], sink)
        assert set(missing) == lacking
        nursery.cancel_scope.cancel()
    return got, fetcher


@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("count", [1, 3])
async def test_chunks_of_all_sizes_come_over_any_number_of_lanes(source_of: Make, cipher: Cipher, count: int) -> None:
    chunks = some_chunks(*[100] * 200, *[30_000] * 40, *[MIB] * 12, 4 * MIB, 4 * MIB, 1)
    with joined_pair(count, cipher) as (taker, giver):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, giver, source_of(chunks))
            got, fetcher = await fetch_over(taker, chunks)
            nursery.cancel_scope.cancel()
        assert got == chunks
        assert fetcher.stats.received == sum(map(len, chunks.values()))


@pytest.mark.parametrize("lacking", [0, 1, 7])
async def test_chunks_that_were_read_into_their_frames_come_whole_and_in_any_batches(lacking: int) -> None:
    chunks = some_chunks(*[100] * 70, *[700_000] * 30, *[3 * MIB] * 3, *[5000] * 100, 4 * MIB)
    gone = set(list(chunks)[::20][:lacking])

    class Reading:
        def may_read(self, peer: bytes, folder: bytes) -> bool:
            return True

        async def read(self, folder: bytes, ids: Sequence[bytes]) -> LaidOut:
            await trio.lowlevel.checkpoint()
            taken: list[bytes] = []
            size = 0
            for chunk in ids[: source.randint(1, 64)]:
                if taken and size + len(chunks[chunk]) > 4 * MIB:
                    break
                taken.append(chunk)
                size += len(chunks[chunk])
            laid_out = LaidOut([len(chunks[chunk]) for chunk in taken], shared.take)
            for place, (chunk, view) in enumerate(zip(taken, list(laid_out), strict=True)):
                assert view is not None
                view[:] = chunks[chunk]
                if chunk in gone:
                    laid_out[place] = None
            return laid_out

        def on_sent(self, peer: bytes, size: int) -> None: ...

    source = random.Random(lacking)
    with joined_pair(2) as (taker, giver):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, giver, Reading())
            wanted = {chunk: data for chunk, data in chunks.items() if chunk not in gone}
            got, _ = await fetch_over(taker, chunks, gone)
            nursery.cancel_scope.cancel()
        assert got == wanted


async def test_a_lying_giver_is_found_out_in_the_thread_that_opened_its_frame(source_of: Make) -> None:
    chunks = some_chunks(MIB, MIB)
    lies = {chunk: bytes(len(data)) for chunk, data in chunks.items()}
    with joined_pair() as (taker, giver):
        fetcher = Fetcher()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def opened() -> Lanes:
                    return taker

                async def hold() -> None:
                    await fetcher.hold(GIVER, opened)  # returns: it lied
                    nursery.cancel_scope.cancel()

                nursery.start_soon(serve, giver, source_of(lies))
                nursery.start_soon(hold)
                await fetcher.fetch(FOLDER, KEY, [(chunk, MIB) for chunk in chunks], _drop)
        assert fetcher.stats.received == 0


async def _drop(landed: Landed) -> None:
    await trio.lowlevel.checkpoint()


async def test_frames_on_a_lane_keep_their_order_and_the_end_is_told() -> None:
    with joined_pair() as (one, other):
        frames = [bytes([n % 256]) * (1 if n % 3 else 100_000) for n in range(60)]
        got = []
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                async with one.running():
                    for frame in frames:
                        await one.send(frame)
                    await one.aclose()
                    assert await one.receive() is None

            nursery.start_soon(send)
            async with other.running():
                while (frame := await other.receive()) is not None:
                    got.append(bytes(frame))
                await other.aclose()
        assert got == frames


async def closed_by(lanes: Lanes) -> str:
    """Return what a channel that is only listened to ends with."""
    said = "the end"
    try:
        async with lanes.running():
            while await lanes.receive() is not None:
                pass
    except* StreamClosed as group:
        said = str(group.exceptions[0])
    return said


async def test_a_connection_that_ends_without_a_word_was_cut() -> None:
    with lane_pair() as (taker, _giver, ((near, _far),)):
        with trio.fail_after(10):
            near.close()
            assert "cut" in await closed_by(taker)


async def test_a_lane_that_breaks_breaks_all() -> None:
    with lane_pair(3) as (taker, _giver, middles):
        middles[2][0].close()
        with trio.fail_after(10):
            assert "cut" in await closed_by(taker)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_what_was_cut_in_the_middle_of_a_frame_is_not_given_out(size: int) -> None:
    with lane_pair() as (taker, giver, ((near, far),)):
        with trio.fail_after(10):
            async with giver.running():
                await giver.send(bytes(size))
                wire = await trio.to_thread.run_sync(far.recv, 1 << 20)
            await trio.to_thread.run_sync(near.sendall, wire[:-1])
            near.close()
            assert "cut" in await closed_by(taker)
        far.close()


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_changed_byte_ends_the_channel(size: int) -> None:
    with lane_pair() as (taker, giver, ((near, far),)):
        with trio.fail_after(10):
            async with giver.running():
                await giver.send(bytes(size))
                wire = bytearray(await trio.to_thread.run_sync(far.recv, 1 << 20))
            wire[len(wire) // 2] ^= 1
            await trio.to_thread.run_sync(near.sendall, wire)
            assert "does not open" in await closed_by(taker)


async def test_a_channel_that_is_cut_in_the_middle_is_gone_on_without(source_of: Make, stream_pair: Make) -> None:
    chunks = some_chunks(*[MIB] * 40)
    got: dict[bytes, bytes] = {}
    fetcher = Fetcher()
    source = source_of(chunks, at_once=1)
    with trio.fail_after(30), lane_pair() as (taker, giver, ((near, far),)):

        def carry(there: socket.socket, back: socket.socket, most: int) -> None:
            while most > 0 and (data := there.recv(min(most, 65536))):
                back.sendall(data)
                most -= len(data)
            for each in (there, back):
                each.shutdown(socket.SHUT_RDWR)

        async def open_stream() -> FrameStream:
            mine, yours = stream_pair()
            nursery.start_soon(serve, yours, source)
            return mine  # type: ignore[no-any-return]

        channels = [taker]

        async def open_bulk() -> Lanes:
            if not channels:
                raise StreamClosed("the port is blocked by now")
            return channels.pop()

        async def sink(landed: Landed) -> None:
            await trio.lowlevel.checkpoint()
            got.update((chunk, bytes(data)) for chunk, data in landed)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, carry, far, near, 10 * MIB + 1000)
            nursery.start_soon(trio.to_thread.run_sync, _carry_quietly, near, far)
            nursery.start_soon(serve, giver, source)
            nursery.start_soon(fetcher.hold, GIVER, open_stream, open_bulk)
            wants = [(chunk, len(data)) for chunk, data in chunks.items()]
            assert await fetcher.fetch(FOLDER, KEY, wants, sink) == []
            nursery.cancel_scope.cancel()
    assert got == chunks
    assert 0 < fetcher.stats.received_bulk < 10 * MIB
    assert fetcher.stats.received == 40 * MIB


def _carry_quietly(there: socket.socket, back: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := there.recv(65536):
            back.sendall(data)


async def test_who_stops_in_the_middle_of_a_large_frame_does_not_keep_a_cancelled_channel() -> None:
    with lane_pair() as (taker, giver, ((near, far),)):
        async with giver.running():
            await giver.send(bytes(200_000))
            wire = await trio.to_thread.run_sync(far.recv, 1 << 20)
        await trio.to_thread.run_sync(near.sendall, wire[:100_000])
        with trio.fail_after(10), trio.move_on_after(0.3):
            await closed_by(taker)


async def test_who_takes_nothing_does_not_keep_a_cancelled_channel() -> None:
    with lane_pair() as (_taker, giver, ((_near, _far),)), trio.fail_after(10), trio.move_on_after(0.3):
        async with giver.running():
            while True:
                await giver.send(bytes(1 << 20))


async def test_the_keys_are_wiped_when_the_channel_ends() -> None:
    with joined_pair(2) as (taker, _giver):
        async with taker.running():
            pass
        assert all(lane.keys.sending._key == lane.keys.receiving._key == bytes(32) for lane in taker._lanes)


async def test_the_channel_ends_with_the_stream_that_it_was_agreed_on_over(stream_pair: Make) -> None:
    one, other = socket.socketpair()
    control, far = stream_pair()
    lanes = Lanes(GIVER, [], 1000, control.stream)
    with trio.fail_after(10):
        await far.stream.reset()
        with pytest.RaisesGroup(StreamClosed):
            async with lanes.running():
                await trio.sleep_forever()
    one.close()
    other.close()


def test_a_buffer_is_used_again_when_nobody_sees_it_any_more() -> None:
    buffers = Buffers(most=3)
    first = buffers.take(MIB)
    first[:5] = b"first"
    part = first[:5]
    second = buffers.take(MIB)
    second[:6] = b"second"
    assert first.obj is not second.obj
    del first
    third = buffers.take(MIB)
    assert bytes(part) == b"first", "a part of it is still seen"
    assert third.obj is not part.obj
    was = id(second.obj)
    del second
    assert id(buffers.take(SIZE).obj) == was


def test_small_and_huge_buffers_are_not_kept() -> None:
    buffers = Buffers()
    assert len(buffers.take(10)) == 10
    assert len(buffers.take(SIZE + 1)) == SIZE + 1
    assert buffers._buffers == []


def test_kept_buffers_go_when_none_was_taken_for_a_while() -> None:
    buffers = Buffers()
    buffers.take(MIB)
    buffers.trim()
    assert len(buffers._buffers) == 1
    buffers.trim()
    assert buffers._buffers == []


async def test_a_channel_that_waits_for_a_limit_ends_when_it_is_to(source_of: Make) -> None:
    chunks = some_chunks(*[MIB] * 8)
    throttle = Throttle()
    with trio.fail_after(10), joined_pair(1) as (taker, giver):
        taker.down = giver.up = Way(throttle, lambda: False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, giver, source_of(chunks))
            nursery.start_soon(fetch_over, taker, chunks)
            while not taker.arrived:
                await trio.lowlevel.checkpoint()
            throttle.rate = 1000  # what came in one go until now takes an hour
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
