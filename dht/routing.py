"""The routing table: which peers are known, few of those far away and many of those near (Kademlia, section 2.2).

Pure: it opens no connection and reads no clock. It is told what happened, and says whom to ask next.

- A bucket holds `K` peers that share the same number of bits with this one. Who is there and answers stays; newcomers
  wait beside a full bucket, and take the place of one that failed. So nobody floods a table by appearing often.
- Of one network (IPv4 /16, IPv6 /32) a bucket takes `PER_BUCKET` peers, and the table `PER_TABLE`, so that whoever has
  one network's addresses cannot fill it; loopback and private networks are not counted: they are one's own.
- A peer is trusted to be there for `FRESH` seconds after it answered, or for half as long as it has been there by then,
  up to `FRESH_MOST`: who has been there for long goes on to be (Stutzbach and Rejaie, 2006). After `FAILURES` in a row
  it leaves. But when the last `SILENCE` questions were not answered, whoever was asked, it is this peer that is cut
  off, and nobody leaves until somebody answers.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from shoal.dht.keyspace import BITS, PeerId, Point, point, shared_bits

K = 20
WAITING = 10  # beside a full bucket
FRESH = 30 * 60.0  # seconds
FRESH_MOST = 2 * 3600.0
FRESH_SHARE = 0.5  # of the time that it has been there
FAILURES = 2
SILENCE = 20
PER_BUCKET = 3
PER_TABLE = 32


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer that is known. `addresses`: multiaddrs as text; `answered`: when it did last, None before it did;
    `failures`: since then; `since`: from when on it answered each time; `trusted`: until when it need not be asked."""

    peer: PeerId
    addresses: tuple[str, ...]
    answered: float | None = None
    failures: int = 0
    since: float | None = None
    trusted: float = -math.inf


