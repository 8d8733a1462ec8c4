"""Hole punching (DCUtR, over TCP): two peers that met through a relay connect directly.

Who accepted the circuit begins: both say where they may be reached (CONNECT), which measures the round trip; SYNC
follows; half a round trip later both dial each other's addresses from the ports that they listen on. Each SYN opens
the way in its sender's NAT for that of the other. Two that cross become one connection (simultaneous open), whose ends
both dialled: then, and when a punched SYN reaches the other's listener instead, who dialled the circuit is the client
of Noise and Yamux, and who accepted it the server.

What else is done, and why:
- A NAT that drops what it did not ask for needs a SYN after the other side's first; the kernel repeats one after 1 s,
  2 s, ..: so short attempts follow each other.
- A NAT that answers with RST keeps a note of what it refused, and then gives our own SYN another port: so before SYNC
  each sends one that passes its own NAT and no further (`PRIME_HOPS`), which opens the way and is refused by nobody.
- A NAT that follows sequence numbers (Linux) breaks a connection that the listener takes after a SYN of ours to the
  same address went out, as it begins with another number. So from then on there is always a socket that dials.
- Beside it each dials as usual, from any port: that is enough for one side without a NAT, or with one that lets in
  whoever knows the port.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from trio_typing import TaskStatus

from shoal.bootstrap.circuit_addresses import from_bytes, to_bytes
from shoal.bootstrap.circuit_messages import DCUTR, PunchMessage, PunchType, receive_message, send_message
from shoal.bootstrap.circuit_stream import is_relayed
from shoal.bootstrap.host import Host, read_host
from shoal.bootstrap.tcp import Source, Target, connect_from, read_target, source_for
from shoal.crdt.model import DeviceId
from shoal.dht.protobuf import Malformed
from shoal.transfer.stream import ByteStream, StreamClosed

PAUSES = (0.0, 1.0, 12.0)  # seconds before each round; in the last a Linux NAT has forgotten what it refused
ROUND_SECONDS = 2.5  # that both dial for, after SYNC
ANSWER_SECONDS = 5.0
PRIME_HOPS = 2  # routers that a priming SYN passes, of which its own NAT is the first
PRIME_SECONDS = 0.02  # that they have before SYNC
ATTEMPT_LEAST, ATTEMPT_MOST = 0.25, 1.0  # seconds of one dial; in between twice the round trip
UPGRADE_LEAST = 1.0  # seconds that Noise and Yamux may take, beside eight round trips
PAUSE = 0.05  # seconds between two dials of one that is refused at once
GRACE = 10.0  # seconds that the relayed connection outlives its replacement, for streams that are open on it
MOST_TARGETS = 8
AT_ONCE = 16  # peers that are punched to


class _Times:
    """When a round's dials begin, and how long each may take: known only once the round trip is."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.patience = ATTEMPT_MOST
        self.upgrade = UPGRADE_LEAST

    def go(self, round_trip: float) -> None:
        """Begin."""
        self.patience = min(ATTEMPT_MOST, max(ATTEMPT_LEAST, 2 * round_trip))
        self.upgrade = UPGRADE_LEAST + 8 * round_trip
        self.started.set()


