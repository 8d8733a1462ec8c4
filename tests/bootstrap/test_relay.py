"""A relay and its clients, as real hosts on loopback."""

from __future__ import annotations

import gc
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from shoal.bootstrap.circuit import Circuits, Refused
from shoal.bootstrap.circuit_messages import (
    HOP,
    STOP,
    CircuitPeer,
    HopMessage,
    HopType,
    Status,
    StopMessage,
    StopType,
    receive_message,
    send_message,
)
from shoal.bootstrap.circuit_stream import CircuitStream
from shoal.bootstrap.host import Host, Unreachable, run_host
from shoal.bootstrap.peerid import peer_id_bytes, peer_id_text
from shoal.bootstrap.relay import Relay, RelayLimits, Reservations
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, StreamClosed

ECHO = "/test/echo/1"
CANARY = b"the canary that no relay may read " * 8
pytestmark = pytest.mark.filterwarnings("ignore")  # py-libp2p leaks sockets and generators as it closes


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Have what py-libp2p leaves behind collected here, where its warnings are ignored, not in another's test."""
    yield
    gc.collect()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"


async def echo(stream: ByteStream) -> None:
    while data := await stream.receive_some(1 << 20):
        await stream.send_all(data)
    await stream.aclose()


async def says_back(host: Host, device: DeviceId, text: bytes) -> bytes:
    stream = await host.open(device, ECHO)
    await stream.send_all(text)
    data = b""
    while len(data) < len(text) and (more := await stream.receive_some(1 << 20)):
        data += more
    await stream.aclose()
    return data


@dataclass
class World:
    """One relay, one `target` that has a place there, one `source` that dials."""

    relay: Relay
    relay_host: Host
    relay_address: str
    target: Host
    target_circuits: Circuits
    source: Host
    source_circuits: Circuits

    @property
    def circuit(self) -> str:
        return self.target_circuits.addresses()[0]


async def until(condition: Any) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.01)


@asynccontextmanager
async def node() -> AsyncIterator[tuple[Host, Circuits]]:
    async with run_host(secrets.token_bytes(32), [free_address()]) as host, trio.open_nursery() as nursery:
        host.handle(ECHO, echo)
        circuits = Circuits(host)
        await nursery.start(circuits.run)
        yield host, circuits
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def world(limits: RelayLimits | None = None, **options: Any) -> AsyncIterator[World]:
    address = free_address()
    async with AsyncExitStack() as stack:
        relay_host = await stack.enter_async_context(run_host(secrets.token_bytes(32), [address]))
        relay = Relay(relay_host, limits, **options)
        target, target_circuits = await stack.enter_async_context(node())
        source, source_circuits = await stack.enter_async_context(node())
        target_circuits.keep({relay_host.device: [address]})
        await until(target_circuits.addresses)
        yield World(relay, relay_host, address, target, target_circuits, source, source_circuits)


async def ask(host: Host, relay: DeviceId, message: HopMessage) -> tuple[ByteStream, HopMessage]:
    stream = await host.open(relay, HOP)
    await send_message(stream, message)
    return stream, HopMessage.decode(await receive_message(stream, 15))


def connect_to(device: DeviceId) -> HopMessage:
    return HopMessage(HopType.CONNECT, CircuitPeer(peer_id_bytes(device)))


async def test_a_peer_is_reached_through_a_relay_as_if_directly() -> None:
    async with world() as w:
        relayed_in: list[DeviceId] = []
        w.target.on_relayed = relayed_in.append
        began = trio.current_time()
        assert await w.source.connect(w.target.device, [w.circuit]) == w.circuit
        assert trio.current_time() - began < 1
        assert w.source.is_relayed(w.target.device)
        assert w.target.is_relayed(w.source.device)
        assert not w.source.is_relayed(w.relay_host.device)
        assert relayed_in == [w.source.device]
        big = secrets.token_bytes(3_000_000)
        assert await says_back(w.source, w.target.device, big) == big
        w.source.handle(ECHO, echo)
        assert await says_back(w.target, w.source.device, b"the other way") == b"the other way"
        assert w.relay.statistics().circuits == 1
        assert w.relay.statistics().bytes_carried > 6_000_000
        await w.source.disconnect(w.target.device)
        await until(lambda: w.source.device not in w.target.connected())
        await until(lambda: w.relay.statistics().circuits == 0)


