"""The one place that touches libp2p: TCP, Noise and Yamux, with py-libp2p 0.8.1's dangerous defaults shut off.

What is wrapped, and why (each has a test that fails without):
- only Noise is offered: by default anyone can be anybody over plaintext;
- nothing that a peer provokes leaves the stream handler, where it would end the host;
- the inbound limiter, whose slots are never given back, is opened, and the limits of `limits` stand in its place;
- dialling names address and peer, under a deadline; `connect` of py-libp2p tries one address and may hang for 75 s;
- nothing dials by itself, and failed peers are not put on a list.

A connection is direct or relayed (`circuit`); a peer may have both for a while, and new streams take the direct one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Literal, Protocol

import trio
from libp2p import new_host
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as x25519_key
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from shoal.bootstrap.connections import Connections, answers, raw_of
from shoal.bootstrap.dialling import dial_direct, first_of
from shoal.bootstrap.interfaces import interface_addresses
from shoal.bootstrap.limits import InboundLimits
from shoal.bootstrap.observing import OBSERVE, Observations, read_answer, tell
from shoal.bootstrap.peerid import device_from_bytes, peer_id_bytes, peer_id_text
from shoal.bootstrap.stream import PeerStream
from shoal.bootstrap.tcp import Source, mend_remote_addresses, read_target
from shoal.bootstrap.tuning import tune_libp2p
from shoal.crdt.model import DeviceId
from shoal.dht.addresses import told_to_all
from shoal.transfer.stream import ByteStream, StreamClosed

Handler = Callable[[ByteStream], Awaitable[None]]
Reachable = Literal["public", "private", "unknown"]

DIAL_SECONDS = 8.0
OPEN_SECONDS = 10.0


class DialCircuit(Protocol):
    """Connects to a peer at the address of a circuit, or raises anything."""

    def __call__(self, address: str, device: DeviceId) -> Awaitable[None]: ...


STREAMS_OF_PEER = 256  # that a peer may have opened at once
CHECK_SECONDS = 3.0  # that the other end of an older connection has to answer when its peer connects anew


class ListenError(Exception):
    """The address to listen on cannot be had."""


class Unreachable(Exception):
    """No address of the peer answered as that peer."""


class Host:
    """This device on the network. Made by `run_host`."""

    def __init__(self, host: Any, device: DeviceId, upgrades: Connections) -> None:
        self.device = device
        self.on_connected: Callable[[DeviceId, str], None] = lambda device, address: None
        self.on_disconnected: Callable[[DeviceId], None] = lambda device: None
        self.on_relayed: Callable[[DeviceId], None] = lambda device: None
        """Called when a peer has connected to this device through a relay."""
        self.on_direct: Callable[[DeviceId], None] = lambda device: None
        """Called when a peer is connected both directly and through a relay."""
        self.announced: Callable[[], list[str]] = list
        """Where this device can be reached, too: by a name, a port of the router, a relay (with its own id then)."""
        self.barred: Callable[[DeviceId], bool] = lambda device: False
        """Whether a peer is not to be talked to at all."""
        self.upgrades = upgrades
        self.observations = Observations()
        self.reachable: Reachable = "unknown"
        self.dial_circuit: DialCircuit | None = None
        """None: circuits are not dialled."""
        self._host = host
        self._network = host.get_network()
        self._serving: Counter[DeviceId] = Counter()  # streams that peers opened, being served
        self._news = trio.Event()
        self._nursery: trio.Nursery

    def addresses(self) -> list[str]:
        """Return the multiaddrs that others can dial, with the peer id: those that were announced, and those that are
        listened on, wildcards spelt out by interface."""
        own = peer_id_text(self.device)
        told = dict.fromkeys([*self.announced(), *self._listening()])
        return [address if "/p2p-circuit/" in address else f"{address}/p2p/{own}" for address in told]

    def handle(self, protocol: str, handler: Handler) -> None:
        """Serve a protocol: each stream is given to `handler`, and ends with it, whatever it raises."""

        async def serve(stream: Any) -> None:
            peer: DeviceId | None = None
            try:
                peer = device_from_bytes(stream.muxed_conn.peer_id.to_bytes())
                self._serving[peer] += 1
                if self.barred(peer) or self._serving[peer] > STREAMS_OF_PEER:
                    await stream.reset()
                    return
                await handler(PeerStream(stream, peer))
            except Exception:
                logging.getLogger("shoal.net").debug("handler of %s ended", protocol, exc_info=True)
                with contextlib.suppress(Exception):
                    await stream.reset()
            finally:
                if peer is not None:
                    self._serving[peer] -= 1
                    if not self._serving[peer]:
                        del self._serving[peer]

        self._host.set_stream_handler(TProtocol(protocol), serve)

    def unhandle(self, protocol: str) -> None:
        """Serve a protocol no more."""
        self._host.get_mux().handlers.pop(TProtocol(protocol), None)

    async def open(self, device: DeviceId, protocol: str) -> ByteStream:
        """Open a stream to a connected peer. Raises StreamClosed."""
        peer = ID(peer_id_bytes(device))
        if peer not in self._network.connections:
            raise StreamClosed("not connected")
        with trio.move_on_after(OPEN_SECONDS):
            try:
                return PeerStream(await self._host.new_stream(peer, [TProtocol(protocol)]), device)
            except Exception as error:
                raise StreamClosed(str(error) or type(error).__name__) from error
        raise StreamClosed("the peer did not answer in time")

    async def connect(self, device: DeviceId, addresses: Sequence[str], seconds: float = DIAL_SECONDS) -> str:
        """Dial the addresses side by side, a moment apart, those through relays last; return the one that worked.
        Raises Unreachable."""
        circuit = partial(self.dial_circuit, device=device) if self.dial_circuit is not None else None
        direct = partial(dial_direct, device=device, upgrades=self.upgrades, sources=self.sources())
        won = await first_of(addresses, direct, circuit, seconds)
        self._network.unblock_peer(ID(peer_id_bytes(device)))
        if won is None:
            raise Unreachable(f"none of {len(addresses)} addresses answered")
        return won

    async def disconnect(self, device: DeviceId) -> None:
        """Close every connection to the peer."""
        await self.close(self._connections(device))  # those that there are now: another may come meanwhile

    def ways(self, device: DeviceId) -> list[Any]:
        """Return the connections to a peer, for `close` and `are_closed`."""
        return self._connections(device)

    def are_closed(self, ways: Sequence[Any]) -> bool:
        """Return whether none of these connections is open any more."""
        return all(connection.is_closed for connection in ways)

    async def close(self, ways: Sequence[Any]) -> None:
        """Close connections."""
        for connection in ways:
            with contextlib.suppress(Exception), trio.move_on_after(2):
                await connection.close()

    def connected(self) -> set[DeviceId]:
        """Return the peers with a connection."""
        found = set()
        for peer, connections in self._network.connections.items():
            if connections:
                with contextlib.suppress(ValueError):
                    found.add(device_from_bytes(peer.to_bytes()))
        return found

    def is_used(self, device: DeviceId) -> bool:
        """Whether a peer has a stream open, of either side's."""
        return any(connection.muxed_conn.streams for connection in self._connections(device))

    def is_relayed(self, device: DeviceId) -> bool:
        """Whether a peer is connected through relays only."""
        kinds = {_is_relayed(connection) for connection in self._connections(device)}
        return kinds == {True}

    def is_direct(self, device: DeviceId) -> bool:
        """Whether a peer is connected directly."""
        return any(not _is_relayed(connection) for connection in self._connections(device))

    async def wait_direct(self, device: DeviceId) -> None:
        """Wait until a peer is connected directly."""
        while not self.is_direct(device):
            await self._news.wait()

    async def wait_changed(self) -> None:
        """Wait until a connection comes or goes."""
        await self._news.wait()

    async def drop_relayed(self, device: DeviceId) -> None:
        """Close a peer's relayed connections."""
        await self.close([connection for connection in self._connections(device) if _is_relayed(connection)])

    def interfaces(self) -> list[str]:
        """Return the hosts of this machine that are listened on."""
        return list(dict.fromkeys(str(read_host(address)) for address in self._listening()))

    async def drop_from(self, hosts: Collection[str]) -> None:
        """Close the connections from hosts of this machine that it has no more: they are dead, and silent."""
        all_ = [connection for those in self._network.connections.values() for connection in those]
        await self.close([each for each in all_ if not _is_relayed(each) and _own_host(each) in hosts])

    def sources(self) -> list[Source]:
        """Return the hosts and ports that are listened on, wildcards as such."""
        found = []
        for listener in self._network.listeners.values():
            found += [(t.host, t.port) for t in (read_target(str(address)) for address in listener.get_addrs())]
        return found

    async def ask_observed(self, device: DeviceId) -> None:
        """Ask a connected peer under which address it sees this device, for `observed`. Raises StreamClosed,
        ValueError."""
        stream = await self.open(device, OBSERVE)
        try:
            seen = await read_answer(stream)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.aclose()
        muxed: Any = stream._stream.muxed_conn  # type: ignore[attr-defined]
        dialled_from = getattr(muxed, "shoal_from", ("", 0))
        ports = {port for _, port in self.sources()}
        self.observations.add(device, seen, from_listening=dialled_from[1] in ports)

    def observed(self) -> list[str]:
        """Return the multiaddrs under which peers see this device, or would, the most likely first, without its id."""
        return self.observations.addresses({port for _, port in self.sources()})

    def candidates(self) -> list[str]:
        """Return where a peer may try to reach this device, without its id: as others see it, and by interface."""
        own = [address for address in self._listening() if not read_host(address).is_loopback]
        return list(dict.fromkeys([*self.observed(), *own]))

    def noticed(self, connection: Any) -> None:
        """Take in a new connection."""
        device = device_from_bytes(connection.muxed_conn.peer_id.to_bytes())
        if self.barred(device):
            self._nursery.start_soon(self.close, [connection])
            return
        remote = connection.muxed_conn.get_remote_address()
        relayed = _is_relayed(connection)
        self.changed()
        self.on_connected(device, f"{remote[0]}:{remote[1]}" if remote else "")
        for other in self._connections(device):  # a peer that connects anew may have lost those from before
            if other is not connection:
                self._nursery.start_soon(self._check, other)
        if relayed and not connection.muxed_conn.is_initiator:
            self.on_relayed(device)
        if len({_is_relayed(each) for each in self._connections(device)}) > 1:
            self.on_direct(device)

    async def _check(self, connection: Any) -> None:
        """Close a connection whose other end does not answer."""
        if not await answers(connection, CHECK_SECONDS):
            await self.close([connection])

    def changed(self) -> None:
        """Wake who waits for a change."""
        self._news.set()
        self._news = trio.Event()

    def _connections(self, device: DeviceId) -> list[Any]:
        return [c for c in self._network.connections.get(ID(peer_id_bytes(device)), []) if not c.is_closed]

    def _listening(self) -> list[str]:
        found: list[str] = []
        for listener in self._network.listeners.values():
            for address in listener.get_addrs():
                found += [spelt for spelt in interface_addresses(str(address)) if spelt not in found]
        return found