class Punching:
    """Replaces relayed connections of a host by direct ones, while `run` runs."""

    def __init__(
        self,
        host: Host,
        own_candidates: Callable[[], Sequence[str]] | None = None,
        allowed: Callable[[DeviceId], bool] = lambda device: True,
    ) -> None:
        """`own_candidates`: multiaddrs under which this device may be reached, by default what the host knows;
        `allowed`: with whom it is tried: it makes this device dial what the peer names, and tells it own addresses."""
        self.on_direct: Callable[[DeviceId], None] = lambda device: None
        """Called when a peer has a direct connection beside a relayed one, however it came; the latter ends soon."""
        self.on_punched: Callable[[DeviceId, float], None] = lambda device, seconds: None
        """Called when an attempt that began here has ended well, with the seconds that it took."""
        self._host = host
        self._candidates = own_candidates or host.candidates
        self._allowed = allowed
        self._begun: set[DeviceId] = set()
        self._answered: set[DeviceId] = set()
        self._ending: set[DeviceId] = set()  # whose relayed connections are about to be closed
        self._nursery: trio.Nursery | None = None
        host.handle(DCUTR, self._answer)
        host.on_relayed = self.begin
        host.on_direct = self._replace

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def begin(self, device: DeviceId) -> None:
        """A peer connected through a relay: try to reach it directly."""
        is_new = device not in self._begun and len(self._begun) < AT_ONCE
        if self._nursery is not None and is_new and self._allowed(device):
            self._begun.add(device)
            self._nursery.start_soon(self._begin, device)

    async def _begin(self, device: DeviceId) -> None:
        began = trio.current_time()
        try:
            for pause in PAUSES:
                await trio.sleep(pause)
                if not self._host.is_relayed(device):
                    return
                try:
                    await self._round(device)
                except Exception:  # of the peer's making, mostly; none may end what runs here
                    logging.getLogger("shoal.net").debug("punching failed", exc_info=True)
                if self._host.is_direct(device):
                    self.on_punched(device, trio.current_time() - began)
                    return
        finally:
            self._begun.discard(device)

    async def _round(self, device: DeviceId) -> None:
        stream = await self._host.open(device, DCUTR)
        try:
            asked = trio.current_time()
            await send_message(stream, PunchMessage(PunchType.CONNECT, to_bytes(self._candidates())))
            answer = PunchMessage.decode(await receive_message(stream, ANSWER_SECONDS))
            if answer.type != PunchType.CONNECT:
                raise Malformed("not what was asked for")
            round_trip = trio.current_time() - asked
            async with self._dialling(device, self._targets(answer), is_client=False) as go:
                await trio.sleep(PRIME_SECONDS)
                await send_message(stream, PunchMessage(PunchType.SYNC))
                await trio.sleep(round_trip / 2)
                go(round_trip)
        finally:
            await _end(stream)

    async def _answer(self, stream: ByteStream) -> None:
        """Serve DCUTR: the peer that this device reached through a relay wants to try."""
        device = DeviceId(stream.peer)
        is_new = device not in self._answered and len(self._answered) < AT_ONCE
        if not is_new or not is_relayed(stream) or not self._allowed(device):
            await stream.reset()
            return
        if device in self._begun and self._host.device < device:  # both begin: that of the lesser id counts
            await stream.reset()
            return
        self._answered.add(device)
        try:
            message = PunchMessage.decode(await receive_message(stream, ANSWER_SECONDS))
            if message.type != PunchType.CONNECT:
                raise Malformed("not what begins")
            async with self._dialling(device, self._targets(message), is_client=True) as go:
                asked = trio.current_time()
                await send_message(stream, PunchMessage(PunchType.CONNECT, to_bytes(self._candidates())))
                if PunchMessage.decode(await receive_message(stream, ANSWER_SECONDS)).type != PunchType.SYNC:
                    raise Malformed("not what follows")
                go(trio.current_time() - asked)
        except (StreamClosed, Malformed):
            return
        finally:
            self._answered.discard(device)
            await _end(stream)

    @asynccontextmanager
    async def _dialling(
        self, device: DeviceId, targets: list[Target], *, is_client: bool
    ) -> AsyncIterator[Callable[[float], None]]:
        """Prime at once; dial from when what is yielded is called, with the round trip in seconds, until a direct
        connection is there or the round is over. Leaving waits for that."""
        times = _Times()
        broken: Exception | None = None
        remotes = [(target.host, target.port) for target in targets] if is_client else []
        with self._host.upgrades.punching(device, remotes):
            async with trio.open_nursery() as nursery:
                for target in targets:
                    nursery.start_soon(self._dial_punching, device, target, times, is_client)
                    nursery.start_soon(self._dial_usual, device, target, times)
                try:
                    yield times.go
                except (StreamClosed, Malformed) as error:  # raised in here, it would come out in a group
                    broken = error
                else:
                    with trio.move_on_after(ROUND_SECONDS):
                        await self._host.wait_direct(device)
                nursery.cancel_scope.cancel()
        if broken is not None:
            raise broken

    async def _dial_punching(self, device: DeviceId, target: Target, times: _Times, is_client: bool) -> None:
        """Dial from the listening port, as the client or as the server."""
        source = source_for(target, self._host.sources())
        if source is None:
            return
        stream = await self._prime(target, source, times)
        while True:
            try:
                if stream is None:
                    with trio.fail_after(times.patience):
                        stream = await connect_from(target, source)
                raw = RawConnection(TrioTCPStream(stream), is_client)
                with trio.fail_after(times.upgrade):
                    if is_client:
                        await self._host.upgrades.dialled(raw, device)
                    else:
                        await self._host.upgrades.answered(raw, device)
                return
            except Exception:
                stream = None
                await trio.sleep(PAUSE)

    async def _prime(self, target: Target, source: Source, times: _Times) -> trio.SocketStream | None:
        """Open the way in the own NAT, and keep a socket dialling, until it is time; return the connection if the other
        side's SYN was met already."""
        found: list[trio.SocketStream] = []

        async def prime() -> None:
            pause = 0.001
            while not found:
                try:
                    found.append(await connect_from(target, source, PRIME_HOPS))
                except OSError:
                    await trio.sleep(pause)
                    pause = min(PAUSE, 2 * pause)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(prime)
            await times.started.wait()
            nursery.cancel_scope.cancel()
        return found[0] if found else None

    async def _dial_usual(self, device: DeviceId, target: Target, times: _Times) -> None:
        """Dial from any port, as the client."""
        await times.started.wait()
        while True:
            try:
                stream = await connect_from(target, None)
                await self._host.upgrades.dialled(RawConnection(TrioTCPStream(stream), True), device)
                return
            except Exception:
                await trio.sleep(5 * PAUSE)

    def _targets(self, message: PunchMessage) -> list[Target]:
        """Return what is worth dialling of what a peer says; nothing of this machine, unless that is all there is."""
        is_local = any(read_host(address).is_loopback for address in self._host.addresses())
        found = []
        for address in from_bytes(message.addresses):
            with contextlib.suppress(ValueError):
                host = read_host(address)
                if (
                    host.is_multicast
                    or host.is_unspecified
                    or host.is_link_local
                    or (host.is_loopback and not is_local)
                ):
                    continue
                found.append(read_target(address))
        return list(dict.fromkeys(found))[:MOST_TARGETS]

    def _replace(self, device: DeviceId) -> None:
        """A direct connection has come beside a relayed one, however: end the latter, when its streams had time."""
        if self._nursery is not None and device not in self._ending:
            self._ending.add(device)
            self.on_direct(device)
            self._nursery.start_soon(self._drop, device)

    async def _drop(self, device: DeviceId) -> None:
        try:
            await trio.sleep(GRACE)
            if self._host.is_direct(device):
                await self._host.drop_relayed(device)
        finally:
            self._ending.discard(device)


async def _end(stream: ByteStream) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
        await stream.aclose()
