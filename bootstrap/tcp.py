"""TCP sockets for the host: dialled from the port that it listens on, so that a NAT maps that port, and others learn
and reach it; and dropped by the kernel when the other side is gone.

A dial from the listening port can fail where one from any port does not: while the pair of ports is in use, or in
TIME_WAIT (EADDRNOTAVAIL at once), or known to a peer that has not noticed that the last connection ended (it takes a
second). So another dial follows from any port, at once after a failure, a little later otherwise; what connects first
is taken.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.io.trio import TrioTCPStream

SECOND_DIAL = 0.5  # seconds after which a dial from any port joins that from the listening port
GONE = 30  # seconds after which the kernel gives up a connection on which nothing is acknowledged
PROBE_AFTER = 15  # seconds of silence after which it asks whether the other side is there

_HOPS: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}

Source = tuple[str, int]
"""An own address to dial from: host and port."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to dial: a numeric address, or a name to be resolved in `family` (AF_UNSPEC: any)."""

    host: str
    port: int
    family: int


def read_target(address: str) -> Target:
    """Read the TCP part of a multiaddr. Raises ValueError when it has none."""
    families = {"ip4": socket.AF_INET, "dns4": socket.AF_INET, "ip6": socket.AF_INET6, "dns6": socket.AF_INET6}
    parts = address.split("/")
    if len(parts) < 5 or parts[0] or parts[3] != "tcp" or (parts[1] not in families and parts[1] != "dns"):
        raise ValueError(f"{address!r} is not the address of a TCP port")
    port = int(parts[4])
    if not 0 < port < 65536:
        raise ValueError(f"{address!r} is not the address of a TCP port")
    if parts[1].startswith("ip"):
        ipaddress.ip_address(parts[2])
    return Target(parts[2], port, families.get(parts[1], socket.AF_UNSPEC))


def address_of(host: str, port: int) -> str:
    """Return the multiaddr of a TCP port."""
    return f"/ip{ipaddress.ip_address(host).version}/{host}/tcp/{port}"


def source_for(target: Target, listening: list[Source]) -> Source | None:
    """Return what to dial a numeric target from, if any port that is listened on will do."""
    ip = ipaddress.ip_address(target.host)
    for host, port in listening:
        own = ipaddress.ip_address(host)
        if own.version == ip.version and own.is_loopback == ip.is_loopback and not (own == ip and port == target.port):
            return host, port
        if own.version == ip.version and own.is_unspecified and not ip.is_loopback:
            return host, port
    return None


async def resolve(target: Target) -> list[Target]:
    """Return the numeric targets of one that may be a name. Raises OSError."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(target.host)
        return [target]
    found = await trio.socket.getaddrinfo(target.host, target.port, target.family, socket.SOCK_STREAM)
    return [Target(str(address[0]), target.port, int(family)) for family, _, _, _, address in found]


async def connect(target: Target, listening: list[Source], *, reuse: bool = True) -> trio.SocketStream:
    """Connect to a numeric target, at first from a listening port when `reuse`. Raises OSError."""
    source = source_for(target, listening) if reuse else None
    if source is None:
        return await connect_from(target, None)
    won: list[trio.SocketStream] = []
    errors: list[OSError] = []
    failed = trio.Event()
    async with trio.open_nursery() as nursery:

        async def attempt(own: Source | None) -> None:
            try:
                stream = await connect_from(target, own)
            except OSError as error:
                errors.append(error)
                failed.set()
                return
            if won:
                await trio.aclose_forcefully(stream)
                return
            won.append(stream)
            nursery.cancel_scope.cancel()

        nursery.start_soon(attempt, source)
        with trio.move_on_after(SECOND_DIAL):
            await failed.wait()
        nursery.start_soon(attempt, None)
    if not won:
        raise errors[-1]
    return won[0]


async def connect_from(target: Target, source: Source | None, hops: int = 0) -> trio.SocketStream:
    """Connect to a numeric target from an own address. `hops`: routers that the first SYN passes, and no more; 0: as
    usual. Raises OSError."""
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if source is not None:
            share(sock)
            sock.bind(source)
        option = _HOPS[target.family]
        usual = sock.getsockopt(*option)
        if hops:
            sock.setsockopt(*option, hops)
        with contextlib.suppress(BlockingIOError):
            sock.connect((target.host, target.port))
        sock.setsockopt(*option, usual)  # of what follows the SYN, should it meet one of the other side's
        await trio.lowlevel.wait_writable(sock.fileno())
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
        if sock.getsockname()[:2] == sock.getpeername()[:2]:
            raise OSError(errno.ECONNREFUSED, "connected to itself")
        prepare(sock)
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        sock.close()
        raise


def share(sock: Any) -> None:
    """Let a socket have a port that is listened on."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(AttributeError, OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def prepare(sock: Any) -> None:
    """Have the kernel end a connection whose other side is gone; py-libp2p would keep it for good."""
    with contextlib.suppress(AttributeError, OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE * 1000)


def mend_remote_addresses() -> None:
    """Have py-libp2p tell the remote address of IPv6 connections, too; it says None, so that all of them together
    would count as one address."""
    TrioTCPStream.get_remote_address = _remote_address  # type: ignore[method-assign,assignment]


def _remote_address(stream: TrioTCPStream) -> tuple[str, int] | None:
    if stream._cached_remote_address is None:
        with contextlib.suppress(Exception):
            host, port = stream.stream.socket.getpeername()[:2]
            stream._cached_remote_address = (str(host).removeprefix("::ffff:"), int(port))
    return stream._cached_remote_address