def read_host(address: str) -> IPv4Address | IPv6Address:
    """Return the host of an address that has a number for it. Raises ValueError."""
    return ip_address(read_target(address).host)


def _own_host(connection: Any) -> str:
    """Return the host of this machine that a connection is from; "" where that is not known."""
    try:  # of the raw connection, py-libp2p's stream and trio's below it
        return str(raw_of(connection).stream.stream.socket.getsockname()[0])
    except (AttributeError, OSError):
        return ""


def _is_relayed(connection: Any) -> bool:
    return bool(connection.get_connection_type() == ConnectionType.RELAYED)


class _Notifee:
    """Tells a `Host` of connections, as py-libp2p's notifee."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def connected(self, network: Any, connection: Any) -> None:
        with contextlib.suppress(ValueError):
            self._host.noticed(connection)

    async def disconnected(self, network: Any, connection: Any) -> None:
        with contextlib.suppress(ValueError):
            device = device_from_bytes(connection.muxed_conn.peer_id.to_bytes())
            self._host.changed()
            if device not in self._host.connected():
                self._host.on_disconnected(device)

    async def opened_stream(self, network: Any, stream: Any) -> None: ...

    async def closed_stream(self, network: Any, stream: Any) -> None: ...

    async def listen(self, network: Any, multiaddr: Any) -> None: ...

    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...


def quiet_libp2p() -> None:
    """Take over libp2p's logger, which has handlers of its own and warns at every normal close."""
    for name in ("libp2p", "multiaddr", "async_service"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.CRITICAL)


