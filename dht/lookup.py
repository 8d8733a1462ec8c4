"""Finding the peers nearest to a point by asking ever nearer ones (Kademlia, section 2.3), over disjoint paths.

Pure: `next_queries` says whom to ask, `answered` and `failed` are told what came of it. With `paths` of more than one,
the peers known at the start are dealt out to that many look-ups which share no peer (Baumgart and Mies, S/Kademlia,
2007): a peer that lies leads its own path astray, and no other. What all of them found counts together.

A look-up ends when the `k` nearest peers of all that did not fail have answered, and of each path alone its share of
`k`: no path ends because another says that it is nearer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from shoal.dht.keyspace import PeerId, Point, nearest, point

K = 20
ALPHA = 10  # queries in flight at once
MOST_CLOSER = 40  # peers that one answer may name
MOST_KNOWN = 2000  # peers that one path keeps

State = Literal["known", "asked", "answered", "failed"]


@dataclass(slots=True)
class _Path:
    """One of the look-ups. `states`: by peer; `hops`: by peer, how many were asked on the way to it; `alive`: who did
    not fail, by distance, the nearest first; `flying`: how many are asked now."""

    states: dict[PeerId, State] = field(default_factory=dict)
    hops: dict[PeerId, int] = field(default_factory=dict)
    alive: list[tuple[int, PeerId]] = field(default_factory=list)
    flying: int = 0


class Lookup:
    """One look-up. `target`: the point to come near to; `known`: the peers to begin with."""

    def __init__(
        self, target: Point, known: Iterable[PeerId], own: PeerId, *, paths: int = 1, k: int = K, alpha: int = ALPHA
    ) -> None:
        self.target = target
        self._own = own
        self._k = k
        self._alpha = alpha
        self._share = -(-k // paths)
        self._paths = [_Path() for _ in range(paths)]
        self._taken: dict[PeerId, int] = {}  # which path has a peer
        for number, peer in enumerate(nearest(target, set(known) - {own}, MOST_KNOWN)):
            self._learn(number % paths, peer, hops=1)
        self.asked = 0

    def next_queries(self) -> list[PeerId]:
        """Return whom to ask now, each counted as asked from here on."""
        room = self._alpha - sum(path.flying for path in self._paths)
        queries: list[PeerId] = []
        if room <= 0:
            return queries
        waiting = self._waiting()
        while room > 0 and any(waiting):
            for path, peers in zip(self._paths, waiting, strict=True):
                if peers and room > 0:
                    peer = peers.pop(0)
                    path.states[peer] = "asked"
                    path.flying += 1
                    queries.append(peer)
                    room -= 1
        self.asked += len(queries)
        return queries

    def answered(self, peer: PeerId, closer: Iterable[PeerId]) -> list[PeerId]:
        """A peer named others that are nearer; return those of them that are new to this look-up."""
        number = self._taken.get(peer)
        if number is None or self._paths[number].states.get(peer) != "asked":
            return []
        path = self._paths[number]
        path.states[peer] = "answered"
        path.flying -= 1
        fresh = []
        for each in list(dict.fromkeys(closer))[:MOST_CLOSER]:
            if each != self._own and each not in self._taken and len(path.states) < MOST_KNOWN:
                self._learn(number, each, path.hops[peer] + 1)
                fresh.append(each)
        return fresh

    def failed(self, peer: PeerId) -> None:
        """A peer did not answer."""
        number = self._taken.get(peer)
        if number is None or self._paths[number].states[peer] == "failed":
            return
        path = self._paths[number]
        path.flying -= path.states[peer] == "asked"
        path.states[peer] = "failed"
        del path.alive[bisect_left(path.alive, (self.target ^ point(peer), peer))]

    @property
    def is_done(self) -> bool:
        """Whether there is nobody left to ask."""
        return not any(path.flying for path in self._paths) and not any(self._waiting())

    @property
    def hops(self) -> int:
        """How many peers were asked one after the other on the way to the nearest that answered."""
        found = self.result()
        return next((path.hops[found[0]] for path in self._paths if found and found[0] in path.hops), 0)

    def result(self) -> list[PeerId]:
        """Return the nearest peers that answered, on all paths, the nearest first."""
        answered = (each for path in self._paths for each in path.alive if path.states[each[1]] == "answered")
        return [peer for _, peer in sorted(answered)[: self._k]]

    def _learn(self, number: int, peer: PeerId, hops: int) -> None:
        self._taken[peer] = number
        path = self._paths[number]
        path.states[peer] = "known"
        path.hops[peer] = hops
        insort(path.alive, (self.target ^ point(peer), peer))

    def _waiting(self) -> list[list[PeerId]]:
        """Return, by path, who is yet to be asked, the nearest first."""
        near = sorted(each for path in self._paths for each in path.alive[: self._k])[: self._k]
        farthest = near[-1] if near else (0, PeerId(b""))
        waiting = []
        for path in self._paths:
            wanted = max(self._share, bisect_right(path.alive, farthest))
            waiting.append([peer for _, peer in path.alive[:wanted] if path.states[peer] == "known"])
        return waiting
