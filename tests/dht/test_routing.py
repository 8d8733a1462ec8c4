"""The routing table: who is there stays, no network fills it, and the nearest are found."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.dht.keyspace import Key, PeerId, nearest, point, shared_bits
from shoal.dht.routing import (
    FAILURES,
    FRESH,
    FRESH_MOST,
    PER_BUCKET,
    PER_TABLE,
    SILENCE,
    WAITING,
    K,
    RoutingTable,
    networks_of,
)

OWN = PeerId(b"own")


def peer(number: int) -> PeerId:
    return PeerId(f"peer {number}".encode())


def at(network: int, host: int = 1) -> tuple[str, ...]:
    return (f"/ip4/{20 + network // 200}.{network % 200}.0.{host}/tcp/4001",)


def far(count: int) -> list[PeerId]:
    """Return peers that share no bit with this one."""
    found = (peer(number) for number in range(10_000))
    return [each for each in found if shared_bits(point(OWN), point(each)) == 0][:count]


def test_a_full_bucket_keeps_who_answers() -> None:
    table = RoutingTable(OWN)
    peers = far(K + 5)
    for number, each in enumerate(peers):
        table.answered(each, at(number), now=0)
    assert {contact.peer for contact in table} == set(peers[:K])


def test_who_waits_takes_the_place_of_one_that_failed() -> None:
    table = RoutingTable(OWN)
    peers = far(K + 1)
    for number, each in enumerate(peers):
        table.answered(each, at(number), now=0)
    for _ in range(FAILURES):
        table.failed(peers[3])
    assert {contact.peer for contact in table} == set(peers) - {peers[3]}


def test_who_was_only_heard_of_gives_way_to_one_that_answers() -> None:
    table = RoutingTable(OWN)
    peers = far(K + 1)
    for number, each in enumerate(peers[:K]):
        table.heard_of(each, at(number))
    table.answered(peers[K], at(K), now=0)
    assert table.get(peers[K]) is not None
    assert len(table) == K


def test_a_peer_that_failed_once_and_answers_is_there() -> None:
    table = RoutingTable(OWN)
    (each,) = far(1)
    table.answered(each, at(1), now=0)
    table.failed(each)
    table.answered(each, at(1), now=1)
    table.failed(each)
    assert table.get(each) is not None


def test_one_network_fills_neither_a_bucket_nor_the_table() -> None:
    table = RoutingTable(OWN)
    for each in far(K):
        table.answered(each, at(7, host=len(table) + 1), now=0)
    assert len(table) == PER_BUCKET
    for number in range(3000):
        table.answered(peer(number), at(7, host=number % 250), now=0)
    assert len(table) <= PER_TABLE


def test_addresses_of_ones_own_network_are_not_counted() -> None:
    assert (
        networks_of(("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip6/fe80::1/tcp/1", "/dns4/x/tcp/1")) == set()
    )
    assert networks_of(("/ip4/8.8.8.8/tcp/1", "/ip6/2a00:1450::1/tcp/1")) == {"8.8.0.0/16", "2a00:1450::/32"}


def test_what_waits_beside_a_bucket_is_bounded() -> None:
    table = RoutingTable(OWN)
    for number, each in enumerate(far(K + 100)):
        table.answered(each, at(number), now=0)
    assert sum(map(len, table._waiting.values())) == WAITING


def test_itself_is_not_in_it() -> None:
    table = RoutingTable(OWN)
    table.answered(OWN, at(1), now=0)
    assert len(table) == 0


def test_who_has_not_answered_for_long_is_to_be_asked_the_oldest_first() -> None:
    table = RoutingTable(OWN)
    one, other, third = far(3)
    table.answered(one, at(1), now=100)
    table.answered(other, at(2), now=50)
    table.answered(third, at(3), now=FRESH + 100)
    assert [each.peer for each in table.stale(now=FRESH + 101)] == [other, one]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_nearest_are_the_nearest(seed: int) -> None:
    rng = random.Random(seed)
    table = RoutingTable(OWN)
    for number in range(rng.randrange(1, 400)):
        table.answered(peer(number), at(number), now=rng.random())
    target = point(Key(rng.randbytes(32)))
    known = {contact.peer for contact in table}
    assert [contact.peer for contact in table.nearest(target)] == nearest(target, known, K)


def test_buckets_with_room_are_told_so_that_they_can_be_filled() -> None:
    table = RoutingTable(OWN)
    for number, each in enumerate(far(K)):
        table.answered(each, at(number), now=0)
    assert 0 not in table.sparse()
    assert 1 in table.sparse()


def test_who_has_been_there_for_long_is_asked_less_often() -> None:
    table = RoutingTable(OWN)
    old, young = far(2)
    for now in (0, FRESH, 6 * FRESH):
        table.answered(old, at(1), now=now)
    table.answered(young, at(2), now=6 * FRESH)
    assert [each.peer for each in table.stale(now=7 * FRESH + 1)] == [young]
    table.answered(old, at(1), now=1000 * FRESH)
    assert table.stale(now=1000 * FRESH + FRESH_MOST + 1)[-1].peer == old


def test_who_failed_is_asked_again_soon_and_counts_as_one_that_came_lately() -> None:
    table = RoutingTable(OWN)
    (each,) = far(1)
    for now in (0, 6 * FRESH):
        table.answered(each, at(1), now=now)
    table.failed(each)
    assert [contact.peer for contact in table.stale(now=6 * FRESH + 1)] == [each]
    table.answered(each, at(1), now=6 * FRESH + 2)
    assert [contact.peer for contact in table.stale(now=7 * FRESH + 3)] == [each]


def test_a_peer_that_is_cut_off_forgets_nobody() -> None:
    table = RoutingTable(OWN)
    for number in range(200):
        table.answered(peer(number), (), now=0)
    for number in range(200, 240):
        table.heard_of(peer(number), ())
    known = {contact.peer for contact in table}
    for _ in range(5):
        for each in sorted(known):
            table.failed(each)
    kept = {contact.peer for contact in table}
    assert len(known - kept) <= SILENCE
    table.answered(min(kept), (), now=9)
    gone = max(kept)
    table.failed(gone)
    assert table.get(gone) is None, "somebody answered: this one is gone, and not the network"


def test_others_are_told_only_of_who_answered_and_did_not_fail_since() -> None:
    table = RoutingTable(OWN)
    one, doubtful, heard = far(3)
    for each in (one, doubtful):
        table.answered(each, (), now=0)
    table.heard_of(heard, ())
    table.failed(doubtful)
    assert [each.peer for each in table.nearest(point(one), there=True)] == [one]
    assert len(table.nearest(point(one))) == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_no_network_has_more_than_its_share(seed: int) -> None:
    rng = random.Random(seed)
    table = RoutingTable(OWN)
    for number in range(600):
        each, where = peer(rng.randrange(300)), at(rng.randrange(4), host=rng.randrange(1, 250))
        match rng.randrange(4):
            case 0:
                table.heard_of(each, where)
            case 1:
                table.failed(each)
            case _:
                known = table.get(each)
                table.answered(each, where if known is None else known.addresses, now=number)
    for bucket in table._buckets.values():
        counts = Counter(network for contact in bucket.values() for network in networks_of(contact.addresses))
        assert all(count <= PER_BUCKET for count in counts.values())
    counts = Counter(network for contact in table for network in networks_of(contact.addresses))
    assert all(count <= PER_TABLE for count in counts.values())
    assert {network: count for (place, network), count in table._networks.items() if place is None} == counts
