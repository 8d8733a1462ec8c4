"""What keeps a routing table fresh: which peers to ask whether they are there, and where to look for more.

Most of what is new is learnt on the way: who is asked whether it is there, is asked for peers of its bucket, too, if
that has room. A look-up costs as much as some forty such questions, so it is left for when that does not do: for the
peer's own point at first and each `REFRESH`, which finds all that are near, and for buckets farther away that have
fewer than `ROOMY` peers, after ever longer times when it brings nobody.

Pure: it is asked what is due, and counts that as done.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from shoal.dht.keyspace import BITS, PeerId, Point, point, shared_bits
from shoal.dht.routing import K, RoutingTable

CHECKS = 20  # peers that are due for a check at once, at most
CHECKS_CUT_OFF = 3  # the same while nobody answers
LOOKS = 4  # look-ups that are due at once, at most
REFRESH = 3600.0  # seconds between two look-ups of this peer's own point
REFRESH_SPARSE = 600.0  # between the first two looks for more in a bucket; twice as long after each that brought nobody
REFRESH_MOST = 4 * 3600.0
REFRESH_FEW = 30.0  # between the first two looks for who is near, while very few are known
ROOMY = 10
FEW = 20


@dataclass(frozen=True, slots=True)
class Check:
    """Ask a peer whether it is there; and, with a target, for peers near that, which are to be heard of."""

    peer: PeerId
    target: Point | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """Look up a point, to hear of peers near it."""

    target: Point


@dataclass(frozen=True, slots=True)
class _Look:
    """A look for more. `at`: seconds; `size`: how many were known then; `wait`: how long to wait for the next, if it
    brings nobody."""

    at: float
    size: int
    wait: float


class Upkeep:
    """Of one routing table."""

    def __init__(self, table: RoutingTable, own: PeerId, rng: random.Random) -> None:
        self._table = table
        self._own = point(own)
        self._rng = rng
        self._looks: dict[int, _Look] = {}  # by shared bits; BITS stands for this peer's own point

    def due(self, now: float) -> list[Check | Refresh]:
        """Return what to do now."""
        stale = self._table.stale(now)[: CHECKS_CUT_OFF if self._table.is_cut_off else CHECKS]
        reach = self._table.reach() if stale else 0
        checks: list[Check | Refresh] = [Check(each.peer, self._wanted(each.peer, reach)) for each in stale]
        return checks + [Refresh(self._in_bucket(place)) for place in self._places(now)]

    def _wanted(self, peer: PeerId, reach: int) -> Point | None:
        """Return what to ask a peer for."""
        place = shared_bits(self._own, point(peer))
        return self._in_bucket(place) if place <= reach and self._table.size_of(place) < K else None

    def _places(self, now: float) -> list[int]:
        """Return the buckets to look for more in, and count them as looked at."""
        size = len(self._table)
        if not size:
            return []
        few = size < FEW
        chosen = []
        if self._is_due(BITS, size if few else FEW, now, *(REFRESH_FEW, REFRESH_SPARSE) if few else (REFRESH, REFRESH)):
            chosen.append(BITS)
        reach = self._table.reach()
        for place in self._table.sparse(fewer=ROOMY):
            if place >= reach or len(chosen) >= LOOKS:
                break
            if self._is_due(place, self._table.size_of(place), now, REFRESH_SPARSE, REFRESH_MOST):
                chosen.append(place)
        return chosen

    def _is_due(self, place: int, size: int, now: float, first: float, most: float) -> bool:
        """Whether to look now where `size` are known. Between looks are `first` seconds, and twice as many after each
        that brought nobody, up to `most`."""
        last = self._looks.get(place)
        wait = first if last is None or size > last.size else min(most, last.wait)
        if last is not None and now - last.at < wait:
            return False
        self._looks[place] = _Look(now, size, min(most, 2 * wait) if last is not None else first)
        return True

    def _in_bucket(self, shared: int) -> Point:
        """Return a random point that shares so many bits with this peer's."""
        if shared >= BITS:
            return self._own
        flipped = self._own ^ (1 << (BITS - 1 - shared))
        low = (1 << (BITS - 1 - shared)) - 1
        return Point((flipped & ~low) | (self._rng.getrandbits(BITS) & low))
