"""Announcing very many keys: by going once over the keyspace, and telling each peer at once of all keys that are its.

Keys are sorted by where they are. A region is all keys that share so many first bits that about half of `k` peers are
in it; one look-up finds those peers, and each is told of the region's keys in a few messages. So the cost grows with
the number of peers, and not with that of keys (as go-libp2p's sweeping provider does, 2025).

Pure: `Sweep` says which point to look up next, and, told who is near it, what to tell whom.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shoal.dht.keyspace import BITS, Key, PeerId, Point, nearest, point, shared_bits

K = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """What one peer is to be told."""

    peer: PeerId
    keys: tuple[Key, ...]


class Sweep:
    """One round over some keys. `copies`: how many of the nearest peers are told of each."""

    def __init__(self, keys: Iterable[Key], *, copies: int = K) -> None:
        self._copies = copies
        self._keys = sorted(set(keys), key=point)
        self._points = [point(key) for key in self._keys]
        self._at = 0

    @property
    def is_done(self) -> bool:
        """Whether all keys were told of."""
        return self._at >= len(self._keys)

    @property
    def left(self) -> int:
        """How many keys are left."""
        return len(self._keys) - self._at

    def next_target(self) -> Point | None:
        """Return the point whose nearest peers are to be looked up now."""
        return None if self.is_done else self._points[self._at]

    def next_key(self) -> Key | None:
        """Return the key that is at `next_target`."""
        return None if self.is_done else self._keys[self._at]

    def found(self, peers: Sequence[PeerId]) -> list[Batch]:
        """The nearest peers to the target are these; return what to tell whom, and go on behind it.

        Whoever shares more bits with the target than the farthest of them is one of them. So for all keys that do, the
        nearest peers are known as surely as for the target.
        """
        target = self._points[self._at]
        if not peers:
            self._at += 1
            return []
        near = nearest(target, peers, len(peers))
        depth = shared_bits(target, point(near[-1]))
        end = self._end_of_region(target, depth + 1)
        region = self._keys[self._at : max(end, self._at + 1)]
        self._at += len(region)
        by_peer: dict[PeerId, list[Key]] = {}
        for key in region:
            for peer in nearest(point(key), near, self._copies):
                by_peer.setdefault(peer, []).append(key)
        return [Batch(peer, tuple(keys)) for peer, keys in by_peer.items()]

    def skip(self) -> None:
        """Nobody near the target could be reached: it is left for the next round."""
        self._at += 1

    def _end_of_region(self, target: Point, depth: int) -> int:
        last = Point(target | ((1 << (BITS - depth)) - 1))
        return bisect_left(self._points, last + 1)
