"""Look-ups come to the nearest peers in few steps, ask few, and are not led astray by some that lie."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.dht.keyspace import Key, PeerId, Point, nearest, point
from shoal.dht.lookup import ALPHA, MOST_CLOSER, K, Lookup
from shoal.dht.routing import RoutingTable

Answer = Callable[[PeerId, Point], list[PeerId] | None]


class Network:
    """Peers whose tables know some of the others, as after some time together."""

    def __init__(self, count: int, rng: random.Random) -> None:
        self.peers = [PeerId(rng.randbytes(34)) for _ in range(count)]
        self.tables: dict[PeerId, RoutingTable] = {}
        for each in self.peers:
            table = self.tables[each] = RoutingTable(each)
            own = point(each)
            for known in nearest(own, rng.sample(self.peers, min(count, 300)), 60):
                table.answered(known, (), 0)
            for known in rng.sample(self.peers, min(count, 200)):
                table.answered(known, (), 0)
        by_place = sorted(self.peers, key=point)
        for place, each in enumerate(by_place):
            for known in by_place[max(0, place - 30) : place + 30]:
                self.tables[each].answered(known, (), 0)
        self.gone: set[PeerId] = set()
        self.liars: dict[PeerId, Answer] = {}

    def answer(self, asked: PeerId, target: Point) -> list[PeerId] | None:
        if asked in self.gone:
            return None
        if asked in self.liars:
            return self.liars[asked](asked, target)
        return [contact.peer for contact in self.tables[asked].nearest(target)]


def run(network: Network, target: Point, own: PeerId, *, paths: int = 1) -> Lookup:
    known = [contact.peer for contact in network.tables[own].nearest(target)]
    lookup = Lookup(target, known, own, paths=paths)
    flying: list[PeerId] = []
    while not lookup.is_done:
        flying += lookup.next_queries()
        assert flying
        asked = flying.pop(0)
        closer = network.answer(asked, target)
        if closer is None:
            lookup.failed(asked)
        else:
            lookup.answered(asked, closer)
    return lookup


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(1500, random.Random(1))


def test_the_nearest_peers_are_found_in_few_steps_by_asking_few(network: Network) -> None:
    rng = random.Random(2)
    hops, asked, right = [], [], 0
    for _ in range(40):
        target, own = point(Key(rng.randbytes(32))), rng.choice(network.peers)
        lookup = run(network, target, own)
        hops.append(lookup.hops)
        asked.append(lookup.asked)
        right += lookup.result()[:5] == nearest(target, set(network.peers) - {own}, 5)
    assert right >= 38
    assert sum(hops) / len(hops) <= math.log2(len(network.peers)) / 2
    assert sum(asked) / len(asked) <= 3 * K


def test_it_goes_on_where_a_third_of_the_peers_is_gone() -> None:
    rng = random.Random(3)
    network = Network(800, rng)
    network.gone = set(rng.sample(network.peers, 260))
    alive = [each for each in network.peers if each not in network.gone]
    found = 0
    for _ in range(30):
        target, own = point(Key(rng.randbytes(32))), rng.choice(alive)
        best = nearest(target, set(alive) - {own}, 1)
        found += run(network, target, own).result()[:1] == best
    assert found >= 29


def test_disjoint_paths_find_the_way_past_peers_that_lie() -> None:
    rng = random.Random(4)
    network = Network(800, rng)
    conspiracy = rng.sample(network.peers, 160)
    for liar in conspiracy:
        network.liars[liar] = lambda asked, target: nearest(target, conspiracy, K)
    honest = [each for each in network.peers if each not in network.liars]
    found = {1: 0, 4: 0}
    for _ in range(40):
        target, own = point(Key(rng.randbytes(32))), rng.choice(honest)
        best = nearest(target, set(honest) - {own}, 1)[0]
        for paths in found:
            found[paths] += best in run(network, target, own, paths=paths).result()
    assert found[4] >= found[1]
    assert found[4] >= 38


def test_disjoint_paths_find_all_that_are_near_and_ask_few_more(network: Network) -> None:
    rng = random.Random(5)
    asked = {1: 0, 3: 0}
    right = 0
    for _ in range(30):
        target, own = point(Key(rng.randbytes(32))), rng.choice(network.peers)
        best = nearest(target, set(network.peers) - {own}, K)
        for paths in asked:
            lookup = run(network, target, own, paths=paths)
            asked[paths] += lookup.asked
            right += len(set(best) & set(lookup.result()))
    assert asked[3] <= 1.6 * asked[1]
    assert right >= 0.99 * 2 * 30 * K


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_whatever_is_answered_it_ends_and_asks_nobody_twice(seed: int, paths: int) -> None:
    rng = random.Random(seed)
    peers = [PeerId(rng.randbytes(8)) for _ in range(200)]
    lookup = Lookup(point(Key(b"x")), peers[:20], peers[0], paths=paths)
    asked: set[PeerId] = set()
    flying: list[PeerId] = []
    for _ in range(5000):
        fresh = lookup.next_queries()
        assert not asked & set(fresh)
        assert peers[0] not in fresh
        asked |= set(fresh)
        flying += fresh
        assert len(flying) <= ALPHA
        if not flying:
            break
        each = flying.pop(rng.randrange(len(flying)))
        if rng.random() < 0.3:
            lookup.failed(each)
        else:
            lookup.answered(each, rng.sample(peers, rng.randrange(60)))
        if rng.random() < 0.1:
            lookup.answered(rng.choice([each for each in peers if each not in flying]), peers)  # nobody asked it
    assert lookup.is_done


def test_an_answer_that_names_very_many_counts_for_some() -> None:
    lookup = Lookup(point(Key(b"x")), [PeerId(b"a")], PeerId(b"me"))
    assert lookup.next_queries() == [PeerId(b"a")]
    fresh = lookup.answered(PeerId(b"a"), [PeerId(bytes([number, 1])) for number in range(250)])
    assert len(fresh) == MOST_CLOSER
