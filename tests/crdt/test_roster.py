"""The roster: valid only through an unbroken line of signatures, and the same in any order."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId
from shoal.crdt.roster import NoGenesis, Roster, add_device, genesis

KEYS = [DeviceKey(bytes([n]) * 32) for n in range(8)]


def test_the_first_device_makes_the_account() -> None:
    roster = Roster.from_statements([genesis(KEYS[0], "laptop", 5)])
    assert {d: r.name for d, r in roster.devices.items()} == {KEYS[0].id: "laptop"}


def test_a_stranger_cannot_add_a_device() -> None:
    first = genesis(KEYS[0], "a", 0)
    roster = Roster.from_statements([first])
    forged = add_device(roster, KEYS[2].id, "b", KEYS[1], 0)
    merged = Roster.from_statements([first, forged])
    assert set(merged.devices) == {KEYS[0].id}
    assert merged.refused == 1


def test_two_accounts_in_one_set_are_refused() -> None:
    with pytest.raises(NoGenesis):
        Roster.from_statements([genesis(KEYS[0], "a", 0), genesis(KEYS[1], "b", 0)])


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_harms_nothing(garbage: bytes) -> None:
    first = genesis(KEYS[0], "a", 0)
    assert set(Roster.from_statements([first, garbage]).devices) == {KEYS[0].id}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_concurrent_additions_merge_to_the_same_roster_in_any_order(seed: int) -> None:
    rng = random.Random(seed)
    first = genesis(KEYS[0], "d0", 0)
    views = {KEYS[0].id: {first}}
    everything = {first}
    for number in range(1, 8):
        signer = rng.choice(KEYS[:number])
        if signer.id not in views:
            continue
        roster = Roster.from_statements(views[signer.id])
        statement = add_device(roster, KEYS[number].id, f"d{number}", signer, number)
        everything.add(statement)
        views[signer.id].add(statement)
        views[KEYS[number].id] = set(views[signer.id])
        if rng.random() < 0.3:
            views[rng.choice(list(views))] |= everything
    shuffled = list(everything)
    rng.shuffle(shuffled)
    assert Roster.from_statements(shuffled).devices == Roster.from_statements(everything).devices
    assert set(Roster.from_statements(shuffled).devices) == {DeviceId(device) for device in views}


def test_a_statement_cannot_be_encoded_another_way_under_the_same_signature() -> None:
    first = genesis(KEYS[0], "a", 0)
    merged = Roster.from_statements([first, first + b"\x00"])
    assert merged.statements == (first,)
    assert merged.refused == 1


def test_a_statement_whose_link_is_missing_counts_only_when_the_link_comes() -> None:
    first = genesis(KEYS[0], "a", 0)
    second = add_device(Roster.from_statements([first]), KEYS[1].id, "b", KEYS[0], 1)
    third = add_device(Roster.from_statements([first, second]), KEYS[2].id, "c", KEYS[1], 2)
    assert set(Roster.from_statements([first, third]).devices) == {KEYS[0].id}
    assert set(Roster.from_statements([third, second, first]).devices) == {key.id for key in KEYS[:3]}
