"""Which packs are read much lately, and from where: they get a copy more near their readers, for a time.

Each read counts one, and half as much after `HALF` seconds. A pack is hot for a zone from `HOT` reads on, and until
less than `COLD` are left of them. Of more than `MOST` the least read are forgotten. A clock that goes back makes
nothing hotter or cooler: from there on what is left cools by the clock as it now is. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HALF = 3600.0
HOT = 24.0
COLD = 6.0
MOST = 4096  # packs that are counted

Spot = tuple[bytes, str]
"""A pack, and a zone."""


@dataclass(slots=True)
class _Count:
    reads: float
    at: float
    hot: bool = False

    def cool(self, now: float) -> float:
        """Return what is left of the reads; that is what counts from now on."""
        self.reads *= math.exp2(-max(0.0, now - self.at) / HALF)
        self.at = now
        self.hot = self.hot and self.reads >= COLD
        return self.reads


class Heat:
    """What one holder sees of reads."""

    def __init__(self) -> None:
        self._counts: dict[Spot, _Count] = {}

    def read(self, pack: bytes, zone: str, now: float) -> None:
        """A pack was read from a zone."""
        count = self._counts.setdefault((pack, zone), _Count(0.0, now))
        count.cool(now)
        count.reads += 1
        count.hot = count.hot or count.reads >= HOT
        if len(self._counts) > MOST:
            for spot in sorted(self._counts, key=lambda each: self._counts[each].cool(now))[: MOST // 4]:
                del self._counts[spot]

    def hot(self, now: float) -> list[Spot]:
        """Return the packs that are hot, and where."""
        return [(pack, zone) for pack, zone, _ in self.hot_until(now)]

    def hot_until(self, now: float) -> list[tuple[bytes, str, float]]:
        """Return the packs that are hot, where, and when that ends if nobody reads them any more."""
        for spot, count in list(self._counts.items()):
            if count.cool(now) < 0.01:
                del self._counts[spot]
        hot = sorted(spot for spot, count in self._counts.items() if count.hot)
        return [(*spot, now + HALF * math.log2(self._counts[spot].reads / COLD)) for spot in hot]
