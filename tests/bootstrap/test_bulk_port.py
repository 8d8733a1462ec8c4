"""The bulk channel's port: who gets in, how two devices agree, and what strangers cost."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from streams import MemoryStream, stream_ends

from shoal.bootstrap import bulk
from shoal.bootstrap.bulk import BulkPort, dial, give_bulk, listen_for_bulk, open_bulk
from shoal.bootstrap.host import ListenError
from shoal.transfer import door
from shoal.transfer.aead import Cipher
from shoal.transfer.bulk import MAGIC, TOKEN_SIZE, Ask, BadBulk, Grant, LaneKeys, encode_offer, lane_keys, prelude
from shoal.transfer.door import FROM_ONE_ADDRESS, UNPROVEN
from shoal.transfer.lanes import Lanes
from shoal.transfer.stream import FrameStream, StreamClosed

GIVER, TAKER = b"G" * 32, b"T" * 32
HERE = "127.0.0.1"
TOKEN = b"t" * TOKEN_SIZE


@asynccontextmanager
async def listening(hosts: list[str] | None = None) -> AsyncIterator[BulkPort]:
    async with trio.open_nursery() as nursery:
        port = BulkPort([HERE] if hosts is None else hosts, 0)
        await nursery.start(port.run)
        yield port
        nursery.cancel_scope.cancel()


async def agree(giver: BulkPort, taker: BulkPort, lanes: int = 2) -> tuple[Lanes, Lanes]:
    """Return both ends of a channel that a giver and a taker agreed on."""
    asking, answering = stream_ends(GIVER, TAKER)
    made: list[Lanes | None] = []

    async def give() -> None:
        made.append(await give_bulk(answering, HERE, giver))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give)
        taken = await open_bulk(asking, HERE, taker, lanes)
    assert made[0] is not None
    return taken, made[0]


async def speak(taken: Lanes, given: Lanes) -> None:
    """Have each side say something on every lane, as far as it may, and hear it."""
    questions, answers = random.Random(1).randbytes(100_000), random.Random(2).randbytes(2_000_000)
    heard: list[object] = []
    try:
        async with given.running(), taken.running():
            await taken.send(questions)
            heard.append(await given.receive())
            async with trio.open_nursery() as nursery:
                for lane in range(given.lanes):
                    nursery.start_soon(given.send, answers, lane)
                for _ in range(given.lanes):
                    heard.append(await taken.receive())
    except* StreamClosed:  # one side leaves first
        pass
    assert heard == [questions, *[answers] * given.lanes]


@pytest.mark.parametrize("lanes", [1, 4])
async def test_a_taker_dials_the_giver(lanes: int) -> None:
    with trio.fail_after(20):
        async with listening() as giver, listening([]) as taker:
            await speak(*await agree(giver, taker, lanes))


async def test_a_giver_that_cannot_be_dialled_dials_the_taker() -> None:
    with trio.fail_after(20):
        async with listening([]) as giver, listening() as taker:
            await speak(*await agree(giver, taker))


async def test_a_giver_whose_port_is_blocked_dials_the_taker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "DIAL_SECONDS", 0.3)
    with trio.fail_after(20), socket.socket() as dead:
        dead.bind((HERE, 0))  # and nobody listens there
        async with listening() as giver, listening() as taker:
            giver.port = dead.getsockname()[1]
            await speak(*await agree(giver, taker))


async def test_where_neither_can_be_dialled_there_is_no_channel() -> None:
    with trio.fail_after(20):
        async with listening([]) as giver, listening([]) as taker:
            asking, answering = stream_ends(GIVER, TAKER)
            async with trio.open_nursery() as nursery:

                async def give() -> None:
                    with pytest.raises(StreamClosed):
                        await give_bulk(answering, HERE, giver)

                nursery.start_soon(give)
                with pytest.raises(StreamClosed, match="neither"):
                    await open_bulk(asking, HERE, taker, 1)


@pytest.mark.parametrize("answer", [b"N", b"", b"garbage", encode_offer(Ask(1, (1,)))])
async def test_a_refusal_and_nonsense_are_no_channel(answer: bytes) -> None:
    asking, answering = stream_ends(GIVER, TAKER)
    with trio.fail_after(10):
        async with listening([]) as taker:
            await FrameStream(answering).send(answer)
            with pytest.raises(StreamClosed):
                await open_bulk(asking, HERE, taker, 1)
    assert asking.was_reset


@pytest.mark.parametrize("question", [b"", b"garbage", b"N", b"B\x00\x01", b"B\x09\x01"])
async def test_a_giver_answers_no_nonsense(question: bytes) -> None:
    asking, answering = stream_ends(GIVER, TAKER)
    with trio.fail_after(10):
        async with listening() as giver:
            await FrameStream(asking).send(question)
            with pytest.raises(BadBulk):
                await give_bulk(answering, HERE, giver)


async def test_who_knows_no_common_cipher_is_refused() -> None:
    asking, answering = stream_ends(GIVER, TAKER)
    with trio.fail_after(10):
        async with listening() as giver:
            await FrameStream(asking).send(encode_offer(Ask(1, (99,))))
            assert await give_bulk(answering, HERE, giver) is None
            assert await FrameStream(asking).receive() == b"N"


# -- strangers ---------------------------------------------------------------------------------------------------------


def some_keys() -> tuple[LaneKeys, LaneKeys]:
    grant = Grant(Cipher.AEGIS_256, 1, b"s" * 32, (TOKEN,))
    return lane_keys(grant, "giver")[TOKEN], lane_keys(grant, "taker")[TOKEN]


async def said_to(port: BulkPort, *parts: bytes) -> bytes:
    """Connect, say this, and return what comes back until the connection ends."""
    stream = await trio.open_tcp_stream(HERE, port.port)
    heard = b""
    async with stream:
        try:
            for part in parts:
                await stream.send_all(part)
            await stream.send_eof()
            while data := await stream.receive_some():
                heard += data
        except trio.BrokenResourceError:
            pass
    return heard


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n" + bytes(100),
        MAGIC + b"?" * TOKEN_SIZE + bytes(32),
        MAGIC + TOKEN + bytes(32),
        MAGIC,
    ],
    ids=["nothing", "http", "unknown token", "right token, no key", "half"],
)
async def test_who_has_not_both_token_and_key_gets_no_answer_and_spends_no_token(said: bytes) -> None:
    mine, theirs = some_keys()
    with trio.fail_after(20):
        async with listening() as port, port.expecting({TOKEN: mine}) as arrived:
            assert await said_to(port, said) == b""
            [(connection, _)] = await dial(HERE, port.port, {TOKEN: theirs})
            connection.close()
            (await arrived.receive())[1].close()


async def test_a_recorded_beginning_is_worth_nothing_a_second_time() -> None:
    mine, theirs = some_keys()
    recorded = prelude(theirs, TOKEN)
    with trio.fail_after(20):
        async with listening() as port, port.expecting({TOKEN: mine}) as arrived:
            async with trio.open_nursery() as nursery:

                async def let_go() -> None:
                    (await arrived.receive())[1].close()

                nursery.start_soon(let_go)
                assert len(await said_to(port, recorded)) == 32
            assert await said_to(port, recorded) == b""


async def test_a_listener_without_the_key_is_found_out() -> None:
    _, theirs = some_keys()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def pretend(stream: trio.SocketStream) -> None:
                await stream.receive_some()
                await stream.send_all(bytes(32))

            listeners = await nursery.start(trio.serve_tcp, pretend, 0)
            port = listeners[0].socket.getsockname()[1]
            with pytest.raises(StreamClosed):
                await dial(HERE, port, {TOKEN: theirs})
            nursery.cancel_scope.cancel()


async def test_who_says_nothing_is_dropped_and_those_beyond_the_limit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PROOF_SECONDS", 1.0)
    mine, theirs = some_keys()
    with trio.fail_after(20):
        async with listening() as port, port.expecting({TOKEN: mine}) as arrived:
            silent = [await trio.open_tcp_stream(HERE, port.port) for _ in range(FROM_ONE_ADDRESS)]
            await trio.testing.wait_all_tasks_blocked(0.05)
            beyond = await trio.open_tcp_stream(HERE, port.port)
            assert await beyond.receive_some() == b""
            for stream in silent:
                assert await stream.receive_some() == b"", "after its time was up"
                await stream.aclose()
            await beyond.aclose()
            [(connection, _)] = await dial(HERE, port.port, {TOKEN: theirs})
            connection.close()
            (await arrived.receive())[1].close()
    assert UNPROVEN > FROM_ONE_ADDRESS == door.FROM_ONE_ADDRESS


def test_a_device_is_given_a_bounded_number_of_channels() -> None:
    port = BulkPort([], 0)
    assert [port.admit(TAKER) for _ in range(bulk.OF_ONE_DEVICE + 1)] == [True] * bulk.OF_ONE_DEVICE + [False]
    assert port.admit(GIVER)
    port.release(TAKER)
    assert port.admit(TAKER)
    assert sum(port.admit(bytes([n]) * 32) for n in range(200)) == bulk.AT_ONCE - bulk.OF_ONE_DEVICE - 1


async def test_when_the_libp2p_stream_ends_the_channel_does() -> None:
    with trio.fail_after(20):
        async with listening() as giver, listening() as taker:
            taken, given = await agree(giver, taker)
            assert isinstance(taken._control, MemoryStream)
            async with trio.open_nursery() as nursery:

                async def idle() -> None:
                    with pytest.RaisesGroup(StreamClosed):
                        async with given.running():
                            await given.receive()

                nursery.start_soon(idle)
                await trio.testing.wait_all_tasks_blocked(0.05)
                await taken._control.reset()
            for connection in (lane.connection for lane in taken._lanes):
                connection.close()


# -- listening ---------------------------------------------------------------------------------------------------------


def test_the_usual_port_is_taken_where_it_is_free_and_any_other_where_not() -> None:
    listen = [f"/ip4/{HERE}/tcp/1"]
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        taken.listen()
        port = taken.getsockname()[1]
        bulk_port = BulkPort([HERE], port)
        assert bulk_port.port not in (0, port)
        bulk_port.close()
        with pytest.raises(ListenError, match="in use"):
            listen_for_bulk(listen, port)
    bulk_port = listen_for_bulk([*listen, "/ip6/::1/tcp/1"], 0)
    assert bulk_port.port
    assert len(bulk_port._sockets) == 2
    bulk_port.close()


async def test_who_proves_itself_after_the_channel_was_used_and_ended_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with trio.fail_after(20):
        async with listening() as giver, listening([]) as taker:
            early: list[socket.socket] = []
            expect = giver._door.expect

            def expect_and_be_visited(keys: Mapping[bytes, LaneKeys], now: float) -> None:
                expect(keys, now)
                early.append(socket.create_connection((HERE, giver.port)))
                early[0].sendall(MAGIC + next(iter(keys)))

            monkeypatch.setattr(giver._door, "expect", expect_and_be_visited)
            await speak(*await agree(giver, taker, 1))
            monkeypatch.undo()
            visitor = trio.SocketStream(trio.socket.from_stdlib_socket(early[0]))
            await visitor.send_all(bytes(32))
            with suppress(trio.BrokenResourceError):
                assert await visitor.receive_some(100) == b""
            await visitor.aclose()
            await speak(*await agree(giver, taker, 1))
