"""The one place that touches libp2p: TCP, Noise and Yamux, with py-libp2p 0.8.1's dangerous defaults shut off.

What is wrapped, and why (each has a test that fails without):
- only Noise is offered: by default anyone can be anybody over plaintext;
- nothing that a peer provokes leaves the stream handler, where it would end the host;
- the inbound limiter, whose slots are never given back, is opened, and the limits of `limits` stand in its place;
- dialling names address and peer, under a deadline; `connect` of py-libp2p tries one address and may hang for 75 s;
- nothing dials by itself, and failed peers are not put on a list.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
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

from shoal.bootstrap.interfaces import interface_addresses
from shoal.bootstrap.limits import InboundLimits
from shoal.bootstrap.peerid import device_from_bytes, peer_id_bytes, peer_id_text
from shoal.bootstrap.stream import PeerStream
from shoal.bootstrap.tuning import tune_libp2p
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, StreamClosed

Handler = Callable[[ByteStream], Awaitable[None]]

DIAL_SECONDS = 8.0
OPEN_SECONDS = 10.0
STAGGER_SECONDS = 0.25  # between the starts of dials to one peer's addresses


class ListenError(Exception):
    """The address to listen on cannot be had."""


class Unreachable(Exception):
    """No address of the peer answered as that peer."""


class Host:
    """This device on the network. Made by `run_host`."""

    def __init__(self, host: Any, device: DeviceId) -> None:
        self.device = device
        self.on_connected: Callable[[DeviceId, str], None] = lambda device, address: None
        self.on_disconnected: Callable[[DeviceId], None] = lambda device: None
        self._host = host
        self._network = host.get_network()

    def addresses(self) -> list[str]:
        """Return the multiaddrs that others can dial, with the peer id, wildcards spelt out by interface."""
        own = peer_id_text(self.device)
        return [f"{address}/p2p/{own}" for address in self._listening()]

    def handle(self, protocol: str, handler: Handler) -> None:
        """Serve a protocol: each stream is given to `handler`, and ends with it, whatever it raises."""

        async def serve(stream: Any) -> None:
            try:
                peer = device_from_bytes(stream.muxed_conn.peer_id.to_bytes())
                await handler(PeerStream(stream, peer))
            except Exception:
                logging.getLogger("shoal.net").debug("handler of %s ended", protocol, exc_info=True)
                with contextlib.suppress(Exception):
                    await stream.reset()

        self._host.set_stream_handler(TProtocol(protocol), serve)

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
        """Dial the addresses side by side, a moment apart; return the one that worked. Raises Unreachable."""
        peer = ID(peer_id_bytes(device))
        won: list[str] = []
        async with trio.open_nursery() as nursery:

            async def dial(address: str) -> None:
                with trio.move_on_after(seconds):
                    try:
                        await self._network.dial_addr(_transport_part(address), peer)
                    except Exception:
                        return
                    won.append(address)
                    nursery.cancel_scope.cancel()

            for address in addresses:
                nursery.start_soon(dial, address)
                await trio.sleep(STAGGER_SECONDS)
        self._network.unblock_peer(peer)
        if not won:
            raise Unreachable(f"none of {len(addresses)} addresses answered")
        return won[0]

    async def disconnect(self, device: DeviceId) -> None:
        """Close every connection to the peer."""
        with contextlib.suppress(Exception), trio.move_on_after(2):
            await self._network.close_peer(ID(peer_id_bytes(device)))

    def connected(self) -> set[DeviceId]:
        """Return the peers with a connection."""
        found = set()
        for peer, connections in self._network.connections.items():
            if connections:
                with contextlib.suppress(ValueError):
                    found.add(device_from_bytes(peer.to_bytes()))
        return found

    def _listening(self) -> list[str]:
        found: list[str] = []
        for listener in self._network.listeners.values():
            for address in listener.get_addrs():
                found += [spelt for spelt in interface_addresses(str(address)) if spelt not in found]
        return found


def _transport_part(address: str) -> Multiaddr:
    return Multiaddr(address.split("/p2p/")[0])


class _Notifee:
    """Tells a `Host` of connections, as py-libp2p's notifee."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def connected(self, network: Any, connection: Any) -> None:
        with contextlib.suppress(ValueError):
            device = device_from_bytes(connection.muxed_conn.peer_id.to_bytes())
            remote = connection.muxed_conn.get_remote_address()
            self._host.on_connected(device, f"{remote[0]}:{remote[1]}" if remote else "")

    async def disconnected(self, network: Any, connection: Any) -> None:
        with contextlib.suppress(ValueError):
            device = device_from_bytes(connection.muxed_conn.peer_id.to_bytes())
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
async def run_host(seed: bytes, listen: Sequence[str]) -> AsyncIterator[Host]:
    """Listen on `listen` (multiaddrs) as the device of `seed`, until the block ends. Raises ListenError."""
    quiet_libp2p()
    tune_libp2p()
    for address in listen:
        _check_free(address)
    key = create_new_key_pair(seed)
    config = ConnectionConfig(min_connections=0, low_watermark=0, high_watermark=2000, max_connections=2000)
    host = new_host(
        key_pair=key,
        connection_config=config,
        sec_opt={NOISE_ID: NoiseTransport(key, noise_privkey=x25519_key().private_key)},
        muxer_opt={TProtocol(YAMUX_ID): Yamux},
    )
    network: Any = host.get_network()
    network._inbound_limiter.total_tokens = math.inf
    InboundLimits().guard(network)
    _guard_streams(network)
    device = device_from_bytes(host.get_id().to_bytes())
    made = Host(host, device)
    network.register_notifee(_Notifee(made))
    try:
        async with host.run(listen_addrs=[Multiaddr(address) for address in listen]):
            if listen and not made._listening():
                raise ListenError(f"cannot listen on {', '.join(listen)}: the port is in use, or the address not ours")
            try:
                yield made
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