async def test_the_address_names_relay_and_target() -> None:
    async with world() as w:
        ids = peer_id_text(w.relay_host.device), peer_id_text(w.target.device)
        assert w.circuit == f"{w.relay_address}/p2p/{ids[0]}/p2p-circuit/p2p/{ids[1]}"


async def test_a_direct_address_wins_over_a_circuit() -> None:
    async with world() as w:
        assert await w.source.connect(w.target.device, [w.circuit, w.target.addresses()[0]]) == w.target.addresses()[0]
        assert not w.source.is_relayed(w.target.device)


async def test_a_circuit_follows_soon_where_direct_addresses_are_silent() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with world() as w:
            with trio.fail_after(3):
                dead = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"
                assert await w.source.connect(w.target.device, [dead, w.circuit]) == w.circuit


async def test_a_relay_reads_nothing_of_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = bytearray()
    push = CircuitStream.push

    async def watched(stream: CircuitStream, data: bytes) -> None:
        passed.extend(data)
        await push(stream, data)

    async with world() as w:
        monkeypatch.setattr(CircuitStream, "push", watched)
        await w.source.connect(w.target.device, [w.circuit])
        assert await says_back(w.source, w.target.device, CANARY) == CANARY
    assert len(passed) > 2 * len(CANARY)
    assert CANARY[:34] not in passed
    assert b"the canary" not in passed


async def test_who_has_no_place_is_not_reached() -> None:
    async with world() as w, node() as (stranger, _):
        await stranger.connect(w.relay_host.device, [w.relay_address])
        await w.source.connect(w.relay_host.device, [w.relay_address])
        _, answer = await ask(w.source, w.relay_host.device, connect_to(stranger.device))
        assert answer.status == Status.NO_RESERVATION
        circuit = w.circuit.replace(peer_id_text(w.target.device), peer_id_text(stranger.device))
        with pytest.raises(Refused, match="NO_RESERVATION"):
            await w.source_circuits.dial(circuit, stranger.device)
        with pytest.raises(Unreachable):
            await w.source.connect(stranger.device, [circuit], 3)


async def test_a_place_ends_with_the_connection() -> None:
    async with world() as w:
        w.target_circuits.keep({})
        await w.target.disconnect(w.relay_host.device)
        await w.source.connect(w.relay_host.device, [w.relay_address])
        await until(lambda: w.target.device not in w.relay_host.connected())
        _, answer = await ask(w.source, w.relay_host.device, connect_to(w.target.device))
        assert answer.status == Status.NO_RESERVATION
        assert w.target_circuits.addresses() == []
        assert w.relay.statistics().reservations == 0


async def test_a_lost_relay_is_found_again() -> None:
    async with world() as w:
        changes: list[int] = []
        w.target_circuits.on_reserved = lambda: changes.append(len(w.target_circuits.addresses()))
        await w.relay_host.disconnect(w.target.device)
        await until(lambda: changes == [0, 1])
        assert w.target.device in w.relay_host.connected()


async def test_a_place_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.bootstrap.circuit.LEAST", 0.5)
    async with world(RelayLimits(reservation_seconds=1.2)) as w:
        await trio.sleep(2.5)
        await w.source.connect(w.target.device, [w.circuit])
        assert w.source.is_relayed(w.target.device)


async def test_who_is_not_allowed_gets_no_place() -> None:
    strangers: set[DeviceId] = set()
    async with world(allowed=lambda device: device not in strangers) as w, node() as (other, circuits):
        strangers.add(other.device)
        await other.connect(w.relay_host.device, [w.relay_address])
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            await circuits.reserve(w.relay_host.device)
        assert w.relay.statistics().reservations_refused == 1


async def test_who_may_not_reach_a_peer_gets_no_circuit() -> None:
    async with world(may_reach=lambda source, target: False) as w:
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            await w.source_circuits.dial(w.circuit, w.target.device)


async def test_a_target_may_refuse() -> None:
    async with world() as w:
        w.target_circuits._accepts = lambda device: False
        with pytest.raises(Refused, match="CONNECTION_FAILED"):
            await w.source_circuits.dial(w.circuit, w.target.device)
        await until(lambda: w.relay.statistics().circuits == 0)


async def test_circuits_are_bounded_by_peer() -> None:
    async with world(RelayLimits(circuits_of_peer=1)) as w, node() as (other, circuits):
        await w.source.connect(w.target.device, [w.circuit])
        with pytest.raises(Refused, match="RESOURCE_LIMIT_EXCEEDED"):
            await circuits.dial(w.circuit, w.target.device)
        await w.source.disconnect(w.target.device)
        await until(lambda: w.relay.statistics().circuits == 0)
        await other.connect(w.target.device, [w.circuit])


