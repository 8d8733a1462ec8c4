"""Addresses of circuits, `/ip4/../tcp/../p2p/RELAY/p2p-circuit[/p2p/TARGET]`, and addresses as libp2p's bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from multiaddr import Multiaddr

from shoal.bootstrap.peerid import device_from_text, peer_id_text
from shoal.crdt.model import DeviceId

MARK = "/p2p-circuit"
MOST = 16  # addresses in a message


@dataclass(frozen=True, slots=True)
class CircuitAddress:
    """A way through a relay. `transport`: where the relay is dialled, "" when the address does not say."""

    relay: DeviceId
    transport: str

    def __str__(self) -> str:
        return f"{self.transport}/p2p/{peer_id_text(self.relay)}{MARK}"


def is_circuit(address: str) -> bool:
    """Whether an address goes through a relay."""
    return MARK in address


def read_circuit(address: str) -> CircuitAddress:
    """Raises ValueError."""
    way, _, rest = address.partition(MARK)
    transport, found, relay = way.partition("/p2p/")
    if not found or MARK in rest:
        raise ValueError(f"{address!r} is not the address of a circuit")
    return CircuitAddress(device_from_text(relay), transport)


def to_bytes(addresses: Iterable[str]) -> tuple[bytes, ...]:
    """Return addresses as libp2p's bytes, without those that are none."""
    found = []
    for address in addresses:
        with contextlib.suppress(Exception):
            found.append(Multiaddr(address).to_bytes())
    return tuple(found[:MOST])


def from_bytes(addresses: Iterable[bytes]) -> list[str]:
    """Return addresses as text, without those that are none: what a peer says may be anything."""
    found = []
    for address in addresses:
        with contextlib.suppress(Exception):
            found.append(str(Multiaddr(address)))
    return [address for address in found if address][:MOST]
