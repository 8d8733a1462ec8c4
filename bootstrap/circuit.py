"""Circuits (circuit relay v2, the client side): keeps places at relays, takes circuits that come through them, and
reaches peers through theirs.

A circuit becomes an ordinary connection of the swarm with the peer at its far end: Noise and Yamux run from end to
end, and the relay carries what it cannot read.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import trio
from trio_typing import TaskStatus

from shoal.bootstrap.backoff import delay
from shoal.bootstrap.circuit_addresses import CircuitAddress, from_bytes, read_circuit
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
from shoal.bootstrap.circuit_stream import CircuitConnection, CircuitStream, is_relayed
from shoal.bootstrap.host import Host, Unreachable
from shoal.bootstrap.peerid import device_from_bytes, peer_id_bytes, peer_id_text
from shoal.crdt.model import DeviceId
from shoal.dht.protobuf import Malformed
from shoal.transfer.stream import ByteStream, StreamClosed

ASK_SECONDS = 10.0  # that an answer may take; a relay asks the target meanwhile
RENEW_AT = 0.5  # of the time that a reservation lasts
LEAST, MOST = 60.0, 86_400.0  # seconds that a reservation is taken to last, whatever the relay's clock says
ADVERTISED = 3  # addresses of one relay


class Refused(Exception):
    """The relay does not do it; the message is the status that it gave."""


@dataclass(frozen=True, slots=True)
class Place:
    """A reservation. `addresses`: where the relay says that it is dialled; `seconds`: how long it lasts."""

    addresses: tuple[str, ...]
    seconds: float


class Circuits:
    """Keeps reservations while `run` runs; serves and dials circuits from when it is made."""

    def __init__(
        self,
        host: Host,
        on_reserved: Callable[[], None] = lambda: None,
        accepts: Callable[[DeviceId], bool] = lambda device: True,
    ) -> None:
        """`on_reserved` is called whenever `addresses` has changed; `accepts`: whose circuits are taken."""
        self.on_reserved = on_reserved
        self._accepts = accepts
        self._host = host
        self._kept: dict[DeviceId, tuple[list[str], trio.CancelScope]] = {}
        self._places: dict[DeviceId, Place] = {}
        self._nursery: trio.Nursery | None = None
        host.handle(STOP, self._take)
        host.dial_circuit = self.dial

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def keep(self, relays: Mapping[DeviceId, Sequence[str]]) -> None:
        """Have a place at exactly these relays; they are dialled at their addresses when they are not connected."""
        assert self._nursery is not None
        for relay in set(self._kept) - set(relays):
            self._kept.pop(relay)[1].cancel()
        for relay, addresses in relays.items():
            if relay in self._kept:
                self._kept[relay][0][:] = addresses
            else:
                self._kept[relay] = (list(addresses), trio.CancelScope())
                self._nursery.start_soon(self._keep, relay, *self._kept[relay])

    def reserved(self) -> set[DeviceId]:
        """Return the relays where this device has a place."""
        return set(self._places)

    def addresses(self) -> list[str]:
        """Return the multiaddrs at which others can reach this device through relays, with its own id."""
        found = []
        for relay, place in self._places.items():
            known = self._kept[relay][0] if relay in self._kept else []
            for transport in [_transport(address) for address in known or place.addresses][:ADVERTISED]:
                found.append(f"{CircuitAddress(relay, transport)}/p2p/{peer_id_text(self._host.device)}")
        return list(dict.fromkeys(found))

    async def dial(self, address: str, device: DeviceId) -> None:
        """Connect to a peer at the address of a circuit. Raises Refused, Unreachable, StreamClosed, Malformed,
        ValueError, and what py-libp2p raises."""
        circuit = read_circuit(address)
        if circuit.relay in (self._host.device, device):
            raise Unreachable("no relay leads to itself")
        if not self._host.is_direct(circuit.relay):
            await self._host.connect(circuit.relay, [circuit.transport] if circuit.transport else [])
        if not self._host.observed():
            await self._observe(circuit.relay)
        stream = await self._host.open(circuit.relay, HOP)
        try:
            await _ask(stream, HopMessage(HopType.CONNECT, CircuitPeer(peer_id_bytes(device))))
            raw = CircuitConnection(CircuitStream(stream), initiator=True, address=str(circuit))
            await self._host.upgrades.dialled(raw, device)
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await stream.reset()
            raise

    async def reserve(self, relay: DeviceId) -> Place:
        """Ask a connected relay for a place. Raises Refused, StreamClosed, Malformed."""
        stream = await self._host.open(relay, HOP)
        try:
            answer = await _ask(stream, HopMessage(HopType.RESERVE))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await stream.aclose()
        if answer.reservation is None:
            raise Malformed("no reservation")
        seconds = min(MOST, max(LEAST, answer.reservation.expires - time.time()))
        return Place(tuple(from_bytes(answer.reservation.addresses)), seconds)

    async def _keep(self, relay: DeviceId, addresses: list[str], scope: trio.CancelScope) -> None:
        failures = 0
        with scope:
            while True:
                try:
                    if not self._host.is_direct(relay):
                        await self._host.connect(relay, addresses)
                    place = await self.reserve(relay)
                except Exception:  # refused, unreachable, or of the relay's making; none may end what runs here
                    logging.getLogger("shoal.net").debug("no place at a relay", exc_info=True)
                    self._lost(relay)
                    failures += 1
                    await trio.sleep(delay(failures, random.random()))
                    continue
                failures = 0
                await self._observe(relay)
                before = self._places.get(relay)
                is_new = before is None or before.addresses != place.addresses
                self._places[relay] = place
                if is_new:
                    self.on_reserved()
                with trio.move_on_after(place.seconds * RENEW_AT) as renewing:
                    while self._host.is_direct(relay):
                        await self._host.wait_changed()
                if not renewing.cancelled_caught:
                    self._lost(relay)
        self._lost(relay)

    async def _observe(self, relay: DeviceId) -> None:
        """Learn under which address the relay sees this device, which a peer needs to punch its way here."""
        try:
            await self._host.ask_observed(relay)
        except (StreamClosed, ValueError):
            return

    def _lost(self, relay: DeviceId) -> None:
        if self._places.pop(relay, None) is not None:
            self.on_reserved()

    async def _take(self, stream: ByteStream) -> None:
        """Serve STOP: a relay where this device has a place brings a circuit."""
        relay = DeviceId(stream.peer)
        if relay not in self._places or is_relayed(stream):
            await self._answer(stream, Status.PERMISSION_DENIED)
            return
        try:
            message = StopMessage.decode(await receive_message(stream, ASK_SECONDS))
            if message.type != StopType.CONNECT or message.peer is None:
                raise Malformed("not a circuit")
            source = device_from_bytes(message.peer.id)
        except (Malformed, ValueError):
            await self._answer(stream, Status.MALFORMED_MESSAGE)
            return
        if not self._accepts(source):
            await self._answer(stream, Status.PERMISSION_DENIED)
            return
        await send_message(stream, StopMessage(StopType.STATUS, status=Status.OK))
        address = str(CircuitAddress(relay, ""))
        raw = CircuitConnection(CircuitStream(stream), initiator=False, address=address)
        try:
            await self._host.upgrades.accept(raw, f"relay {relay.hex()}")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await stream.reset()

    async def _answer(self, stream: ByteStream, status: Status) -> None:
        await send_message(stream, StopMessage(StopType.STATUS, status=status))
        await stream.aclose()


async def _ask(stream: ByteStream, message: HopMessage) -> HopMessage:
    if is_relayed(stream):
        raise StreamClosed("a circuit does not go through another")
    await send_message(stream, message)
    answer = HopMessage.decode(await receive_message(stream, ASK_SECONDS))
    if answer.type != HopType.STATUS or answer.status != Status.OK:
        raise Refused(answer.status.name)
    return answer


def _transport(address: str) -> str:
    return address.split("/p2p/")[0]
