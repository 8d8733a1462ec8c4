"""Provider records: kept for a time, in bounds that nobody can use against others."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.dht.keyspace import Key, PeerId
from shoal.dht.providers import Providers


def key(number: int) -> Key:
    return Key(b"key %d" % number)


def peer(number: int) -> PeerId:
    return PeerId(b"peer %d" % number)


def test_who_announced_is_told_the_newest_first_until_it_is_over() -> None:
    records = Providers(expires=100)
    records.add(key(1), peer(1), (b"a",), now=0)
    records.add(key(1), peer(2), (), now=50)
    assert [each.peer for each in records.of(key(1), now=60)] == [peer(2), peer(1)]
    assert records.of(key(1), now=60)[1].addresses == (b"a",)
    assert [each.peer for each in records.of(key(1), now=120)] == [peer(2)]
    assert records.expire(now=200) == 2
    assert records.size == 0


def test_to_say_it_again_makes_it_last() -> None:
    records = Providers(expires=100)
    records.add(key(1), peer(1), (), now=0)
    records.add(key(1), peer(1), (b"new",), now=90)
    assert records.of(key(1), now=150)[0].addresses == (b"new",)
    assert records.size == 1


def test_of_one_key_the_newest_stay() -> None:
    records = Providers(per_key=3)
    for number in range(5):
        records.add(key(1), peer(number), (), now=number)
    assert [each.peer for each in records.of(key(1), now=5)] == [peer(4), peer(3), peer(2)]


def test_a_peer_that_announces_very_much_takes_nothing_from_others() -> None:
    records = Providers(per_peer=10, total=30)
    records.add(key(1), peer(1), (), now=0)
    outcomes = [records.add(key(number), peer(2), (), now=1) for number in range(50)]
    assert outcomes.count("kept") == records.count(peer(2)) == 10
    assert set(outcomes[10:]) == {"peer is over its share"}
    assert records.of(key(1), now=2)


def test_a_full_store_takes_nothing_new_and_keeps_what_it_has() -> None:
    records = Providers(total=3)
    for number in range(3):
        assert records.add(key(number), peer(number), (), now=0) == "kept"
    assert records.add(key(9), peer(9), (), now=0) == "full"
    assert records.add(key(1), peer(1), (b"again",), now=0) == "kept"
    assert records.size == 3


def test_records_are_there_after_a_restart_and_none_outlasts_a_clock_that_was_wrong() -> None:
    records = Providers(expires=100)
    for number in range(4):
        records.add(key(number), peer(number), (b"a",), now=number * 10)
    again = Providers(expires=100)
    for row in records.rows():
        again.put_back(*row, now=105)
    assert [bool(again.of(key(number), now=105)) for number in range(4)] == [False, True, True, True]
    early = Providers(expires=100)
    for row in records.rows():
        early.put_back(*row, now=-1_000_000)  # the clock went back by days
    assert early.expire(now=-1_000_000 + 101) == 4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_is_said_the_bounds_hold_and_the_counts_are_right(seed: int) -> None:
    rng = random.Random(seed)
    records = Providers(per_key=3, per_peer=5, total=12, expires=20)
    now = 0.0
    for _ in range(200):
        now += rng.random()
        records.add(key(rng.randrange(8)), peer(rng.randrange(6)), (), now)
        rows = list(records.rows())
        assert len(rows) == records.size <= 12
        for number in range(6):
            assert records.count(peer(number)) == sum(row[1].peer == peer(number) for row in rows) <= 5
        for number in range(8):
            assert len(records.of(key(number), now)) <= 3
        assert [row[1].until for row in rows] == sorted(row[1].until for row in rows)
