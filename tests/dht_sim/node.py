"""One peer of the simulated network: the pure parts, put together as `dht.driver` does it."""

from __future__ import annotations

import random

from shoal.dht.keyspace import Key, PeerId, Point, point
from shoal.dht.providers import Providers
from shoal.dht.routing import RoutingTable
from shoal.dht.server import TOLD
from shoal.dht.table import MemoryTable
from shoal.dht.upkeep import Upkeep

EPOCH = 1_700_000_000.0  # Unix seconds at the simulation's start


class Node:
    """A peer. `where`: its addresses; `is_there`: whether it is online, and `until`: till when, in seconds; `turn`: how
    often it came; `served`: questions it answered; `online`: seconds that it was there, of those that are measured."""

    __slots__ = (
        "at", "is_there", "online", "peer", "providers", "rng", "saved", "served", "since", "table", "turn", "until",
        "upkeep", "where",
    )  # fmt: skip

    def __init__(self, peer: PeerId, where: tuple[str, ...], rng: random.Random) -> None:
        self.peer = peer
        self.at = point(peer)
        self.where = where
        self.rng = rng
        self.is_there = False
        self.since = 0.0
        self.until = 0.0
        self.turn = 0
        self.served = 0
        self.online = 0.0
        self.saved: list[PeerId] = []
        self.table = RoutingTable(peer)
        self.upkeep = Upkeep(self.table, peer, rng)
        self.providers: Providers | None = None

    def come(self, now: float, until: float) -> None:
        """Begin a session, with an empty table."""
        self.is_there, self.since, self.until = True, now, until
        self.turn += 1
        self.table = RoutingTable(self.peer)
        self.upkeep = Upkeep(self.table, self.peer, self.rng)

    def go(self, now: float) -> None:
        """Leave without a word; who is known is saved, as the driver does it."""
        self.is_there = False
        self.online += now - self.since
        self.saved = [contact.peer for contact in self.table if contact.answered is not None]
        self.table = RoutingTable(self.peer)

    def is_there_at(self, now: float) -> bool:
        """Whether it answers at a time that is at hand."""
        return self.is_there and now < self.until

    def nearest(self, asker: Node, target: Point) -> list[PeerId]:
        """Answer a question as `dht.server` does, and hear of who asks."""
        self.heard(asker)
        near = self.table.nearest(target, TOLD + 1, there=True)
        return [contact.peer for contact in near if contact.peer != asker.peer][:TOLD]

    def heard(self, asker: Node) -> None:
        """Be asked something."""
        self.served += 1
        self.table.heard_of(asker.peer, asker.where)

    def keep(self, keys: list[Key], provider: Node, now: float) -> None:
        """Keep a provider's records."""
        if self.providers is None:
            self.providers = Providers(MemoryTable())
        self.providers.add(keys, provider.peer, (), EPOCH + now)

    def knows(self, key: Key, now: float) -> bool:
        """Whether it has a provider's record."""
        return self.providers is not None and bool(self.providers.of(key, EPOCH + now))
