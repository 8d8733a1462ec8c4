"""Who has said that it has what is under a key: kept for a time, in bounds by key, by peer and in all.

Pure: it reads no clock and writes no disk; `rows` and `put_back` are for whoever keeps it over a restart. Whoever is
over a bound is refused, but for what it said before and says again: the newest of a key's providers stay, and a peer
that announces very much takes nothing from others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shoal.dht.keyspace import Key, PeerId

EXPIRES = 48 * 3600.0  # seconds
PER_KEY = 20
PER_PEER = 200_000
TOTAL = 1_000_000

Outcome = Literal["kept", "peer is over its share", "full"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that has said so. `addresses`: binary multiaddrs, where it said that it is; `until`: seconds."""

    peer: PeerId
    addresses: tuple[bytes, ...]
    until: float


class Providers:
    """The records of one peer that serves the DHT."""

    def __init__(
        self, *, per_key: int = PER_KEY, per_peer: int = PER_PEER, total: int = TOTAL, expires: float = EXPIRES
    ) -> None:
        self._per_key = per_key
        self._per_peer = per_peer
        self._total = total
        self._expires = expires
        self._keys: dict[Key, OrderedDict[PeerId, Provider]] = {}  # of each key, the longest ago first
        self._counts: dict[PeerId, int] = {}
        self._oldest: OrderedDict[tuple[Key, PeerId], float] = OrderedDict()  # by when they end
        self.size = 0

    def add(self, key: Key, peer: PeerId, addresses: tuple[bytes, ...], now: float) -> Outcome:
        """A peer says that it has what is under a key."""
        self.expire(now)
        known = self._keys.get(key, OrderedDict())
        if peer in known:
            self._remove(key, peer)
        elif self._counts.get(peer, 0) >= self._per_peer:
            return "peer is over its share"
        elif len(known) >= self._per_key:
            self._remove(key, next(iter(known)))
        elif self.size >= self._total:
            return "full"
        self._put(key, Provider(peer, addresses, now + self._expires))
        return "kept"

    def of(self, key: Key, now: float) -> list[Provider]:
        """Return who has said so and is not over, the newest first."""
        return [each for each in reversed(self._keys.get(key, OrderedDict()).values()) if each.until > now]

    def expire(self, now: float) -> int:
        """Forget what is over; return how many records that were."""
        gone = 0
        while self._oldest:
            (key, peer), until = next(iter(self._oldest.items()))
            if until > now:
                break
            self._remove(key, peer)
            gone += 1
        return gone

    def count(self, peer: PeerId) -> int:
        """Return how many records are a peer's."""
        return self._counts.get(peer, 0)

    def rows(self) -> Iterator[tuple[Key, Provider]]:
        """Yield all records, those first that end first."""
        for key, peer in self._oldest:
            yield key, self._keys[key][peer]

    def put_back(self, key: Key, provider: Provider, now: float) -> None:
        """Take a record from before a restart, in the order of `rows`. What is over, or ends later than anything said
        now could, as the clock was another then, is left out or shortened."""
        until = min(provider.until, now + self._expires)
        known = self._keys.get(key, OrderedDict())
        fits = self.size < self._total and len(known) < self._per_key and self.count(provider.peer) < self._per_peer
        if until > now and fits and provider.peer not in known:
            self._put(key, Provider(provider.peer, provider.addresses, until))

    def _put(self, key: Key, provider: Provider) -> None:
        self._keys.setdefault(key, OrderedDict())[provider.peer] = provider
        self._counts[provider.peer] = self._counts.get(provider.peer, 0) + 1
        self._oldest[key, provider.peer] = provider.until
        self.size += 1

    def _remove(self, key: Key, peer: PeerId) -> None:
        known = self._keys[key]
        del known[peer], self._oldest[key, peer]
        if not known:
            del self._keys[key]
        self._counts[peer] -= 1
        if not self._counts[peer]:
            del self._counts[peer]
        self.size -= 1
