"""Under which address others see this device: what connected peers say, asked over `/shoal/observe/1`.

Who is asked answers with one multiaddr, the remote end of the connection that the question came over, and closes; with
nothing when it came over a relay. (libp2p's identify says it too, but py-libp2p asks a peer only once.)
"""

from __future__ import annotations

import ipaddress
from typing import Any

import trio

from shoal.bootstrap.tcp import Source, address_of, read_target
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, StreamClosed

OBSERVE = "/shoal/observe/1"
ANSWER_SECONDS = 5.0
MAX_ANSWER = 128  # bytes
OBSERVERS = 6  # whose last word is kept


class Observations:
    """What was said, the last word of each of the last few observers. Pure."""

    def __init__(self) -> None:
        self._said: dict[DeviceId, tuple[Source, bool]] = {}

    def add(self, observer: DeviceId, seen: Source, *, from_listening: bool) -> None:
        """`from_listening`: whether the connection was dialled from the port that is listened on: only then the port
        says where that one is mapped. An older word on it outlives later ones that have none, for the same host."""
        before = self._said.pop(observer, None)
        if before is not None and before[1] and not from_listening and before[0][0] == seen[0]:
            seen, from_listening = before
        self._said[observer] = (seen, from_listening)
        while len(self._said) > OBSERVERS:
            del self._said[next(iter(self._said))]

    def addresses(self, listening_ports: set[int]) -> list[str]:
        """Return where this device may be reached, the most likely first: ports as they were seen, newest first, then
        those of a NAT that would keep them."""
        said = list(reversed(self._said.values()))
        seen = [address for address, mapped in said if mapped]
        guessed = [(address[0], port) for address, _ in said for port in sorted(listening_ports)]
        return [address_of(*address) for address in dict.fromkeys(seen + guessed)]

    def keeps_ports(self) -> bool | None:
        """Whether two observers saw the same port: the NAT maps a port alike for everyone. None: too few spoke."""
        ports = [(address[0], address[1]) for address, mapped in self._said.values() if mapped]
        if len(ports) < 2:
            return None
        return any(ports.count(port) > 1 for port in ports)


async def tell(stream: ByteStream) -> None:
    """Serve the protocol."""
    inner: Any = stream
    remote = inner._stream.get_remote_address()
    await stream.send_all(address_of(*remote).encode() if remote is not None else b"")
    await stream.aclose()


async def read_answer(stream: ByteStream) -> Source:
    """Return what the peer says. Raises StreamClosed, ValueError."""
    answer = b""
    with trio.move_on_after(ANSWER_SECONDS) as scope:
        while len(answer) <= MAX_ANSWER and (more := await stream.receive_some(MAX_ANSWER + 1)):
            answer += more
    if scope.cancelled_caught or len(answer) > MAX_ANSWER:
        raise StreamClosed("no answer")
    target = read_target(answer.decode("ascii"))
    ipaddress.ip_address(target.host)
    return target.host, target.port
