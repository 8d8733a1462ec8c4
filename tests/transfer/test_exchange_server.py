"""Serving: each want is answered once, strangers learn nothing, rule breakers lose their stream and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from shoal.transfer.messages import (
    MAX_REQUESTS,
    Cancel,
    Chunks,
    Message,
    Missing,
    Want,
    decode,
    encode,
)
from shoal.transfer.server import serve
from shoal.transfer.stream import FRAME_TARGET, FrameStream

F = b"f" * 16
Make = Callable[..., Any]


def chunk(number: int) -> bytes:
    return number.to_bytes(32)


async def take(stream: FrameStream, places: int) -> tuple[dict[int, bytes], set[int], list[int]]:
    """Return chunks by place, missing places, and bytes of chunks a frame, once `places` are answered."""
    got: dict[int, bytes] = {}
    missing: set[int] = set()
    sizes: list[int] = []
    while len(got) + len(missing) < places:
        frame = await stream.receive()
        assert frame is not None
        message = decode(frame)
        if isinstance(message, Chunks):
            assert not {place for place, _ in message.chunks} & (got.keys() | missing)
            got |= {place: bytes(data) for place, data in message.chunks}
            sizes.append(sum(len(data) for _, data in message.chunks))
        else:
            assert isinstance(message, Missing)
            missing |= set(message.places)
    return got, missing, sizes


async def test_small_chunks_travel_many_to_a_frame_and_what_is_not_there_is_named(
    stream_pair: Make, source_of: Make
) -> None:
    client, server = stream_pair()
    source = source_of({chunk(n): bytes([n % 256]) * 4096 for n in range(1000) if n % 10})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, server, source)
        await client.send(encode(Want(7, F, tuple(chunk(n) for n in range(1000)))))
        got, missing, sizes = await take(client, 1000)
        assert got == {n: source.chunks[chunk(n)] for n in range(1000) if n % 10}
        assert missing == set(range(0, 1000, 10))
        assert max(sizes) <= FRAME_TARGET
        assert len(sizes) <= 1000 / 64 + 1
        assert source.sent == 900 * 4096
        await client.stream.aclose()
    assert await client.receive() is None


async def test_a_source_that_stops_early_is_asked_again(stream_pair: Make, source_of: Make) -> None:
    client, server = stream_pair()
    source = source_of({chunk(n): b"x" * 900_000 for n in range(5)}, at_once=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, server, source)
        await client.send(encode(Want(1, F, tuple(chunk(n) for n in range(5)))))
        got, _, sizes = await take(client, 5)
        assert len(got) == len(sizes) == 5
        await client.stream.aclose()


async def test_a_stranger_is_answered_as_if_the_folder_were_empty(stream_pair: Make, source_of: Make) -> None:
    client, server = stream_pair()
    source = source_of({chunk(1): b"secret"}, allowed=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, server, source)
        await client.send(encode(Want(1, F, (chunk(1), chunk(2)))))
        assert await take(client, 2) == ({}, {0, 1}, [])
        assert source.asked == []
        await client.stream.aclose()


async def test_after_a_cancel_the_rest_is_not_read(stream_pair: Make, source_of: Make) -> None:
    client, server = stream_pair(0)
    source = source_of(dict.fromkeys(map(chunk, range(500)), bytes(FRAME_TARGET)), at_once=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, server, source)
        await client.send(encode(Want(1, F, tuple(chunk(n) for n in range(500)))))
        await client.send(encode(Cancel(1)))
        await client.send(encode(Cancel(99)))
        got, missing, _ = await take(client, 500)
        assert len(source.asked) == len(got) < 20
        assert len(missing) == 500 - len(got)
        await client.stream.aclose()


async def test_a_peer_that_takes_nothing_costs_a_bounded_amount(
    stream_pair: Make, source_of: Make, autojump_clock: trio.abc.Clock
) -> None:
    client, server = stream_pair(0)
    source = source_of(dict.fromkeys(map(chunk, range(100)), bytes(FRAME_TARGET)), at_once=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, server, source)
        for number in range(MAX_REQUESTS):
            await client.send(encode(Want(number, F, tuple(chunk(n) for n in range(100)))))
        await trio.sleep(100)
        assert len(source.asked) < 6
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "messages",
    [
        [Missing(1, (0,))],
        [Chunks(1, [(0, b"x")])],
        [Want(1, F, (chunk(1),) * 2000), Want(1, F, (chunk(1),))],
    ],
)
async def test_breaking_the_protocol_ends_the_stream(
    stream_pair: Make, source_of: Make, messages: list[Message]
) -> None:
    client, server = stream_pair()
    async with trio.open_nursery() as nursery:
        for message in messages:
            await client.send(encode(message))
        nursery.start_soon(serve, server, source_of({}))
    assert server.stream.was_reset


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1Z", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"])
async def test_garbage_ends_the_stream(stream_pair: Make, source_of: Make, data: bytes) -> None:
    client, server = stream_pair()
    await client.stream.send_all(data)
    await client.stream.aclose()
    await serve(server, source_of({}))
    assert server.stream.was_reset


async def test_a_peer_that_vanishes_ends_serving(stream_pair: Make, source_of: Make) -> None:
    client, server = stream_pair(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, server, source_of({chunk(1): b"x" * 100}))
        await client.send(encode(Want(1, F, (chunk(1),) * 4000)))
        await client.stream.reset()
    assert server.stream.was_reset
