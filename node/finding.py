"""How this node and others find each other beyond the local network: by the DHT, which it begins to know by the seeds.

Each device announces itself under keys that only the devices of its account, and who reads its folders, can know (see
`rendezvous`), anew when it moved; one that is sought and not connected is looked for under them, soon after it was
lost and more seldom later.
"""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, Literal

import trio

from shoal.bootstrap.host import Host
from shoal.bootstrap.kad import KadStreams
from shoal.bootstrap.peerid import device_from_bytes, device_from_text, peer_id_bytes
from shoal.crdt.model import DeviceId
from shoal.dht.addresses import is_public, told_to_all
from shoal.dht.driver import Dht
from shoal.dht.keyspace import Key, PeerId
from shoal.node.dht_table import StoredTable
from shoal.node.rendezvous import rendezvous_keys
from shoal.node.store import Store

if TYPE_CHECKING:
    from shoal.node.daemon import Node

Mode = Literal["auto", "server", "client", "off"]

EVERYBODY = 1 << 30  # is looked for under a key, to the end: one that lies could say enough
FIRST_LOOK, LAST_LOOK = 2.0, 120.0  # seconds between two looks for who is not there
LOOK_AT_KEYS = 600.0  # seconds between two looks whether the week, or a secret, is another


class Finding:
    """Of one node. `mode`: whether it serves the DHT: by whether it can be reached, always, never; or has none."""

    def __init__(self, node: Node, store: Store, mode: Mode = "auto") -> None:
        self._node = node
        self.mode = mode
        self.bootstrap: dict[DeviceId, tuple[str, ...]] = {}  # peers to begin with, by a person's word
        self.streams: KadStreams
        self.dht: Dht
        self._store = store
        self._moved = trio.Event()
        self._lost = trio.Event()
        self._keys: list[Key] = []

    def begin(self, host: Host) -> None:
        """Serve on a host, as far as the mode says."""
        self.streams = KadStreams(host, self._wanted, self._node.bans.is_banned)
        self.dht = self.streams.dht = Dht(
            PeerId(peer_id_bytes(host.device)),
            self.streams,
            StoredTable(self._store),
            own_addresses=self.own_addresses,
            sign=self._node.key.sign,
            wall=time.time,
            rng=random.Random(),
            seeds=self._seeds,
        )
        self.streams.serve_others(self.mode == "server")

    async def run(self) -> None:
        """Find, and be found, until cancelled."""
        if self.mode == "off":
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.streams.run)
            nursery.start_soon(self.dht.run)
            nursery.start_soon(self._announce)
            nursery.start_soon(self._search)
            try:
                await trio.sleep_forever()
            finally:
                self.dht.save()

    def reachable(self, *, is_public: bool) -> None:
        """It was found out whether others can connect to this device."""
        if self.mode == "auto":
            self.streams.serve_others(is_public)

    def own_addresses(self) -> list[str]:
        """Return where the world is told that this device is: nowhere, as long as it could only say where it is in its
        local network, and there is a world."""
        told = told_to_all(address.rpartition("/p2p/")[0] for address in self._node.host.addresses())[:16]
        peers = [address for addresses in self._seeds().values() for address in addresses]
        return told if any(map(is_public, told)) or not any(map(is_public, peers)) else []

    def moved(self) -> None:
        """This device's addresses changed: it is announced anew, and looks anew for who is not there."""
        self._moved.set()
        self._lost.set()

    def lost(self) -> None:
        """A device was lost, or somebody is sought that was not."""
        self._lost.set()
        self.dht.wake()

    def keys(self) -> list[Key]:
        """Return the keys that this device is announced under now."""
        node = self._node
        if node.account.is_revoked:
            return []
        shared = [entry.keys().discovery for entry in node.account.folders().values() if node.sharing.is_shared(entry)]
        return rendezvous_keys([node.account.discovery, *shared], time.time())

    # -- inside ------------------------------------------------------------------------------------------------------

    def _wanted(self) -> set[DeviceId]:
        """Return whose connections stay open though nobody asks anything of the DHT over them."""
        relay, circuits = self._node.ways.relay, self._node.ways.circuits
        return self._sought() | circuits.reserved() | (relay.devices() if relay is not None else set())

    def _sought(self) -> set[DeviceId]:
        return set(self._node.sharing.access.sought())

    def _seeds(self) -> dict[PeerId, tuple[str, ...]]:
        node = self._node
        known = {device: tuple(node.known_addresses(device)) for device in node.seeds.devices()}
        peers = {**self.bootstrap, **known}
        return {PeerId(peer_id_bytes(device)): addresses for device, addresses in peers.items()}

    async def _announce(self) -> None:
        announcing = self.dht.announcing
        while True:
            self._moved = trio.Event()
            keys = self.keys() if self.own_addresses() else []
            announcing.remove(set(self._keys) - set(keys))
            announcing.add(keys, again=True)
            self._keys = keys
            with trio.move_on_after(LOOK_AT_KEYS):
                while not self._moved.is_set():
                    with trio.move_on_after(LOOK_AT_KEYS / 10):
                        await self._moved.wait()
                    if self.keys() != self._keys and self.own_addresses():
                        break

    async def _search(self) -> None:
        wait = FIRST_LOOK
        while True:
            self._lost = trio.Event()
            missing = self._missing()
            if missing and len(self.dht.routing):
                await self._look_for(missing)
            with trio.move_on_after(wait * random.uniform(0.8, 1.2)):
                await self._lost.wait()
            wait = FIRST_LOOK if self._lost.is_set() else min(2 * wait, LAST_LOOK)
            if self._lost.is_set():
                await trio.sleep(FIRST_LOOK / 4)

    def _missing(self) -> set[DeviceId]:
        return self._sought() - self._node.host.connected() - {self._node.key.id}

    async def _look_for(self, missing: set[DeviceId]) -> None:
        for key in self.keys():
            for found in await self.dht.find_providers(key, EVERYBODY):
                with contextlib.suppress(ValueError):
                    device = device_from_bytes(found.peer)
                    if device in missing and found.addresses:
                        self._node.peering.suggest(device, found.addresses)
            missing &= self._missing()
            if not missing:
                return


def parse_bootstrap(texts: list[str]) -> dict[DeviceId, tuple[str, ...]]:
    """Read multiaddrs that end with /p2p/ and an id. Raises ValueError."""
    found: dict[DeviceId, tuple[str, ...]] = {}
    for text in texts:
        address, _, peer = text.rpartition("/p2p/")
        device = device_from_text(peer)
        if not address:
            raise ValueError(f"{text!r} has no address before /p2p/")
        found[device] = (*found.get(device, ()), address)
    return found
