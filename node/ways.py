"""The ways to this device: its own addresses, names it is known by, and relays at the account's seeds; and what becomes
of them as the machine goes from one network to another.

Who is connected through a relay is connected directly as soon as that works, see `bootstrap.punch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from shoal.bootstrap.circuit import Circuits
from shoal.bootstrap.host import Host
from shoal.bootstrap.portmap import PortMapper
from shoal.bootstrap.punch import Punching
from shoal.bootstrap.reachability import DialBack, Reachability
from shoal.bootstrap.relay import Relay, RelayLimits
from shoal.crdt.model import DeviceId

if TYPE_CHECKING:
    from shoal.node.daemon import Node

LOOK_EVERY = 2.0  # seconds between two looks at the machine's addresses
MOST_RELAYS = 3
MOST_SEEN = 2  # addresses under which others see this device, told where it can be reached there


class Ways:
    """Of one node. `names`: addresses by which it is known, by a person's word."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.names: list[str] = []
        self.relay: Relay | None = None
        self.circuits: Circuits
        self.punching: Punching
        self.reachability: Reachability
        self.maps_ports = True  # of the router, if it lets this device
        self._mappers: list[PortMapper] = []
        self._told: list[str] = []

    def begin(self, host: Host) -> None:
        """Serve on a host."""
        node = self._node
        self.circuits = Circuits(host, self._changed, lambda device: not node.bans.is_banned(device))
        self.punching = Punching(host, allowed=self._is_sought)
        self.reachability = Reachability(host, node.seeds.devices)
        self.reachability.on_change = self._found_out
        host.announced = self._announced
        ports = [port for own, port in host.sources() if ":" not in own and not own.startswith("127.")]
        self._mappers = [PortMapper(port, self._changed) for port in ports if self.maps_ports]
        if node.service is not None:
            self.relay = Relay(host, RelayLimits(), node.service.serves_device)
            DialBack(host)

    async def run(self) -> None:
        """Keep the ways open until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.circuits.run)
            self.circuits.keep({})  # what was kept by a run before, which failed
            await nursery.start(self.punching.run)
            await nursery.start(self.reachability.run)
            nursery.start_soon(self._keep_relays)
            nursery.start_soon(self._watch)
            for mapper in self._mappers:
                nursery.start_soon(mapper.run)
            await trio.sleep_forever()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _announced(self) -> list[str]:
        seen = self._node.host.observed() if self._node.host.reachable == "public" else []
        mapped = [each.mapped.address for each in self._mappers if each.mapped is not None]
        return list(dict.fromkeys([*self.names, *mapped, *seen[:MOST_SEEN], *self.circuits.addresses()]))

    def _is_sought(self, device: DeviceId) -> bool:
        return device in self._node.sharing.access.sought()

    def _found_out(self, reachable: str) -> None:
        """Whether everybody can reach this device is another than it was."""
        self._node.finding.reachable(is_public=reachable == "public")
        self._changed()

    def _changed(self) -> None:
        """Where this device can be reached is another than before: those who may want to reach it are told."""
        told = self._node.host.addresses()
        if told == self._told:
            return
        self._told = told
        self._node.finding.moved()
        for session in self._node.sessions.values():
            session.say_hello()

    async def _keep_relays(self) -> None:
        """Have a place at the seeds, unless this device is one; also where everybody can reach it, as far as is known:
        it costs little, and that may be another the next minute."""
        node = self._node
        while True:
            changed = node.sharing.changed
            relays: dict[DeviceId, list[str]] = {}
            if node.service is None:
                for device, addresses in list(node.seeds.devices().items())[:MOST_RELAYS]:
                    relays[device] = list(dict.fromkeys([*node.known_addresses(device), *addresses]))
            self.circuits.keep({device: found for device, found in relays.items() if found})
            with trio.move_on_after(30):
                await changed.wait()

    async def _watch(self) -> None:
        """Notice that the machine's addresses changed."""
        host = self._node.host
        before = set(host.interfaces())
        while True:
            await trio.sleep(LOOK_EVERY)
            now = set(host.interfaces())
            if now != before:
                gone, before = before - now, now
                await host.drop_from(gone)
                self._changed()
                for mapper in self._mappers:
                    mapper.moved()
                self._node.nearby.moved()
                self._node.peering.moved()
