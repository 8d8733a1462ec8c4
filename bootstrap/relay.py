"""A relay (circuit relay v2, the server side): peers behind a NAT reserve a place, others reach them through it.

What passes is encrypted end to end, so a relay reads nothing. Who asks is known from the connection, never from the
message. Each peer and each address gets a bounded share of everything, and each read has a deadline: who stalls holds
up nobody. A circuit within a circuit is refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from shoal.bootstrap.circuit_addresses import to_bytes
from shoal.bootstrap.circuit_messages import (
    HOP,
    STOP,
    CircuitLimit,
    CircuitPeer,
    HopMessage,
    HopType,
    Reservation,
    Status,
    StopMessage,
    StopType,
    receive_message,
    send_message,
)
from shoal.bootstrap.circuit_pipe import CircuitPipe, PipeLimits
from shoal.bootstrap.circuit_stream import WINDOW, CircuitStream, is_relayed
from shoal.bootstrap.host import Host
from shoal.bootstrap.limits import network_of
from shoal.bootstrap.peerid import device_from_bytes, peer_id_bytes
from shoal.crdt.model import DeviceId
from shoal.dht.protobuf import Malformed
from shoal.transfer.pace import Pace
from shoal.transfer.stream import ByteStream, StreamClosed

ASK_SECONDS = 10.0  # that a message may take
REACH_SECONDS = 8.0  # that the target may take to open a stream
REQUESTS_AT_ONCE = 16  # that one peer may have without an answer


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What a relay gives. Seconds and bytes; None for any. `circuit_bytes`: each way; the rates are bytes a second,
    both ways together, of one circuit and of all."""

    reservations: int = 1024
    reservations_of_ip: int = 256
    reservation_seconds: float = 3600.0
    circuits: int = 256
    circuits_of_peer: int = 64
    circuits_of_pair: int = 3
    circuit_seconds: float | None = None
    circuit_bytes: int | None = None
    circuit_rate: float | None = None
    rate: float | None = None
    idle_seconds: float = 180.0


@dataclass(frozen=True, slots=True)
class RelayStatistics:
    """What a relay does now (`reservations`, `circuits`) and did since its start."""

    reservations: int
    circuits: int
    circuits_begun: int
    bytes_carried: int
    reservations_refused: int
    circuits_refused: int


class Reservations:
    """Who has a place, until when. Pure; times are seconds of any clock."""

    def __init__(self, limits: RelayLimits, is_there: Callable[[DeviceId], bool]) -> None:
        """`is_there`: whether a peer is connected; who is not has no place any more."""
        self._limits = limits
        self._is_there = is_there
        self._places: dict[DeviceId, tuple[float, str]] = {}

    def reserve(self, device: DeviceId, ip: str, now: float) -> float | None:
        """Give or renew a place; return when it ends, or None when there is no room."""
        others = {other: ip for other, (_, ip) in self._places.items() if other != device}
        if len(others) >= self._limits.reservations or (
            list(others.values()).count(ip) >= self._limits.reservations_of_ip
        ):
            self.sweep(now)
            kept = [ip for other, (_, ip) in self._places.items() if other != device]
            if len(kept) >= self._limits.reservations or kept.count(ip) >= self._limits.reservations_of_ip:
                return None
        self._places[device] = (now + self._limits.reservation_seconds, ip)
        return self._places[device][0]

    def holds(self, device: DeviceId, now: float) -> bool:
        """Whether a peer has a place."""
        place = self._places.get(device)
        return place is not None and place[0] > now and self._is_there(device)

    def devices(self) -> list[DeviceId]:
        """Return who has a place, also one that is over."""
        return list(self._places)

    def sweep(self, now: float) -> None:
        """Forget those that are over."""
        for device in [device for device in self._places if not self.holds(device, now)]:
            del self._places[device]

    def __len__(self) -> int:
        return len(self._places)


