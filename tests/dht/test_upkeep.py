"""Upkeep: a table stays fresh, at the cost of few messages."""

from __future__ import annotations

import random
from itertools import pairwise

from shoal.dht.keyspace import BITS, PeerId, Point, point, shared_bits
from shoal.dht.routing import FRESH, SILENCE, K, RoutingTable
from shoal.dht.upkeep import (
    CHECKS,
    CHECKS_CUT_OFF,
    FEW,
    LOOKS,
    REFRESH,
    REFRESH_FEW,
    REFRESH_MOST,
    REFRESH_SPARSE,
    ROOMY,
    Check,
    Refresh,
    Upkeep,
)

OWN = PeerId(b"own")
PEERS = [PeerId(b"peer %d" % number) for number in range(4000)]


def peers_at(place: int, count: int) -> list[PeerId]:
    """Return peers that share so many bits with this one."""
    return [each for each in PEERS if shared_bits(point(OWN), point(each)) == place][:count]


def filled(*sizes: int, now: float = 0.0) -> RoutingTable:
    """Return a table with so many peers in its buckets, all of whom just answered."""
    table = RoutingTable(OWN)
    for place, size in enumerate(sizes):
        for each in peers_at(place, size):
            table.answered(each, (), now)
    return table


def upkeep_of(table: RoutingTable) -> Upkeep:
    return Upkeep(table, OWN, random.Random(1))


def checks(due: list[Check | Refresh]) -> list[Check]:
    return [each for each in due if isinstance(each, Check)]


def looks(due: list[Check | Refresh]) -> list[int]:
    """Return where is to be looked for more: the bits that the targets share with this peer."""
    return [shared_bits(point(OWN), each.target) for each in due if isinstance(each, Refresh)]


def test_alone_there_is_nothing_to_do() -> None:
    assert upkeep_of(RoutingTable(OWN)).due(now=0) == []


def test_who_was_heard_of_is_asked_whether_it_is_there_and_after_it_answered_not_for_long() -> None:
    table = RoutingTable(OWN)
    table.heard_of(PEERS[0], ())
    upkeep = upkeep_of(table)
    assert [each.peer for each in checks(upkeep.due(now=0))] == [PEERS[0]]
    table.answered(PEERS[0], (), now=1)
    assert checks(upkeep.due(now=FRESH)) == []
    assert [each.peer for each in checks(upkeep.due(now=FRESH + 2))] == [PEERS[0]]


def test_few_are_checked_at_once() -> None:
    assert len(checks(upkeep_of(filled(K, K, K)).due(now=FRESH + 1))) == CHECKS


def test_while_nobody_answers_fewer_are_checked_and_each_in_turn() -> None:
    table = filled(K, K)
    upkeep = upkeep_of(table)
    for each in peers_at(0, K) + peers_at(1, K):
        table.failed(each)
    assert table.is_cut_off
    asked: set[PeerId] = set()
    for _ in range(len(table)):
        due = checks(upkeep.due(now=FRESH + 1))
        assert len(due) == CHECKS_CUT_OFF
        for check in due:
            asked.add(check.peer)
            table.failed(check.peer)
    assert asked == {contact.peer for contact in table}
    assert len(table) >= 2 * K - SILENCE


def test_who_is_checked_is_asked_for_peers_of_its_bucket_if_that_has_room() -> None:
    due = checks(upkeep_of(filled(8, K)).due(now=FRESH + 1))
    roomy = peers_at(0, 8)
    wanted = [each.target for each in due if each.peer in roomy]
    assert wanted
    assert all(target is not None and shared_bits(point(OWN), target) == 0 for target in wanted)
    assert all(each.target is None for each in due if each.peer not in roomy)


def test_of_the_nearest_nobody_is_asked_for_more_as_a_look_up_of_ones_own_point_finds_all() -> None:
    near = filled(0, 0, 0, K, 5)
    assert all(each.target is None for each in checks(upkeep_of(near).due(now=FRESH + 1)))


def test_ones_own_point_is_looked_up_at_first_and_then_each_hour() -> None:
    upkeep = upkeep_of(filled(K, K, K))
    assert looks(upkeep.due(now=0)) == [BITS]
    assert looks(upkeep.due(now=REFRESH - 1)) == []
    assert looks(upkeep.due(now=REFRESH)) == [BITS]
    assert looks(upkeep.due(now=2 * REFRESH)) == [BITS]


def test_with_few_known_it_is_looked_for_more_soon_and_then_later_and_later_until_somebody_comes() -> None:
    table = filled(3)
    upkeep = upkeep_of(table)
    times = [now for now in range(2000) if looks(upkeep.due(now=now))]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert gaps[:3] == [REFRESH_FEW, 2 * REFRESH_FEW, 4 * REFRESH_FEW]
    assert max(gaps) <= REFRESH_SPARSE
    for each in peers_at(0, FEW - 1):
        table.answered(each, (), now=2000)
    assert looks(upkeep.due(now=2000 + REFRESH_FEW)) == [BITS]


def test_a_far_bucket_with_few_is_looked_at_ever_later_while_that_brings_nobody() -> None:
    table = filled(ROOMY - 1, K, K)
    upkeep = upkeep_of(table)
    times = [now for now in range(0, 12 * 3600, 10) if 0 in looks(upkeep.due(now=now))]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] == REFRESH_SPARSE
    assert gaps[-1] <= REFRESH_MOST
    for each in peers_at(0, ROOMY):
        table.answered(each, (), now=0)
    assert looks(upkeep.due(now=24 * 3600)) == [BITS]


def test_when_a_bucket_grew_and_shrank_it_is_looked_at_soon_again() -> None:
    table = filled(5, K, K)
    upkeep = upkeep_of(table)
    upkeep.due(now=0)
    upkeep.due(now=REFRESH_SPARSE)
    (come,) = peers_at(0, 6)[5:]
    table.answered(come, (), now=REFRESH_SPARSE)
    assert 0 in looks(upkeep.due(now=2 * REFRESH_SPARSE))


def test_a_day_of_a_table_that_is_full_takes_few_look_ups() -> None:
    table = filled(K, K, K, K, 12)
    upkeep = upkeep_of(table)
    taken = sum(len(looks(upkeep.due(now=now))) for now in range(0, 24 * 3600, 60))
    assert taken <= 25


def test_of_many_far_buckets_without_anybody_a_few_are_looked_at_at_once() -> None:
    table = filled(*[1] * 7, K, K)
    assert len(looks(upkeep_of(table).due(now=0))) == LOOKS


def test_the_same_randomness_gives_the_same_targets() -> None:
    def targets() -> list[Point | None]:
        return [each.target for each in upkeep_of(filled(1, 1, K)).due(now=FRESH + 1)]

    assert targets() == targets()
