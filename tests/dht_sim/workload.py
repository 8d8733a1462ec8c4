"""What is asked of the simulated network: keys are announced and announced again, and looked up by whoever is there."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial

from tests.dht_sim.churn import HOUR
from tests.dht_sim.network import Network
from tests.dht_sim.node import Node

from shoal.dht.announcing import AGAIN
from shoal.dht.keyspace import Key, point
from shoal.dht.messages import MAX_KEYS
from shoal.dht.sweep import Sweep

BATCH = 1000  # keys in one message
LATER = 600.0  # seconds until an announcer that is away is looked for again

assert BATCH <= MAX_KEYS


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of looking for a key. `age`: seconds since it was announced; `hops`: 0 for what the asker kept."""

    age: float
    found: bool
    hops: int
    messages: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Swept:
    """What announcing many keys took: messages for look-ups, and messages that announce; `told`: keys by the peers that
    took each, summed up; `found`: the share of keys that others found after, where that was tried."""

    keys: int
    lookups: int
    lookup_messages: int
    batch_messages: int
    told: int
    found: float = 0.0

    @property
    def messages(self) -> int:
        """All of them."""
        return self.lookup_messages + self.batch_messages


@dataclass(slots=True)
class Workload:
    """Keys are announced in the first hour, each by a random peer, and again after `AGAIN`; look-ups of them are spread
    over the time that follows."""

    network: Network
    rng: random.Random
    asked: list[Asked] = field(default_factory=list)
    announced: dict[Key, float] = field(default_factory=dict)
    announcements: int = 0
    announce_messages: int = 0

    def plan(self, keys: int, lookups: int, start: float, end: float) -> None:
        """Put it all into the network's queue."""
        network, rng = self.network, self.rng
        for _ in range(keys):
            first = partial(self._announce_first, new_key(rng))
            network.at(start + rng.random() * HOUR, first)
        for _ in range(lookups):
            network.at(start + HOUR + rng.random() * (end - start - HOUR), self._ask)

    def _announce_first(self, key: Key) -> None:
        self._announce(key, self.network.someone())

    def _announce(self, key: Key, provider: Node) -> None:
        again = partial(self._announce, key, provider)
        if not provider.is_there:
            self.network.at(self.network.now + LATER, again)
            return
        swept = sweep(self.network, provider, [key], {key})
        self.announcements += 1
        self.announce_messages += swept.messages
        self.announced[key] = self.network.now
        self.network.at(self.network.now + AGAIN, again)

    def _ask(self) -> None:
        key, asker = self.rng.choice(list(self.announced)), self.network.someone()
        self.asked.append(ask(self.network, asker, key, self.network.now - self.announced[key]))


def new_key(rng: random.Random) -> Key:
    """Return a key as a CID's multihash is one."""
    return Key(b"\x12\x20" + rng.randbytes(32))


def ask(network: Network, asker: Node, key: Key, age: float) -> Asked:
    """Look for a key's providers, as the driver does."""
    if asker.knows(key, network.now):
        return Asked(age, True, 0, 0, 0, 0.0)
    walk = network.walk(asker, point(key), "find", key)
    return Asked(age, walk.found, walk.lookup.hops, walk.messages, walk.failed, walk.seconds)


def sweep(network: Network, provider: Node, keys: list[Key], kept: set[Key]) -> Swept:
    """Announce keys; those in `kept` are put into the records of who is told of them."""
    going = Sweep(keys)
    lookups = lookup_messages = batch_messages = told = 0
    while (target := going.next_target()) is not None:
        walk = network.walk(provider, target, "announce")
        lookups += 1
        lookup_messages += walk.messages
        for batch in going.found(walk.lookup.result()):
            messages = -(-len(batch.keys) // BATCH)
            batch_messages += messages
            taker = network.tell(provider, batch.peer, "announce", messages)
            if taker is not None:
                told += len(batch.keys)
                taker.served += messages
                taker.keep([key for key in batch.keys if key in kept], provider, network.now)
    return Swept(len(keys), lookups, lookup_messages, batch_messages, told)