class Relay:
    """Serves a host's peers as their relay, from when it is made until the host ends."""

    def __init__(
        self,
        host: Host,
        limits: RelayLimits | None = None,
        allowed: Callable[[DeviceId], bool] = lambda device: True,
        may_reach: Callable[[DeviceId, DeviceId], bool] = lambda source, target: True,
    ) -> None:
        """`allowed`: who may reserve a place; `may_reach`: who may ask for a circuit to whom."""
        self.limits = limits or RelayLimits()
        self._host = host
        self._allowed = allowed
        self._may_reach = may_reach
        self._places = Reservations(self.limits, host.is_direct)
        self._asking: Counter[DeviceId] = Counter()
        self._circuits: Counter[DeviceId] = Counter()  # by peer: each circuit counts for both of its ends
        self._pairs: Counter[tuple[DeviceId, DeviceId]] = Counter()
        self._counts: Counter[str] = Counter()
        self._pace = Pace(self.limits.rate)
        host.handle(HOP, self._serve)

    def devices(self) -> set[DeviceId]:
        """Return the peers that have a place, or a circuit."""
        self._places.sweep(trio.current_time())
        return {*self._places.devices(), *self._circuits}

    def statistics(self) -> RelayStatistics:
        """Return what it does and did."""
        self._places.sweep(trio.current_time())
        return RelayStatistics(
            reservations=len(self._places),
            circuits=self._counts["circuits"],
            circuits_begun=self._counts["begun"],
            bytes_carried=self._counts["bytes"],
            reservations_refused=self._counts["reservations_refused"],
            circuits_refused=self._counts["circuits_refused"],
        )

    async def _serve(self, stream: ByteStream) -> None:
        device = DeviceId(stream.peer)
        if self._asking[device] >= REQUESTS_AT_ONCE:
            await stream.reset()
            return
        with _counted(self._asking, device):
            try:
                message = HopMessage.decode(await receive_message(stream, ASK_SECONDS))
            except Malformed:
                await self._end(stream, Status.MALFORMED_MESSAGE)
                return
            if is_relayed(stream):
                await self._end(stream, Status.PERMISSION_DENIED)
                return
            if message.type == HopType.RESERVE:
                await self._reserve(stream, device)
                return
            if message.type != HopType.CONNECT or message.peer is None:
                await self._end(stream, Status.UNEXPECTED_MESSAGE)
                return
        await self._connect(stream, device, message.peer)

    async def _reserve(self, stream: ByteStream, device: DeviceId) -> None:
        inner: Any = stream
        remote = inner._stream.get_remote_address()
        if not self._allowed(device):
            self._counts["reservations_refused"] += 1
            await self._end(stream, Status.PERMISSION_DENIED)
            return
        ends = self._places.reserve(device, network_of(remote[0]) if remote else "", trio.current_time())
        if ends is None:
            self._counts["reservations_refused"] += 1
            await self._end(stream, Status.RESERVATION_REFUSED)
            return
        expires = int(time.time() + ends - trio.current_time())
        place = Reservation(expires, to_bytes(self._host.addresses()))
        await send_message(stream, HopMessage(HopType.STATUS, None, place, self._limit(), Status.OK))
        await stream.aclose()

    async def _connect(self, stream: ByteStream, source: DeviceId, peer: CircuitPeer) -> None:
        try:
            target = device_from_bytes(peer.id)
        except ValueError:
            await self._end(stream, Status.MALFORMED_MESSAGE)
            return
        refusal = self._refusal(source, target)
        if refusal is not None:
            self._counts["circuits_refused"] += 1
            await self._end(stream, refusal)
            return
        pair = _counted(self._pairs, (source, target))
        with (
            pair,
            _counted(self._circuits, source),
            _counted(self._circuits, target),
            _counted(self._counts, "circuits"),
        ):
            reached = await self._reach(target, source)
            if isinstance(reached, Status):
                self._counts["circuits_refused"] += 1
                await self._end(stream, reached)
                return
            try:
                await send_message(stream, HopMessage(HopType.STATUS, None, None, self._limit(), Status.OK))
            except BaseException:
                await reached.reset()
                raise
            self._counts["begun"] += 1
            limits = PipeLimits(self.limits.circuit_seconds, self.limits.circuit_bytes, self.limits.idle_seconds)
            paces = [self._pace, Pace(self.limits.circuit_rate)]
            sides = CircuitStream(stream, WINDOW), CircuitStream(reached, WINDOW)
            await CircuitPipe(*sides, limits, paces, self._carried).run()

    def _refusal(self, source: DeviceId, target: DeviceId) -> Status | None:
        if target == source or not self._may_reach(source, target):
            return Status.PERMISSION_DENIED
        if not self._places.holds(target, trio.current_time()):
            return Status.NO_RESERVATION
        if self._pairs[source, target] >= self.limits.circuits_of_pair:
            return Status.RESOURCE_LIMIT_EXCEEDED
        most = self.limits.circuits_of_peer
        if self._counts["circuits"] >= self.limits.circuits or max(self._circuits[source], self._circuits[target]) >= (
            most
        ):
            return Status.RESOURCE_LIMIT_EXCEEDED
        return None

    async def _reach(self, target: DeviceId, source: DeviceId) -> ByteStream | Status:
        """Ask the target to take the circuit; return the stream to it, or why there is none."""
        stream = None
        with trio.move_on_after(REACH_SECONDS):
            try:
                stream = await self._host.open(target, STOP)
                if is_relayed(stream):
                    raise StreamClosed("the direct connection has just ended")
                peer = CircuitPeer(peer_id_bytes(source))
                await send_message(stream, StopMessage(StopType.CONNECT, peer, self._limit()))
                answer = StopMessage.decode(await receive_message(stream, ASK_SECONDS))
                if answer.type == StopType.STATUS and answer.status == Status.OK:
                    return stream
            except (StreamClosed, Malformed):
                pass
        if stream is not None:
            await stream.reset()
        return Status.CONNECTION_FAILED

    def _limit(self) -> CircuitLimit | None:
        if self.limits.circuit_seconds is None and self.limits.circuit_bytes is None:
            return None
        return CircuitLimit(int(self.limits.circuit_seconds or 0), self.limits.circuit_bytes or 0)

    def _carried(self, size: int) -> None:
        self._counts["bytes"] += size

    async def _end(self, stream: ByteStream, status: Status) -> None:
        await send_message(stream, HopMessage(HopType.STATUS, status=status))
        await stream.aclose()


@contextmanager
def _counted(counter: Counter[Any], key: Any) -> Iterator[None]:
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]
