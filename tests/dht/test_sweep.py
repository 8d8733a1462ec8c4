"""Announcing by sweep: every key reaches the peers nearest to it, at a cost by peers and not by keys."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.dht.keyspace import Key, PeerId, nearest, point
from shoal.dht.sweep import K, Sweep


def sweep(keys: list[Key], peers: list[PeerId]) -> tuple[dict[Key, set[PeerId]], int, int]:
    """Return who was told of each key, how many look-ups that took, and how many messages."""
    told: dict[Key, set[PeerId]] = {key: set() for key in keys}
    lookups = messages = 0
    going = Sweep(keys)
    while (target := going.next_target()) is not None:
        lookups += 1
        for batch in going.found(nearest(target, peers, K)):
            messages += 1
            for key in batch.keys:
                told[key].add(batch.peer)
    assert going.is_done
    assert going.left == 0
    return told, lookups, messages


@pytest.mark.parametrize("count", [1, 5, 19, 20, 21, 300])
def test_every_key_reaches_peers_near_it(count: int) -> None:
    rng = random.Random(count)
    peers = [PeerId(rng.randbytes(34)) for _ in range(count)]
    keys = [Key(rng.randbytes(34)) for _ in range(2000)]
    told, _, _ = sweep(keys, peers)
    for key in keys:
        best = nearest(point(key), peers, K)
        assert len(told[key]) >= min(count, K)
        assert best[0] in told[key]
        assert len(told[key] & set(best)) >= min(count, K) * 0.5


def test_the_cost_grows_with_peers_and_not_with_keys() -> None:
    rng = random.Random(1)
    peers = [PeerId(rng.randbytes(34)) for _ in range(300)]
    _, lookups, messages = sweep([Key(rng.randbytes(34)) for _ in range(2_000)], peers)
    _, more_lookups, more_messages = sweep([Key(rng.randbytes(34)) for _ in range(20_000)], peers)
    assert more_lookups <= 1.5 * lookups
    assert more_messages <= 1.5 * messages
    assert more_messages <= 6 * len(peers)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 200))
def test_it_ends_and_leaves_no_key_out(seed: int, peers: int, keys: int) -> None:
    rng = random.Random(seed)
    told, _, _ = sweep([Key(rng.randbytes(8)) for _ in range(keys)], [PeerId(rng.randbytes(8)) for _ in range(peers)])
    assert all(bool(who) == bool(peers) for who in told.values())


def test_a_target_that_nobody_is_near_is_left_for_later() -> None:
    going = Sweep([Key(b"a"), Key(b"b")])
    going.skip()
    assert going.left == 1


def test_where_some_of_the_nearest_are_gone_the_rest_are_not_taken_for_all_that_there_are() -> None:
    rng = random.Random(2)
    peers = [PeerId(rng.randbytes(34)) for _ in range(1000)]
    keys = [Key(rng.randbytes(34)) for _ in range(5000)]
    going = Sweep(keys)
    told: dict[Key, set[PeerId]] = {key: set() for key in keys}
    while (target := going.next_target()) is not None:
        for batch in going.found(nearest(target, peers, K)[:-2]):
            for key in batch.keys:
                told[key].add(batch.peer)
    for key in keys:
        assert len(told[key] & set(nearest(point(key), peers, K))) >= K * 0.4


@pytest.mark.parametrize("count", [1, 2, 5, 19])
def test_with_few_peers_few_look_ups_are_enough(count: int) -> None:
    rng = random.Random(count)
    peers = [PeerId(rng.randbytes(34)) for _ in range(count)]
    _, lookups, _ = sweep([Key(rng.randbytes(34)) for _ in range(20_000)], peers)
    assert lookups <= 40