class RoutingTable:
    """The peers that one peer knows."""

    def __init__(self, own: PeerId, *, k: int = K) -> None:
        self._own = point(own)
        self._own_id = own
        self._k = k
        self._buckets: dict[int, dict[PeerId, Contact]] = {}
        self._waiting: dict[int, dict[PeerId, Contact]] = {}
        self._unanswered = 0  # questions in a row, to whomever
        self._networks: Counter[tuple[int | None, str]] = Counter()  # how many are in each, by bucket, and None for all

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def __iter__(self) -> Iterator[Contact]:
        for bucket in self._buckets.values():
            yield from bucket.values()

    def get(self, peer: PeerId) -> Contact | None:
        """Return a peer that is in the table."""
        return self._buckets.get(self._bucket(peer), {}).get(peer)

    def heard_of(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """Somebody named a peer: that counts for nothing until it answers, but it may be asked."""
        known = self.get(peer)
        if known is None:
            self._admit(Contact(peer, tuple(addresses)))

    def answered(self, peer: PeerId, addresses: Iterable[str], now: float) -> None:
        """A peer answered, from one of these addresses."""
        self._unanswered = 0
        place = self._bucket(peer)
        known = self._buckets.get(place, {}).get(peer)
        where = tuple(addresses)
        if known is None:
            self._admit(Contact(peer, where, now, 0, now, now + FRESH))
            return
        since = now if known.since is None or known.failures else known.since
        trusted = now + min(FRESH_MOST, max(FRESH, FRESH_SHARE * (now - since)))
        self._put(place, Contact(peer, where or known.addresses, now, 0, since, trusted))

    def failed(self, peer: PeerId) -> None:
        """A peer did not answer, or not as it should."""
        self._unanswered += 1
        place = self._bucket(peer)
        known = self._buckets.get(place, {}).get(peer)
        if known is not None and (self.is_cut_off or (known.answered is not None and known.failures + 1 < FAILURES)):
            self._put(place, replace(known, failures=known.failures + 1, trusted=-math.inf))
            return
        self._waiting.get(place, {}).pop(peer, None)
        if known is not None:
            self._drop(place, peer)
            self._fill(place)

    @property
    def is_cut_off(self) -> bool:
        """Whether nobody answered of late."""
        return self._unanswered > SILENCE

    def nearest(self, target: Point, most: int | None = None, *, there: bool = False) -> list[Contact]:
        """Return the known peers nearest to a point. `there`: only those that answered, and did not fail since."""
        wanted = self._k if most is None else most
        found: list[Contact] = []
        for group in self._outwards(target):
            if there:
                group = [each for each in group if each.answered is not None and not each.failures]
            found += sorted(group, key=lambda each: target ^ point(each.peer))
            if len(found) >= wanted:
                break
        return found[:wanted]

    def stale(self, now: float) -> list[Contact]:
        """Return the peers that have not answered for long, to be asked whether they are there; last of
        all those that failed the most."""
        old = [each for bucket in self._buckets.values() for each in bucket.values() if now > each.trusted]
        return sorted(old, key=lambda each: (each.failures, each.answered or 0.0, each.peer))

    def sparse(self, deepest: int = 16, *, fewer: int | None = None) -> list[int]:
        """Return the shared bits of buckets that have room, up to the deepest one that has anybody: where a look-up of
        some point there would find more. `fewer`: only those that have fewer peers than this."""
        filled = [place for place, bucket in self._buckets.items() if bucket]
        last = min(deepest, max(filled, default=0) + 1)
        return [place for place in range(last + 1) if self.size_of(place) < (self._k if fewer is None else fewer)]

    def size_of(self, place: int) -> int:
        """Return how many are known that share so many bits with this peer."""
        return len(self._buckets.get(place, ()))

    def reach(self) -> int:
        """Return how many bits the `K` nearest that are known share with this peer, at least: a look-up of this peer's
        own point finds all that there are so near to it."""
        near = 0
        for place in sorted(self._buckets, reverse=True):
            near += len(self._buckets[place])
            if near >= self._k:
                return place
        return 0

    # -- inside ------------------------------------------------------------------------------------------------------

    def _outwards(self, target: Point) -> Iterator[Iterable[Contact]]:
        """Yield all contacts in groups, whoever is in one nearer to the target than any of the next."""
        shared = shared_bits(self._own, target)
        if shared in self._buckets:  # only these have the first bit in which the target differs from this peer
            yield self._buckets[shared].values()
        yield [each for place, bucket in self._buckets.items() if place > shared for each in bucket.values()]
        for place in sorted((place for place in self._buckets if place < shared), reverse=True):
            yield self._buckets[place].values()

    def _put(self, place: int, contact: Contact) -> None:
        bucket = self._buckets.setdefault(place, {})
        known = bucket.get(contact.peer)
        if known is None or known.addresses != contact.addresses:
            if known is not None:
                self._count(place, known, -1)
            self._count(place, contact, 1)
        bucket[contact.peer] = contact

    def _drop(self, place: int, peer: PeerId) -> None:
        self._count(place, self._buckets[place].pop(peer), -1)

    def _count(self, place: int, contact: Contact, by: int) -> None:
        for network in networks_of(contact.addresses):
            for where in (place, network), (None, network):
                self._networks[where] += by
                if not self._networks[where]:
                    del self._networks[where]

    def _bucket(self, peer: PeerId) -> int:
        return shared_bits(self._own, point(peer))

    def _admit(self, contact: Contact) -> None:
        place = self._bucket(contact.peer)
        if place == BITS:
            return  # itself
        bucket = self._buckets.setdefault(place, {})
        if len(bucket) >= self._k:
            doubtful = next((each for each in bucket.values() if each.answered is None), None)
            if contact.answered is None or doubtful is None:
                self._wait(place, contact)
                return
            self._drop(place, doubtful.peer)
        if self._is_diverse(place, contact):
            self._put(place, contact)

    def _wait(self, place: int, contact: Contact) -> None:
        waiting = self._waiting.setdefault(place, {})
        waiting.pop(contact.peer, None)
        waiting[contact.peer] = contact
        while len(waiting) > WAITING:
            del waiting[next(iter(waiting))]

    def _fill(self, place: int) -> None:
        waiting = self._waiting.get(place, {})
        while waiting and len(self._buckets[place]) < self._k:
            _, contact = waiting.popitem()
            if self._is_diverse(place, contact):
                self._put(place, contact)

    def _is_diverse(self, place: int, contact: Contact) -> bool:
        return all(
            self._networks[place, network] < PER_BUCKET and self._networks[None, network] < PER_TABLE
            for network in networks_of(contact.addresses)
        )


def networks_of(addresses: Iterable[str]) -> frozenset[str]:
    """Return the public networks that addresses are in."""
    return _networks_of(tuple(addresses))


@lru_cache(maxsize=32_768)
def _networks_of(addresses: tuple[str, ...]) -> frozenset[str]:
    found = set()
    for address in addresses:
        parts = address.split("/")
        if len(parts) < 3 or parts[1] not in ("ip4", "ip6"):
            continue
        try:
            ip = ipaddress.ip_address(parts[2])
        except ValueError:
            continue
        if ip.is_global:
            found.add(str(ipaddress.ip_network((ip, 16 if ip.version == 4 else 32), strict=False)))
    return frozenset(found)
