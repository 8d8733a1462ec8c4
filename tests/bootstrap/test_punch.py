"""Hole punching between real hosts on loopback, where nothing is in the way; through NATs: `tests/nat`."""

from __future__ import annotations

import gc
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import trio

from shoal.bootstrap.circuit import Circuits
from shoal.bootstrap.circuit_addresses import to_bytes
from shoal.bootstrap.circuit_messages import DCUTR, PunchMessage, PunchType, receive_message, send_message
from shoal.bootstrap.host import Host, run_host
from shoal.bootstrap.punch import Punching
from shoal.bootstrap.relay import Relay
from shoal.bootstrap.tcp import Source, Target, connect, connect_from, read_target, source_for
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, StreamClosed

ECHO = "/test/echo/1"
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


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.01)


@dataclass
class Node:
    """A host that takes circuits, and punches unless it is left out."""

    host: Host
    circuits: Circuits
    punching: Punching | None


@asynccontextmanager
async def node(candidates: list[str] | None = None, *, punches: bool = True) -> AsyncIterator[Node]:
    async with run_host(secrets.token_bytes(32), [free_address()]) as host, trio.open_nursery() as nursery:
        host.handle(ECHO, echo)
        circuits = Circuits(host)
        await nursery.start(circuits.run)
        punching = None
        if punches:
            own = [address.split("/p2p/")[0] for address in host.addresses()] if candidates is None else candidates
            punching = Punching(host, lambda: own)
            await nursery.start(punching.run)
        yield Node(host, circuits, punching)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def relayed(
    source: list[str] | None = None, target: list[str] | None = None, **options: bool
) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes, the first of which has just connected to the second through a relay."""
    address = free_address()
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(run_host(secrets.token_bytes(32), [address]))
        Relay(relay)
        one = await stack.enter_async_context(node(source))
        two = await stack.enter_async_context(node(target, **options))
        two.circuits.keep({relay.device: [address]})
        await until(two.circuits.addresses)
        await one.host.connect(two.host.device, two.circuits.addresses())
        yield one, two


def kinds(host: Host, other: Host) -> set[str]:
    """Return how a host is connected to another, of all connections."""
    return {connection.get_connection_type().value for connection in host._connections(other.device)}


async def test_a_relayed_connection_is_replaced_by_a_direct_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.bootstrap.punch.GRACE", 1.0)
    async with relayed() as (one, two):
        direct: list[DeviceId] = []
        punched: list[float] = []
        assert one.punching is not None
        assert two.punching is not None
        one.punching.on_direct = direct.append
        two.punching.on_punched = lambda device, seconds: punched.append(seconds)
        stream = await one.host.open(two.host.device, ECHO)  # on the relayed connection
        await until(lambda: one.host.is_direct(two.host.device) and two.host.is_direct(one.host.device))
        assert not one.host.is_relayed(two.host.device)
        await until(lambda: punched)
        assert punched[0] < 3
        assert direct == [two.host.device]
        with suppress(StreamClosed):
            await stream.send_all(b"still here")
            assert await stream.receive_some(100) == b"still here"
        await until(lambda: kinds(one.host, two.host) == {"direct"})
        await until(lambda: kinds(two.host, one.host) == {"direct"})
        again = await one.host.open(two.host.device, ECHO)
        await again.send_all(b"direct")
        assert await again.receive_some(100) == b"direct"


@pytest.mark.parametrize("nowhere", [[], ["/ip4/127.0.0.1/tcp/1"]])
async def test_where_nothing_leads_it_stays_relayed(nowhere: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.bootstrap.punch.PAUSES", (0.0, 0.1))
    monkeypatch.setattr("shoal.bootstrap.punch.ROUND_SECONDS", 0.5)
    async with relayed(nowhere, nowhere) as (one, two):
        await trio.sleep(2)
        assert one.host.is_relayed(two.host.device)
        assert two.punching is not None
        assert not two.punching._begun
        stream = await one.host.open(two.host.device, ECHO)
        await stream.send_all(b"well")
        assert await stream.receive_some(100) == b"well"


async def test_one_side_that_can_be_reached_is_enough() -> None:
    async with relayed(target=[]) as (one, two):
        await until(lambda: one.host.is_direct(two.host.device))
    async with relayed(source=[]) as (one, two):
        await until(lambda: one.host.is_direct(two.host.device))


async def test_who_does_not_punch_is_left_alone() -> None:
    async with relayed(punches=False) as (one, two):
        await trio.sleep(0.5)
        assert one.host.is_relayed(two.host.device)


async def test_nothing_is_punched_for_who_is_connected_directly() -> None:
    async with node() as one, node() as two:
        await one.host.connect(two.host.device, two.host.addresses())
        stream = await one.host.open(two.host.device, DCUTR)
        with suppress(StreamClosed):
            await send_message(stream, PunchMessage(PunchType.CONNECT))
            assert await stream.receive_some(100) == b""


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\x03\x08\xac\x02", b"\x02\x08\x07", b""])
async def test_garbage_harms_nobody(garbage: bytes) -> None:
    async with relayed(punches=False) as (one, two):
        assert one.punching is not None
        stream = await two.host.open(one.host.device, DCUTR)
        await stream.send_all(garbage)
        await stream.aclose()
        with trio.fail_after(8), suppress(StreamClosed):
            while await stream.receive_some(100):
                pass
        await until(lambda: one.punching is not None and not one.punching._answered)
        again = await one.host.open(two.host.device, ECHO)
        await again.send_all(b"well")
        assert await again.receive_some(100) == b"well"


async def test_a_peer_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.bootstrap.punch.ANSWER_SECONDS", 0.5)
    async with relayed(punches=False) as (one, two):
        stream = await two.host.open(one.host.device, DCUTR)
        await send_message(stream, PunchMessage(PunchType.CONNECT, to_bytes(["/ip4/127.0.0.1/tcp/9"])))
        await receive_message(stream, 5)
        assert one.punching is not None
        assert one.punching._answered == {two.host.device}
        await until(lambda: one.punching is not None and not one.punching._answered, 3)


@pytest.mark.parametrize("answers", [True, False])
async def test_a_peer_that_leaves_in_the_middle_harms_nobody(answers: bool) -> None:
    async with relayed(punches=False) as (one, two):
        punching = Punching(two.host, lambda: [])
        async with trio.open_nursery() as nursery:
            await nursery.start(punching.run)

            async def leave(stream: ByteStream) -> None:
                await receive_message(stream, 5)
                if answers:
                    await send_message(stream, PunchMessage(PunchType.CONNECT, to_bytes(["/ip4/127.0.0.1/tcp/9"])))
                await stream.reset()
                await one.host.disconnect(two.host.device)

            one.host.handle(DCUTR, leave)
            punching.begin(one.host.device)
            await until(lambda: not punching._begun)
            nursery.cancel_scope.cancel()


async def test_with_who_is_not_allowed_nothing_is_tried() -> None:
    async with relayed(punches=False) as (one, two):
        assert one.punching is not None
        one.punching._allowed = lambda device: False
        one.punching.begin(two.host.device)
        assert not one.punching._begun
        stream = await two.host.open(one.host.device, DCUTR)
        with suppress(StreamClosed), trio.fail_after(5):
            await send_message(stream, PunchMessage(PunchType.CONNECT))
            assert await stream.receive_some(100) == b""


async def test_what_a_peer_names_is_dialled_only_where_that_makes_sense() -> None:
    async with node() as one:
        assert one.punching is not None
        names = [
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/224.0.0.1/tcp/5",
            "/ip4/0.0.0.0/tcp/5",
            "/ip6/fe80::1/tcp/5",
            "/dns4/example.org/tcp/5",
            "/ip4/1.2.3.4/udp/5",
            "/ip4/1.2.3.4/tcp/5",
            "/ip4/1.2.3.4/tcp/5",
        ]
        message = PunchMessage(PunchType.CONNECT, to_bytes(names))
        assert [t.host for t in one.punching._targets(message)] == ["127.0.0.1", "1.2.3.4"]
        one.host.addresses = lambda: ["/ip4/10.0.0.5/tcp/22000/p2p/x"]  # type: ignore[method-assign]
        assert [t.host for t in one.punching._targets(message)] == ["1.2.3.4"]
        many = PunchMessage(PunchType.CONNECT, to_bytes(f"/ip4/1.2.3.{n}/tcp/5" for n in range(16)))
        assert len(one.punching._targets(many)) == 8


def test_a_dial_comes_from_a_port_that_is_listened_on_if_it_can() -> None:
    there = read_target("/ip4/1.2.3.4/tcp/22000")
    here = read_target("/ip4/127.0.0.1/tcp/22001")
    six = read_target("/ip6/2001:db8::1/tcp/22000")
    assert source_for(there, [("0.0.0.0", 22000)]) == ("0.0.0.0", 22000)
    assert source_for(there, [("10.0.0.5", 22000)]) == ("10.0.0.5", 22000)
    assert source_for(there, [("127.0.0.1", 22000)]) is None
    assert source_for(there, [("::", 22000)]) is None
    assert source_for(here, [("0.0.0.0", 22000)]) is None  # no NAT on the way
    assert source_for(here, [("127.0.0.1", 22000)]) == ("127.0.0.1", 22000)
    assert source_for(here, [("127.0.0.1", 22001)]) is None  # itself
    assert source_for(six, [("0.0.0.0", 22000), ("::", 22000)]) == ("::", 22000)


@pytest.mark.parametrize(
    "address", ["", "/ip4/1.2.3.4", "/ip4/1.2.3.4/udp/5", "/ip4/x/tcp/5", "/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4/tcp/x"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_target(address)


async def test_a_pair_of_ports_in_use_is_passed_over() -> None:
    """The second connection between the same two ports cannot be; nor can one while TIME_WAIT holds them."""
    with socket.socket() as listener, socket.socket() as own:
        for sock in (listener, own):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        target = Target("127.0.0.1", listener.getsockname()[1], socket.AF_INET)
        source = ("127.0.0.1", own.getsockname()[1])
        with trio.fail_after(2):
            first = await connect(target, [source])
            second = await connect(target, [source])
            assert first.socket.getsockname() == source
            assert second.socket.getsockname() != source
            await first.aclose()
            await second.aclose()


async def test_a_dial_that_hangs_is_joined_by_one_from_another_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the peer, or a NAT, has not noticed that the last connection between the two ports ended."""

    async def hangs_from_listening(target: Target, source: Source | None, hops: int = 0) -> trio.SocketStream:
        if source is not None:
            await trio.sleep_forever()
        return await connect_from(target, source, hops)

    monkeypatch.setattr("shoal.bootstrap.tcp.connect_from", hangs_from_listening)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with trio.fail_after(2):
            target = Target("127.0.0.1", listener.getsockname()[1], socket.AF_INET)
            stream = await connect(target, [("127.0.0.1", 9)])
            assert stream.socket.getsockname()[1] != 9
            await stream.aclose()


async def test_a_port_that_is_closed_is_an_error_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = Target("127.0.0.1", closed.getsockname()[1], socket.AF_INET)
        with pytest.raises(ConnectionRefusedError), trio.fail_after(0.4):
            await connect(target, [])