async def test_a_circuit_ends_when_its_bytes_are_used_up() -> None:
    async with world(RelayLimits(circuit_bytes=500_000)) as w:
        await w.source.connect(w.target.device, [w.circuit])
        assert await says_back(w.source, w.target.device, b"x" * 100_000) == b"x" * 100_000
        with trio.fail_after(10):
            with suppress(StreamClosed):
                assert len(await says_back(w.source, w.target.device, b"x" * 900_000)) < 900_000
            await until(lambda: w.target.device not in w.source.connected())
        assert w.relay.statistics().bytes_carried < 1_300_000
        assert w.target.device in w.relay_host.connected()  # only the circuit is over


async def test_a_circuit_ends_when_its_time_is_up() -> None:
    async with world(RelayLimits(circuit_seconds=1.0)) as w:
        await w.source.connect(w.target.device, [w.circuit])
        began = trio.current_time()
        await until(lambda: w.target.device not in w.source.connected())
        assert 0.5 < trio.current_time() - began < 3


async def test_a_circuit_on_which_nothing_moves_ends() -> None:
    async with world(RelayLimits(idle_seconds=1.0)) as w:
        await w.source.connect(w.relay_host.device, [w.relay_address])
        stream, answer = await ask(w.source, w.relay_host.device, connect_to(w.target.device))
        assert answer.status == Status.OK
        with trio.fail_after(5):
            while await stream.receive_some(1000):
                pass
        await until(lambda: w.relay.statistics().circuits == 0)


async def test_a_circuit_goes_no_faster_than_allowed() -> None:
    async with world(RelayLimits(circuit_rate=200_000)) as w:
        await w.source.connect(w.target.device, [w.circuit])
        began = trio.current_time()
        assert len(await says_back(w.source, w.target.device, b"x" * 300_000)) == 300_000
        assert 2 < trio.current_time() - began < 6  # 600,000 bytes, both ways together


@pytest.mark.soak
async def test_a_slow_circuit_is_not_broken_by_its_sender() -> None:
    """py-libp2p kills a writer whose window stays shut for 5 s, as it does for 12 s here."""
    async with world(RelayLimits(circuit_rate=250_000)) as w:
        received = 0

        async def take(stream: ByteStream) -> None:
            nonlocal received
            while data := await stream.receive_some(1 << 20):
                received += len(data)

        w.target.handle("/test/take/1", take)
        await w.source.connect(w.target.device, [w.circuit])
        stream = await w.source.open(w.target.device, "/test/take/1")
        with trio.fail_after(40):
            for _ in range(50):
                await stream.send_all(b"x" * 100_000)
            await until_equal(lambda: received, 5_000_000, 30)


async def until_equal(value: Any, wanted: int, seconds: float) -> None:
    with trio.fail_after(seconds):
        while value() != wanted:  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.05)


@pytest.mark.parametrize("garbage", [b"\xff" * 4000, b"\x05hello", b"\x02\x08\x63", b"\x00", b"\x81\x80\x80\x01"])
async def test_garbage_harms_nobody(garbage: bytes) -> None:
    async with world() as w:
        await w.source.connect(w.relay_host.device, [w.relay_address])
        stream = await w.source.open(w.relay_host.device, HOP)
        await stream.send_all(garbage)
        await stream.aclose()
        with trio.fail_after(5):
            while await stream.receive_some(1000):
                pass
        await w.source.connect(w.target.device, [w.circuit])
        assert await says_back(w.source, w.target.device, b"well") == b"well"


async def test_who_stalls_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.bootstrap.relay.ASK_SECONDS", 1.0)
    async with world() as w, node() as (staller, _):
        await staller.connect(w.relay_host.device, [w.relay_address])
        streams = [await staller.open(w.relay_host.device, HOP) for _ in range(40)]
        for stream in streams:
            with suppress(StreamClosed):  # those beyond what one peer may have unanswered are ended at once
                await stream.send_all(b"\x50\x08")
        await w.source.connect(w.target.device, [w.circuit])
        assert await says_back(w.source, w.target.device, b"well") == b"well"
        with trio.fail_after(5):
            for stream in streams:
                with suppress(StreamClosed):
                    assert await stream.receive_some(10) == b""
        assert not w.relay._asking