@asynccontextmanager
async def run_host(seed: bytes, listen: Sequence[str], limits: InboundLimits | None = None) -> AsyncIterator[Host]:
    """Listen on `listen` (multiaddrs) as the device of `seed`, until the block ends. Raises ListenError."""
    quiet_libp2p()
    tune_libp2p()
    mend_remote_addresses()
    for address in listen:
        _check_free(address)
    key = create_new_key_pair(seed)
    config = ConnectionConfig(min_connections=0, low_watermark=0, high_watermark=5000, max_connections=5000)
    host = new_host(
        key_pair=key,
        connection_config=config,
        sec_opt={NOISE_ID: NoiseTransport(key, noise_privkey=x25519_key().private_key)},
        muxer_opt={TProtocol(YAMUX_ID): Yamux},
    )
    network: Any = host.get_network()
    network._inbound_limiter.total_tokens = math.inf
    upgrades = Connections(network, limits or InboundLimits())
    _guard_streams(network)
    device = device_from_bytes(host.get_id().to_bytes())
    made = Host(host, device, upgrades)
    any_host: Any = host
    any_host.get_addrs = lambda: [Multiaddr(each) for each in told_to_all(made.addresses())]  # else it says 0.0.0.0
    made.handle(OBSERVE, tell)
    network.register_notifee(_Notifee(made))
    try:
        async with host.run(listen_addrs=[Multiaddr(address) for address in listen]):
            if listen and not made._listening():
                raise ListenError(f"cannot listen on {', '.join(listen)}: the port is in use, or the address not ours")
            try:
                async with trio.open_nursery() as made._nursery:
                    yield made
                    made._nursery.cancel_scope.cancel()
            finally:  # py-libp2p leaves listening sockets open, and those of connections to the garbage collector
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    for listener in list(network.listeners.values()):
                        await listener.close()
                    for connected in made.connected():
                        await made.disconnect(connected)
    except BaseExceptionGroup as group:
        refused, rest = group.split((OSError, ListenError))
        if refused is not None and rest is None:
            raise ListenError(f"cannot listen on {', '.join(listen)}: {_first(refused)}") from group
        raise


def _check_free(address: str) -> None:
    """Bind the address once: py-libp2p sets SO_REUSEPORT, and would share a port with another node unnoticed."""
    try:
        _, family, host, protocol, port = address.split("/")[:5]
        number = int(port)
    except ValueError:
        raise ListenError(f"{address!r} is not an address like /ip4/0.0.0.0/tcp/22000") from None
    if family not in ("ip4", "ip6") or protocol != "tcp":
        raise ListenError(f"{address!r} is not an address like /ip4/0.0.0.0/tcp/22000")
    with socket.socket(socket.AF_INET if family == "ip4" else socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except (OSError, OverflowError) as error:
            reason = "the port is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
            raise ListenError(f"cannot listen on {address}: {reason}") from error


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _guard_streams(network: Any) -> None:
    inner = network.common_stream_handler

    async def guarded(stream: Any) -> None:
        try:
            await inner(stream)
        except Exception:
            with contextlib.suppress(Exception):
                await stream.reset()

    network.set_stream_handler(guarded)
