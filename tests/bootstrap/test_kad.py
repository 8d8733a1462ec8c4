"""The DHT's questions over real hosts on loopback: carried, bounded, and tidied up after."""

from __future__ import annotations

import gc
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import nacl.signing
import pytest
import trio

from shoal.bootstrap import kad
from shoal.bootstrap.host import Host, run_host
from shoal.bootstrap.kad import PROTOCOL, Framed, KadStreams
from shoal.bootstrap.peerid import peer_id_bytes
from shoal.crdt.model import DeviceId
from shoal.dht.driver import Dht, Unanswered
from shoal.dht.keyspace import PeerId
from shoal.dht.messages import MAX_MESSAGE, Message, Type
from shoal.dht.protobuf import Malformed, varint
from shoal.dht.table import MemoryTable
from shoal.transfer.stream import ByteStream, StreamClosed

pytestmark = pytest.mark.filterwarnings("ignore")  # py-libp2p leaks sockets and generators as it closes

PING = Message(Type.PING).encode()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@asynccontextmanager
async def peer(number: int, barred: set[DeviceId] | None = None) -> AsyncIterator[tuple[Host, KadStreams]]:
    """A host that serves the DHT."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"
    seed = bytes([number]) * 32
    async with run_host(seed, [listen]) as host:
        streams = KadStreams(host, set, lambda device: device in (barred or set()))
        streams.dht = Dht(
            PeerId(peer_id_bytes(host.device)),
            streams,
            MemoryTable(),
            own_addresses=lambda: [listen],
            sign=lambda data: nacl.signing.SigningKey(seed).sign(data).signature,
            wall=lambda: 1e9,
            rng=random.Random(number),
        )
        streams.serve_others(True)
        yield host, streams


def where(host: Host) -> tuple[PeerId, tuple[str, ...]]:
    return PeerId(peer_id_bytes(host.device)), tuple(each.split("/p2p/")[0] for each in host.addresses())


async def raw(asker: Host, asked: Host) -> ByteStream:
    """Return a stream of the protocol, to say anything on."""
    await asker.connect(asked.device, asked.addresses())
    return await asker.open(asked.device, PROTOCOL)


async def test_a_question_is_answered_and_its_stream_used_for_the_next() -> None:
    async with peer(1) as (_, asks), peer(2) as (there, _):
        for _ in range(3):
            assert Message.decode(await asks.ask(*where(there), PING)) == Message(Type.PING)
        assert len(asks._idle[there.device]) == 1


async def test_who_does_not_serve_is_unanswered() -> None:
    async with peer(1) as (_, asks), peer(2) as (there, served):
        served.serve_others(False)
        with pytest.raises(Unanswered):
            await asks.ask(*where(there), PING)


async def test_who_is_not_there_is_unanswered() -> None:
    async with peer(1) as (_, asks):
        gone = PeerId(peer_id_bytes(DeviceId(bytes(nacl.signing.SigningKey(b"g" * 32).verify_key))))
        with pytest.raises(Unanswered):
            await asks.ask(gone, ("/ip4/127.0.0.1/tcp/1",), PING)


async def test_a_stream_that_the_other_ended_costs_a_second_one_and_no_answer() -> None:
    async with peer(1) as (_, asks), peer(2) as (there, served):
        await asks.ask(*where(there), PING)
        for each in list(served._serving):
            each.scope.cancel()
        await trio.sleep(0.2)
        assert await asks.ask(*where(there), PING)


@pytest.mark.parametrize("said", [varint(MAX_MESSAGE + 1), b"\xff" * 5, varint(3) + b"\x08\x09\x00"])
async def test_what_is_no_message_ends_its_stream_and_nothing_else(said: bytes) -> None:
    async with peer(1) as (asker, asks), peer(2) as (there, _):
        stream = await raw(asker, there)
        await stream.send_all(said)
        with trio.fail_after(5):
            assert await _ends(stream)
        assert await asks.ask(*where(there), PING)


async def test_a_message_that_comes_too_slowly_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kad, "FRAME_WITHIN", 0.5)
    async with peer(1) as (asker, _), peer(2) as (there, served):
        stream = await raw(asker, there)
        await stream.send_all(varint(100) + b"\x08")
        await trio.sleep(0.2)
        assert len(served._serving) == 1
        with trio.fail_after(5):
            assert await _ends(stream)


async def test_one_peer_has_only_so_many_streams_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kad, "STREAMS_OF_ONE", 4)
    async with peer(1) as (asker, _), peer(2) as (there, served):
        for _ in range(8):
            with suppress(StreamClosed):  # beyond that it is reset
                stream = await raw(asker, there) if not asker.connected() else await asker.open(there.device, PROTOCOL)
                await stream.send_all(varint(5))
        await trio.sleep(0.3)
        assert len(served._serving) == 4


async def test_when_too_many_are_open_the_one_that_is_silent_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kad, "STREAMS", 3)
    async with peer(1) as (asker, _), peer(2) as (there, served):
        first = Framed(await raw(asker, there))
        others = [Framed(await asker.open(there.device, PROTOCOL)) for _ in range(3)]
        for each in (first, *others):
            with trio.move_on_after(2), suppress(StreamClosed):
                await each.send(PING)
                await each.receive()
        await trio.sleep(0.2)
        assert len(served._serving) == 3
        assert await _ends(first.stream)


async def test_who_is_banned_is_not_answered_and_not_asked() -> None:
    barred: set[DeviceId] = set()
    async with peer(1) as (asker, asks), peer(2, barred) as (there, refuses):
        barred.add(asker.device)
        with pytest.raises(Unanswered):
            await asks.ask(*where(there), PING)
        with pytest.raises(Unanswered):
            await refuses.ask(*where(asker), PING)


async def test_a_connection_that_nobody_uses_is_closed_and_one_with_a_stream_open_is_not() -> None:
    async with peer(1) as (asker, asks), peer(2) as (there, _), peer(3) as (busy, _):
        await asks.ask(*where(there), PING)
        asker.handle("/test/1", _holds)
        busy.handle("/test/1", _holds)
        await asker.connect(busy.device, busy.addresses())
        kept = await asker.open(busy.device, "/test/1")
        await kept.send_all(b"x")
        await asks._tidy(trio.current_time())
        await asks._tidy(trio.current_time() + kad.QUIET + 1)
        assert asker.connected() == {busy.device}


async def _holds(stream: ByteStream) -> None:
    await trio.sleep_forever()


async def _ends(stream: ByteStream) -> bool:
    try:
        while await stream.receive_some(1000):
            pass
    except (StreamClosed, Malformed):
        pass
    return True
