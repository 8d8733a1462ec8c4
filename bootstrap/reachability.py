"""Whether strangers can connect to this device: seeds are asked to try, over `/shoal/dialback/1`.

The question is a port, two bytes; the seed dials it, at the address that the question came from and no other, from a
fresh port of its own, has Noise prove that it is the same device, and answers with one byte: 1 yes, 0 no, 2 not now.
(A NAT that lets in whoever it has sent something to, from any port, looks public to the seeds that it talks to; of
those that let in only the very port, as Linux does, nothing is misjudged.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from trio_typing import TaskStatus

from shoal.bootstrap.circuit_stream import is_relayed
from shoal.bootstrap.host import Host, Reachable
from shoal.bootstrap.tcp import Target, connect_from
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, StreamClosed

DIALBACK = "/shoal/dialback/1"
NO, YES, NOT_NOW = 0, 1, 2
READ_SECONDS = 5.0
DIAL_SECONDS = 4.0  # for connecting, and as long again for the proof
ANSWER_SECONDS = 2 * DIAL_SECONDS + 2
ASKED = 3  # seeds
AGAIN_SECONDS = 900.0
SOON_SECONDS = 30.0  # before it is asked again when nobody could say
REMEMBERED = 4096  # peers whose last question is known


@dataclass(frozen=True, slots=True)
class DialBackLimits:
    """What a seed does for those who ask. `interval`: seconds between two questions of one peer; `rate`: questions a
    second of all, `burst` of them at once; `at_once`: dials under way."""

    interval: float = 10.0
    rate: float = 2.0
    burst: int = 20
    at_once: int = 8


class Allowance:
    """Says who may ask now. Pure; `now` is seconds of any clock."""

    def __init__(self, limits: DialBackLimits) -> None:
        self._limits = limits
        self._left = float(limits.burst)
        self._counted_at: float | None = None
        self._asked: dict[DeviceId, float] = {}

    def take(self, device: DeviceId, now: float) -> bool:
        """Let a peer ask, or return False."""
        since = 0.0 if self._counted_at is None else now - self._counted_at
        self._left = min(self._limits.burst, self._left + since * self._limits.rate)
        self._counted_at = now
        last = self._asked.get(device)
        if self._left < 1 or (last is not None and now - last < self._limits.interval):
            return False
        self._left -= 1
        self._asked.pop(device, None)
        self._asked[device] = now
        if len(self._asked) > REMEMBERED:
            del self._asked[next(iter(self._asked))]
        return True


class DialBack:
    """Serves the protocol, at a seed."""

    def __init__(self, host: Host, limits: DialBackLimits | None = None) -> None:
        self._host = host
        self._limits = limits or DialBackLimits()
        self._allowance = Allowance(self._limits)
        self._dialling = 0
        host.handle(DIALBACK, self._serve)

    async def _serve(self, stream: ByteStream) -> None:
        inner: Any = stream
        remote = inner._stream.get_remote_address()
        device = DeviceId(stream.peer)
        if (
            remote is None
            or is_relayed(stream)
            or self._dialling >= self._limits.at_once
            or not self._allowance.take(device, trio.current_time())
        ):
            answer = NOT_NOW
        else:
            self._dialling += 1
            try:
                port = int.from_bytes(await _read(stream, 2, READ_SECONDS))
                answer = YES if await self._reaches(device, str(remote[0]), port) else NO
            finally:
                self._dialling -= 1
        await stream.send_all(bytes([answer]))
        await stream.aclose()

    async def _reaches(self, device: DeviceId, host: str, port: int) -> bool:
        if not port:
            return False
        target = Target(host, port, AF_INET if ip_address(host).version == 4 else AF_INET6)
        try:
            with trio.fail_after(DIAL_SECONDS):
                stream = await connect_from(target, None)
            with trio.fail_after(DIAL_SECONDS):
                await self._host.upgrades.prove(RawConnection(TrioTCPStream(stream), True), device)
        except Exception:
            return False
        return True


class Reachability:
    """Keeps `Host.reachable` up to date while `run` runs."""

    def __init__(
        self,
        host: Host,
        seeds: Callable[[], Iterable[DeviceId]],
        ports: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        """`seeds`: whom to ask, those that are not connected are passed over; `ports`: what to have dialled, by default
        what is listened on."""
        self.on_change: Callable[[Reachable], None] = lambda reachable: None
        self._host = host
        self._seeds = seeds
        self._ports = ports or (lambda: [port for _, port in host.sources()])

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        task_status.started()
        while True:
            await self.look()
            if self._host.reachable == "unknown":
                with trio.move_on_after(SOON_SECONDS):
                    await self._host.wait_changed()
                    await trio.sleep(1)  # what has just come may need a moment
            else:
                await trio.sleep(AGAIN_SECONDS)

    async def look(self) -> None:
        """Ask now."""
        there = [seed for seed in self._seeds() if self._host.is_direct(seed)][:ASKED]
        answers = []
        for seed in there:
            for port in dict.fromkeys(self._ports()):
                answer = await self.ask(seed, port)
                if answer is not None:
                    answers.append(answer)
        found = verdict(answers)
        if found != self._host.reachable:
            self._host.reachable = found
            self.on_change(found)

    async def ask(self, seed: DeviceId, port: int) -> bool | None:
        """Return whether a connected seed reaches this device at that port; None when it does not say."""
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                stream = await self._host.open(seed, DIALBACK)
                await stream.send_all(port.to_bytes(2))
                answer = (await _read(stream, 1, ANSWER_SECONDS))[0]
                await stream.aclose()
            except StreamClosed:
                return None
            return {YES: True, NO: False}.get(answer)
        return None


def verdict(answers: Sequence[bool]) -> Reachable:
    """Return what answers come to: most of those who could say."""
    if not answers:
        return "unknown"
    return "public" if 2 * sum(answers) > len(answers) else "private"


async def _read(stream: ByteStream, size: int, seconds: float) -> bytes:
    data = b""
    with trio.move_on_after(seconds):
        while len(data) < size and (more := await stream.receive_some(size - len(data))):
            data += more
    if len(data) < size:
        raise StreamClosed("nothing was said")
    return data