async def test_a_target_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stall(stream: ByteStream) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("shoal.bootstrap.relay.REACH_SECONDS", 1.0)
    async with world() as w:
        w.target.handle(STOP, stall)
        with trio.fail_after(4), pytest.raises(Refused, match="CONNECTION_FAILED"):
            await w.source_circuits.dial(w.circuit, w.target.device)


async def test_only_a_relay_that_was_asked_brings_circuits() -> None:
    async with world() as w, node() as (stranger, _):
        await stranger.connect(w.target.device, w.target.addresses())
        stream = await stranger.open(w.target.device, STOP)
        await send_message(stream, StopMessage(StopType.CONNECT, CircuitPeer(peer_id_bytes(w.source.device))))
        answer = StopMessage.decode(await receive_message(stream, 5))
        assert answer.status == Status.PERMISSION_DENIED


async def test_a_relay_cannot_pass_somebody_off_as_the_target() -> None:
    async with world() as w, node() as (impostor, impostor_circuits):
        impostor_circuits.keep({w.relay_host.device: [w.relay_address]})
        await until(impostor_circuits.addresses)
        opened = w.relay_host.open

        async def misled(device: DeviceId, protocol: str) -> ByteStream:
            return await opened(impostor.device if protocol == STOP else device, protocol)

        w.relay_host.open = misled  # type: ignore[method-assign]
        with pytest.raises(Exception, match=r".*"), trio.fail_after(8):
            await w.source_circuits.dial(w.circuit, w.target.device)
        assert w.target.device not in w.source.connected()


async def test_what_is_pushed_beyond_the_window_is_not_kept() -> None:
    async with world(RelayLimits(circuit_rate=100_000)) as w:
        await w.source.connect(w.relay_host.device, [w.relay_address])
        stream, answer = await ask(w.source, w.relay_host.device, connect_to(w.target.device))
        assert answer.status == Status.OK
        inner: Any = stream
        muxed = inner._stream.muxed_stream
        with trio.move_on_after(20):
            for _ in range(300):
                muxed.send_window = 1 << 20  # it does not care what it was granted
                try:
                    await stream.send_all(b"x" * 60_000)
                except StreamClosed:
                    break
        connections = w.relay_host._connections(w.source.device)
        held = sum(len(buffer) for c in connections for buffer in c.muxed_conn.stream_buffers.values())
        assert held < 6_000_000


async def test_circuits_count_among_the_inbound_limits() -> None:
    async with world() as w:
        limits: Any = w.target.upgrades._limits
        await w.source.connect(w.target.device, [w.circuit])
        key = f"relay {w.relay_host.device.hex()}"
        assert limits._by_address[key] == 1
        limits._from_one = 1
        async with node() as (other, _):
            with pytest.raises(Unreachable):
                await other.connect(w.target.device, [w.circuit], 3)
        await w.source.disconnect(w.target.device)
        await until(lambda: limits._by_address[key] == 0)


async def test_a_connection_that_ended_gives_its_place_back() -> None:
    """py-libp2p's handler of a connection stays until the swarm ends, and so would its place among the limits."""
    address = free_address()
    async with run_host(secrets.token_bytes(32), [address]) as host, node() as (other, _):
        limits: Any = host.upgrades._limits
        limits._from_one = 3
        for _ in range(6):
            await other.connect(host.device, [address], 3)
            await other.disconnect(host.device)
            await until(lambda: not host.connected())


def test_places_are_bounded_in_all_and_by_address() -> None:
    there = {DeviceId(bytes([n]) * 32) for n in range(8)}
    places = Reservations(RelayLimits(reservations=4, reservations_of_ip=2), lambda device: device in there)
    a, b, c, d, e, f = sorted(there)[:6]
    assert places.reserve(a, "1.1.1.1", 0.0) == 3600
    assert places.reserve(b, "1.1.1.1", 0.0) == 3600
    assert places.reserve(c, "1.1.1.1", 0.0) is None
    assert places.reserve(a, "1.1.1.1", 10.0) == 3610  # renewed
    assert places.reserve(c, "2.2.2.2", 0.0) is not None
    assert places.reserve(d, "3.3.3.3", 0.0) is not None
    assert places.reserve(e, "4.4.4.4", 0.0) is None
    there.discard(b)
    assert not places.holds(b, 1.0)
    assert places.reserve(f, "1.1.1.1", 20.0) is not None  # the place of who is gone
    assert places.holds(a, 3609.0)
    assert not places.holds(a, 3611.0)
