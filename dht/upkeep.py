"""What keeps a routing table fresh: which peers to ask whether they are there, and where to look for more.

Pure: it is asked what is due, and counts that as done.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from shoal.dht.keyspace import BITS, PeerId, Point, point
from shoal.dht.routing import RoutingTable

CHECKS = 20  # peers that are due for a check at once, at most
LOOKS = 4  # look-ups that are due at once, at most
REFRESH = 3600.0  # seconds between two looks for more in the same bucket
REFRESH_SPARSE = 600.0  # the same for one that has room
REFRESH_FEW = 30.0  # between the first two looks for who is near, while very few are known
FEW = 20


@dataclass(frozen=True, slots=True)
class Check:
    """Ask a peer whether it is there."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Refresh:
    """Look up a point, to hear of peers near it."""

    target: Point


class Upkeep:
    """Of one routing table."""

    def __init__(self, table: RoutingTable, own: PeerId, rng: random.Random) -> None:
        self._table = table
        self._own = point(own)
        self._rng = rng
        self._size = 0  # of the table, when it was last looked at
        self._few = REFRESH_FEW
        self._refreshed: dict[int, float] = {}  # by shared bits; BITS stands for this peer's own point

    def due(self, now: float) -> list[Check | Refresh]:
        """Return what to do now."""
        checks: list[Check | Refresh] = [Check(each.peer) for each in self._table.stale(now)[:CHECKS]]
        return checks + [Refresh(self._in_bucket(place)) for place in self._places(now)]

    def _places(self, now: float) -> list[int]:
        sparse = set(self._table.sparse())
        places = [BITS, *range(max(sparse, default=0) + 1)] if len(self._table) else []
        chosen: list[int] = []
        for place in places:
            every = REFRESH_SPARSE if place in sparse else REFRESH
            every = self._patience(len(self._table)) if place == BITS else every
            if len(chosen) < LOOKS and now - self._refreshed.get(place, -REFRESH) >= every:
                self._refreshed[place] = now
                if place == BITS:
                    self._few = min(2 * self._few, REFRESH_SPARSE)
                chosen.append(place)
        return chosen

    def _patience(self, size: int) -> float:
        """Return how long to wait between two looks for who is near: while very few are known it is longer each time
        that brought nobody."""
        if size >= FEW:
            return REFRESH_SPARSE
        if size > self._size:
            self._few = REFRESH_FEW
        self._size = size
        return self._few

    def _in_bucket(self, shared: int) -> Point:
        """Return a random point that shares so many bits with this peer's."""
        if shared >= BITS:
            return self._own
        flipped = self._own ^ (1 << (BITS - 1 - shared))
        low = (1 << (BITS - 1 - shared)) - 1
        return Point((flipped & ~low) | (self._rng.getrandbits(BITS) & low))
