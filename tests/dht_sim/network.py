"""The simulated network: time, messages and their delays, and who is there.

Events are in one queue. A look-up is run to its end at the moment when it begins, with a queue of its own for what is
in flight: it takes seconds, in which tables hardly change; but who leaves during it does not answer any more.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.dht_sim.churn import Session, sessions
from tests.dht_sim.node import Node

from shoal.dht.driver import ANSWERS_WITHIN, LOOKUP_WITHIN, PATHS
from shoal.dht.keyspace import BITS, Key, PeerId, Point
from shoal.dht.lookup import K, Lookup
from shoal.dht.upkeep import CHECKS, LOOKS, Check

RTT = 0.08  # seconds, the median
RTT_SPREAD = 0.6  # of its logarithm
ROUND_TRIPS = 4  # of a question to a peer that is not connected yet: TCP, Noise, Yamux, and itself
TEND_EVERY = 240.0  # seconds; the driver looks more often, which changes nothing but when within them a check is done
TEND_BUSY = 5.0  # seconds, after a look that found as much as may be done at once
SEEDS = 3  # peers that a new one knows
NETWORKS = 4000  # of /16, taken by peers as Zipf's law says: the first has about one in nine


@dataclass(frozen=True, slots=True)
class Walk:
    """What a look-up came to. `messages`: questions, those that failed included; `seconds`: how long it took; `found`:
    whether a record was found."""

    lookup: Lookup
    messages: int
    failed: int
    seconds: float
    found: bool


class Network:
    """`size`: how many peers are there at a time, on average, of twice as many; `until`: seconds."""

    def __init__(self, size: int, until: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.until = until
        self.nodes: dict[PeerId, Node] = {}
        self.there: list[Node] = []
        self.messages: Counter[str] = Counter()  # by what they are for
        self.failures: Counter[str] = Counter()
        self._places: dict[PeerId, int] = {}  # in `there`
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._harmonic = [1.0]
        for rank in range(2, NETWORKS + 1):
            self._harmonic.append(self._harmonic[-1] + 1 / rank)
        churn = random.Random(self.rng.random())
        first = [self._new() for _ in range(2 * size)]
        self._know_each_other(first)
        for node in first:
            self._next_session(node, sessions(random.Random(churn.random()), until))

    # -- time --------------------------------------------------------------------------------------------------------

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at a time, in seconds."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, do))

    def run(self, until: float) -> None:
        """Go on to a time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until

    # -- messages ----------------------------------------------------------------------------------------------------

    def someone(self) -> Node:
        """Return a random peer that is there."""
        return self.rng.choice(self.there)

    def walk(self, source: Node, target: Point, purpose: str, key: Key | None = None) -> Walk:
        """Look up a point as the driver does; with a key, until a record of it is found."""
        known = [contact.peer for contact in source.table.nearest(target)]
        lookup = Lookup(target, known, source.peer, paths=min(PATHS, max(1, len(known) // 3)))
        flying: list[tuple[float, PeerId, bool]] = []
        at, failed, found = self.now, 0, False
        while not found:
            for peer in lookup.next_queries():
                is_there = self.nodes[peer].is_there_at(at)
                delay = self.rng.lognormvariate(_LOG_DELAY, RTT_SPREAD) if is_there else ANSWERS_WITHIN
                heapq.heappush(flying, (at + delay, peer, is_there))
            if not flying or flying[0][0] > self.now + LOOKUP_WITHIN:
                break
            at, peer, answers = heapq.heappop(flying)
            if answers:
                node = self.nodes[peer]
                lookup.answered(peer, node.nearest(source, target))
                source.table.answered(peer, node.where, at)
                found = key is not None and node.knows(key, at)
            else:
                failed += 1
                source.table.failed(peer)
                lookup.failed(peer)
        self.messages[purpose] += lookup.asked
        self.failures[purpose] += failed
        return Walk(lookup, lookup.asked, failed, at - self.now, found)

    def tell(self, source: Node, peer: PeerId, purpose: str, messages: int = 1) -> Node | None:
        """Send a peer something that it answers; return who took it."""
        self.messages[purpose] += messages
        node = self.nodes[peer]
        if not node.is_there_at(self.now):
            self.failures[purpose] += messages
            source.table.failed(peer)
            return None
        source.table.answered(peer, node.where, self.now)
        return node

    # -- inside ------------------------------------------------------------------------------------------------------

    def _new(self) -> Node:
        """Make a peer that was never there."""
        rank = bisect_left(self._harmonic, self.rng.random() * self._harmonic[-1])
        where = f"/ip4/{20 + rank // 200}.{rank % 200}.{self.rng.randrange(256)}.{self.rng.randrange(256)}/tcp/22000"
        node = Node(PeerId(self.rng.randbytes(38)), (where,), random.Random(self.rng.random()))
        self.nodes[node.peer] = node
        return node

    def _next_session(self, node: Node, comings: Iterator[Session]) -> None:
        """Let the peer of a place, or a new one in its stead, come when its next session begins."""
        session = next(comings, None)
        if session is None:
            return
        coming = self._new() if session.is_new else node
        self.at(max(session.start, 0.0), lambda: self._come(coming, session, comings))

    def _come(self, node: Node, session: Session, comings: Iterator[Session]) -> None:
        node.come(self.now, session.end)
        for peer in node.saved:
            node.table.heard_of(peer, self.nodes[peer].where)
        if not node.saved and self.there:
            for seed in self.rng.sample(self.there, min(SEEDS, len(self.there))):
                node.table.heard_of(seed.peer, seed.where)
        self._places[node.peer] = len(self.there)
        self.there.append(node)
        self.at(self.now + TEND_BUSY * self.rng.random(), partial(self._tend, node, node.turn))
        self.at(session.end, lambda: self._go(node, comings))

    def _go(self, node: Node, comings: Iterator[Session]) -> None:
        node.go(self.now)
        place, last = self._places.pop(node.peer), self.there.pop()
        if last is not node:
            self.there[place] = last
            self._places[last.peer] = place
        self._next_session(node, comings)

    def _tend(self, node: Node, turn: int) -> None:
        if not node.is_there or node.turn != turn:
            return
        due = node.upkeep.due(self.now)
        for action in due:
            if isinstance(action, Check):
                asked = self.tell(node, action.peer, "check")
                if asked is not None and action.target is None:
                    asked.heard(node)
                elif asked is not None and action.target is not None:
                    for peer in asked.nearest(node, action.target):
                        node.table.heard_of(peer, self.nodes[peer].where)
            else:
                self.walk(node, action.target, "refresh")
        checks = sum(isinstance(action, Check) for action in due)
        busy = checks >= CHECKS or len(due) - checks >= LOOKS
        wait = TEND_BUSY if busy else TEND_EVERY
        self.at(self.now + wait * (0.5 + self.rng.random()), partial(self._tend, node, turn))

    def _know_each_other(self, first: list[Node]) -> None:
        """Let the first peers of all know each other as after some time together: some in each bucket."""
        everyone = sorted(first, key=lambda node: node.at)
        points = [node.at for node in everyone]
        for node in first:
            for shared in range(BITS):
                low = (node.at ^ (1 << (BITS - 1 - shared))) >> (BITS - 1 - shared) << (BITS - 1 - shared)
                start, end = bisect_left(points, low), bisect_left(points, low + (1 << (BITS - 1 - shared)))
                known = range(start, end) if end - start <= K else self.rng.sample(range(start, end), K)
                node.saved += [everyone[each].peer for each in known]
                if end - start == 0 and shared > 2 * len(first).bit_length():
                    break


_LOG_DELAY = math.log(ROUND_TRIPS * RTT)
