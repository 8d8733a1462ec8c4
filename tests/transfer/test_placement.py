"""Placement: everybody computes the same, each gets its share, and what changes moves no more than it must."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.placement import Holder, Policy, assign, choose, leader, mine, spare

PACKS = [number.to_bytes(32) for number in range(600)]
HOLDERS = st.lists(
    st.tuples(st.sampled_from(["home", "office", "cloud", "shed"]), st.sampled_from([0.5, 1.0, 2.0])),
    min_size=4,
    max_size=14,
).map(lambda made: [Holder(bytes([number]) * 32, zone, weight) for number, (zone, weight) in enumerate(made)])
CODE = Policy(k=6, m=3)


def moves(before: list[Holder], after: list[Holder], count: int) -> tuple[int, int]:
    """Return how many pieces come to another device, and how many have to at least: a pack's pieces that were with who
    is gone, or, where somebody came, what is with it now."""
    gone = {each.device for each in before} - {each.device for each in after}
    moved = least = 0
    for pack in PACKS:
        was, now = set(choose(pack, before, count)), set(choose(pack, after, count))
        moved += len(now - was)
        least += min(len(was & gone), len(now - was)) if gone else len(now & {h.device for h in after} - was)
    return moved, least


@given(HOLDERS, st.integers(1, 5), st.data())
def test_who_leaves_moves_only_what_was_with_it(holders: list[Holder], count: int, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(holders))
    moved, least = moves(holders, [each for each in holders if each is not gone], count)
    assert moved <= 1.1 * least


@given(HOLDERS, st.integers(1, 5), st.sampled_from(["home", "office", "new"]))
def test_who_comes_moves_only_what_comes_to_it(holders: list[Holder], count: int, zone: str) -> None:
    fresh = Holder(b"n" * 32, zone, 1.0)
    for pack in PACKS[:200]:
        was, now = choose(pack, holders, count), choose(pack, [*holders, fresh], count)
        assert set(now) - set(was) <= {fresh.device}


@given(HOLDERS, st.integers(1, 5), st.lists(st.sampled_from(["home", "office", "new"]), max_size=2), st.data())
def test_who_changes_its_weight_moves_only_what_comes_to_it_or_leaves_it(
    holders: list[Holder], count: int, occupied: list[str], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(holders) - 1))
    changed = replace(holders[at], weight=data.draw(st.sampled_from([0.0, 0.3, 3.0])))
    after = [*holders[:at], changed, *holders[at + 1 :]]
    for pack in PACKS[:200]:
        was, now = set(choose(pack, holders, count, occupied)), set(choose(pack, after, count, occupied))
        assert was == now or changed.device in was ^ now
        assert len(now - was) <= 1
        assert len(was - now) <= 1


@given(HOLDERS, st.integers(1, 5), st.randoms())
def test_the_order_in_which_holders_are_known_does_not_matter(
    holders: list[Holder], count: int, rng: random.Random
) -> None:
    shuffled = holders[:]
    rng.shuffle(shuffled)
    assert all(choose(pack, holders, count) == choose(pack, shuffled, count) for pack in PACKS[:50])


@given(HOLDERS, st.integers(1, 6))
def test_pieces_are_in_as_many_zones_as_they_can_be(holders: list[Holder], count: int) -> None:
    zones = {each.device: each.zone for each in holders}
    there = Counter(zones.values())
    for pack in PACKS[:50]:
        chosen = choose(pack, holders, count)
        assert len(chosen) == len(set(chosen)) == min(count, len(holders))
        used = Counter(zones[device] for device in chosen)
        assert len(used) == min(len(chosen), len(there))
        most = max(used.values())
        assert all(used[zone] >= most - 1 or used[zone] == there[zone] for zone in there)


def test_zones_that_have_a_plain_copy_come_last() -> None:
    holders = [Holder(bytes([number]) * 32, zone, 1.0) for number, zone in enumerate(["home", "home", "office"])]
    assert all(choose(pack, holders, 1, ["home"]) == (holders[2].device,) for pack in PACKS[:50])


def test_twice_the_weight_holds_twice_as_much() -> None:
    holders = [Holder(bytes([number]) * 32, "", 1.0 + (number == 0)) for number in range(20)]
    held = Counter(device for number in range(20_000) for device in choose(number.to_bytes(32), holders, 1))
    others = sum(held.values()) - held[holders[0].device]
    assert held[holders[0].device] == pytest.approx(2 * others / 19, rel=0.1)


def test_who_offers_nothing_holds_nothing() -> None:
    holders = [Holder(b"1" * 32, "", 0.0), Holder(b"2" * 32, "", 1.0)]
    assert choose(PACKS[0], holders, 2) == (b"2" * 32,)


@given(st.permutations(range(9)), st.sets(st.integers(0, 8), max_size=4))
def test_who_has_a_piece_of_a_code_keeps_it_and_others_take_what_is_missing(order: list[int], lost: set[int]) -> None:
    chosen = [bytes([number]) * 32 for number in range(9)]
    claims = {chosen[at]: {index} for at, index in enumerate(order) if at not in lost}
    made = assign(chosen, claims, CODE)
    assert sorted(made.values()) == list(range(9))
    assert all(made[device] == next(iter(held)) for device, held in claims.items())


def test_of_two_with_the_same_piece_the_first_keeps_it() -> None:
    made = assign([b"1" * 32, b"2" * 32], {b"1" * 32: {0}, b"2" * 32: {0}}, Policy(k=1, m=1))
    assert made == {b"1" * 32: 0, b"2" * 32: 1}


def test_one_leads_the_repair_of_a_pack_the_same_for_all() -> None:
    assert leader([b"a", b"b", b"c"], [b"c", b"b"]) == b"b"
    assert leader([b"a"], []) is None


@given(HOLDERS)
def test_all_who_do_their_share_come_to_the_policy_and_are_left_with_nothing_to_do(holders: list[Holder]) -> None:
    policy = Policy(copies=3)
    claims: dict[bytes, dict[bytes, set[int]]] = {}
    packs = PACKS[:20]
    for holder in holders:
        for need in mine(holder.device, packs, holders, policy, claims, plain=("elsewhere",)).needs:
            claims.setdefault(need.pack, {})[holder.device] = {need.index}
    for holder in holders:
        plan = mine(holder.device, packs, holders, policy, claims, plain=("elsewhere",))
        assert (plan.needs, plan.surplus, plan.out_of_reach) == ((), (), ())
    assert all(len(claims[pack]) == 2 for pack in packs)


def test_the_most_endangered_packs_come_first() -> None:
    holders = [Holder(bytes([number]) * 32, "", 1.0) for number in range(4)]
    claims = {PACKS[0]: {holders[0].device: {0}, holders[1].device: {0}}, PACKS[1]: {holders[0].device: {0}}}
    plan = mine(holders[3].device, PACKS[:2], holders, Policy(copies=4), claims)
    assert [need.pack for need in plan.needs] == [PACKS[1], PACKS[0]]


def test_nothing_is_surplus_as_long_as_who_is_to_hold_it_lacks_it() -> None:
    holders = [Holder(bytes([number]) * 32, "", 1.0) for number in range(4)]
    pack = next(each for each in PACKS if choose(each, holders, 1) != (holders[0].device,))
    (other,) = choose(pack, holders, 1)
    alone = {pack: {holders[0].device: {0}}}
    both = {pack: {holders[0].device: {0}, other: {0}}}
    assert mine(holders[0].device, [pack], holders, Policy(copies=1), alone).surplus == ()
    assert [held.pack for held in mine(holders[0].device, [pack], holders, Policy(copies=1), both).surplus] == [pack]


@pytest.mark.parametrize("others", [0, 1, 2])
def test_nothing_is_surplus_where_fewer_are_chosen_than_there_should_be_copies(others: int) -> None:
    holders = [Holder(bytes([number]) * 32, "", float(number > 0)) for number in range(others + 1)]
    claims = {PACKS[0]: {each.device: {0} for each in holders}}
    assert mine(holders[0].device, PACKS[:1], holders, Policy(copies=3), claims).surplus == ()
    assert mine(holders[0].device, PACKS[:1], holders[1:], Policy(copies=3), claims).surplus == ()


def test_a_pack_of_which_too_little_is_left_is_told_and_not_tried() -> None:
    holders = [Holder(bytes([number]) * 32, "", 1.0) for number in range(9)]
    claims = {PACKS[0]: {holders[number].device: {number} for number in range(5)}}
    plan = mine(holders[8].device, PACKS[:1], holders, CODE, claims)
    assert plan.needs == ()
    assert plan.out_of_reach == (PACKS[0],)
    assert spare(claims[PACKS[0]], CODE) == -1


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"k": 0, "m": 1}, {"k": -1}, {"k": 200, "m": 100}, {"min_zones": 4}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"polic|code|zones"):
        Policy(**wrong)
