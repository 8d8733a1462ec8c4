"""Provider records: kept for a time, in bounds that nobody can use against others."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.dht.keyspace import Key, PeerId
from shoal.dht.providers import Providers
from shoal.dht.table import MemoryTable


def key(number: int) -> Key:
    return Key(b"key %d" % number)


def peer(number: int) -> PeerId:
    return PeerId(b"peer %d" % number)


def test_who_announced_is_told_the_newest_first_until_it_is_over() -> None:
    records = Providers(MemoryTable(), expires=100)
    records.add([key(1)], peer(1), (b"a",), now=0)
    records.add([key(1)], peer(2), (), now=50)
    assert [each.peer for each in records.of(key(1), now=60)] == [peer(2), peer(1)]
    assert records.of(key(1), now=60)[1].addresses == (b"a",)
    assert [each.peer for each in records.of(key(1), now=120)] == [peer(2)]
    assert records.expire(now=200) == 2
    assert records.size == records.count(peer(1)) == 0


def test_to_say_it_again_makes_it_last() -> None:
    records = Providers(MemoryTable(), expires=100)
    records.add([key(1)], peer(1), (), now=0)
    records.add([key(1)], peer(1), (b"new",), now=90)
    assert records.of(key(1), now=150)[0].addresses == (b"new",)
    assert records.size == 1


def test_of_one_key_the_newest_stay() -> None:
    records = Providers(MemoryTable(), per_key=3)
    for number in range(5):
        records.add([key(1)], peer(number), (), now=number)
    assert [each.peer for each in records.of(key(1), now=5)] == [peer(4), peer(3), peer(2)]


def test_a_peer_that_announces_very_much_takes_nothing_from_others_and_leaves_room() -> None:
    records = Providers(MemoryTable(), total=120)
    records.add([key(0)], peer(0), (), now=0)
    for number in range(1, 6):
        records.add([key(each) for each in range(1000)], peer(number), (), now=1)
    assert records.of(key(0), now=2)
    refused = records.add([key(5000 + each) for each in range(2)], peer(9), (), now=3)
    assert not refused, "five who announce what they can leave room for a sixth"


def test_over_its_share_a_peer_is_told_what_was_refused() -> None:
    records = Providers(MemoryTable(), per_peer=10)
    refused = records.add([key(number) for number in range(15)], peer(1), (), now=0)
    assert refused == [key(number) for number in range(10, 15)]
    assert records.add([key(3)], peer(1), (), now=1) == [], "what it said before, it may say again"


def test_only_so_many_peers_have_records() -> None:
    records = Providers(MemoryTable(), peers=2, expires=100)
    assert [len(records.add([key(1)], peer(number), (), now=0)) for number in range(3)] == [0, 0, 1]
    records.expire(now=200)
    assert records.add([key(1)], peer(2), (), now=200) == []


def test_records_are_there_after_a_restart() -> None:
    table = MemoryTable()
    records = Providers(table, expires=100)
    for number in range(4):
        records.add([key(number), key(7)], peer(number), (b"a",), now=number * 10)
    again = Providers(table, expires=100)
    assert again.size == 8
    assert [bool(again.of(key(number), now=105)) for number in range(4)] == [False, True, True, True]
    assert again.of(key(3), now=105)[0].addresses == (b"a",)
    again.add([key(9)], peer(9), (), now=105)
    assert [each.peer for each in again.of(key(7), now=105)] == [peer(3), peer(2), peer(1)]


def test_none_outlasts_a_clock_that_was_years_ahead() -> None:
    records = Providers(MemoryTable(), expires=100)
    records.add([key(1)], peer(1), (), now=1_000_000)
    assert records.of(key(1), now=0) == []
    assert records.expire(now=0) == 1


def test_what_is_over_is_found_a_few_keys_at_a_time() -> None:
    records = Providers(MemoryTable(), expires=100)
    records.add([key(number) for number in range(25)], peer(1), (), now=0)
    assert [records.expire(now=200, most=10) for _ in range(3)] == [10, 10, 5]
    assert records.size == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_is_said_the_bounds_hold_and_the_counts_are_right(seed: int) -> None:
    rng = random.Random(seed)
    table = MemoryTable()
    records = Providers(table, per_key=3, per_peer=5, total=12, peers=5, expires=20)
    now = 0.0
    for _ in range(150):
        now += rng.random() * 2
        match rng.randrange(10):
            case 0:
                records.expire(now, most=rng.randrange(1, 4))
            case 1:
                records = Providers(table, per_key=3, per_peer=5, total=12, peers=5, expires=20)
            case _:
                records.add([key(rng.randrange(8)) for _ in range(rng.randrange(4))], peer(rng.randrange(7)), (), now)
        stored = Counter(
            int.from_bytes(value[at : at + 4]) for _, value in table.scan(b"k") for at in range(0, len(value), 8)
        )
        assert sum(stored.values()) == records.size <= 12
        assert sorted(stored.values()) == sorted(records.count(peer(n)) for n in range(7) if records.count(peer(n)))
        assert all(count <= 5 for count in stored.values())
        assert len(stored) <= 5
        assert all(len(value) <= 3 * 8 for _, value in table.scan(b"k"))
