"""Devices on the local networks that the machine is in: announced and heard of by mDNS, anew when it moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from shoal.bootstrap.mdns import Found, Mdns

if TYPE_CHECKING:
    from shoal.node.daemon import Node


class Nearby:
    """Of one node. `mdns`: None while nothing is announced."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._moved = trio.Event()
        self.mdns: Mdns | None = None

    def moved(self) -> None:
        """The machine's addresses changed."""
        self._moved.set()

    async def run(self) -> None:
        """Announce this device, and hear of others, until cancelled."""
        host = self._node.host
        while True:
            self._moved = trio.Event()
            hosts = [each for each in host.interfaces() if ":" not in each]
            ports = [port for own, port in host.sources() if ":" not in own]
            async with trio.open_nursery() as nursery:
                if hosts and ports:
                    self.mdns = Mdns(self._node.key.id, ports[0], self._found)
                    nursery.start_soon(self.mdns.run, hosts)
                await self._moved.wait()
                nursery.cancel_scope.cancel()

    def _found(self, found: Found) -> None:
        self._node.peering.hint(found.device, found.addresses)
