"""The roster: valid only through an unbroken line of signatures, and the same in any order."""

import itertools
import random
from dataclasses import dataclass, field

import blake3
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, Unsealable
from shoal.crdt.model import DeviceId
from shoal.crdt.roster import (
    NoGenesis,
    Roster,
    _after,
    _stand,
    add_device,
    add_paper,
    genesis,
    new_key,
    rename_device,
    revoke_device,
)
from shoal.crdt.statements import open_box, read, sign

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
@example(b"\x80")
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


# -- revocation --------------------------------------------------------------------------------------------------------


def told(*statements: bytes) -> Roster:
    return Roster.from_statements(statements)


def three() -> list[bytes]:
    """Return the statements of an account with three devices."""
    said = [genesis(KEYS[0], "a", 0)]
    for number in (1, 2):
        said.append(add_device(told(*said), KEYS[number].id, "abc"[number], KEYS[0], number))
    return said


def test_a_revoked_device_is_no_member_and_known_as_one_that_was() -> None:
    said = three()
    roster = told(*said, revoke_device(told(*said), KEYS[1].id, KEYS[2], 5))
    assert set(roster.devices) == {KEYS[0].id, KEYS[2].id}
    assert roster.former[KEYS[1].id].revoked_ms == 5
    assert roster.is_known(KEYS[1].id)


def test_what_a_revoked_device_says_does_not_count() -> None:
    said = three()
    said.append(revoke_device(told(*said), KEYS[1].id, KEYS[0], 5))
    later = add_device(told(*said), KEYS[3].id, "d", KEYS[1], 6)
    assert KEYS[3].id not in told(*said, later).devices
    assert told(*said, later).refused == 1


def test_nor_does_what_it_dates_back() -> None:
    said = three()
    back = add_device(told(*said), KEYS[3].id, "d", KEYS[1], 4)
    helper = add_device(told(*said, back), KEYS[4].id, "e", KEYS[3], 4)
    gone = revoke_device(told(*said), KEYS[1].id, KEYS[0], 5)
    roster = told(*said, back, helper, gone)
    assert set(roster.devices) == {KEYS[0].id, KEYS[2].id}
    assert not roster.is_known(KEYS[3].id)


def test_what_the_one_who_revoked_it_had_seen_stays() -> None:
    said = three()
    said.append(add_device(told(*said), KEYS[3].id, "d", KEYS[1], 4))
    said.append(revoke_device(told(*said), KEYS[1].id, KEYS[0], 5))
    assert KEYS[3].id in told(*said).devices


def test_a_device_cannot_be_added_again() -> None:
    said = three()
    said.append(revoke_device(told(*said), KEYS[1].id, KEYS[0], 5))
    said.append(add_device(told(*said), KEYS[1].id, "b", KEYS[0], 6))
    assert KEYS[1].id not in told(*said).devices


def test_two_that_revoke_each_other_are_both_out() -> None:
    said = three()
    one, other = revoke_device(told(*said), KEYS[1].id, KEYS[0], 5), revoke_device(told(*said), KEYS[0].id, KEYS[1], 5)
    assert set(told(*said, one, other).devices) == {KEYS[2].id}


def test_the_last_name_counts() -> None:
    said = three()
    said.append(rename_device(told(*said), KEYS[1].id, "phone", KEYS[0], 9))
    said.append(rename_device(told(*said), KEYS[1].id, "old phone", KEYS[1], 3))  # with a clock that is wrong
    assert told(*said).devices[KEYS[1].id].name == "old phone"


# -- the account's secret ----------------------------------------------------------------------------------------------


def test_a_new_key_is_for_the_members_alone() -> None:
    said = three()
    said.append(revoke_device(told(*said), KEYS[1].id, KEYS[0], 5))
    said.append(new_key(told(*said), b"s" * 32, KEYS[0], 5))
    key = told(*said).current_key()
    assert key is not None
    assert open_box(KEYS[0], key) == open_box(KEYS[2], key) == b"s" * 32
    with pytest.raises(Unsealable):
        open_box(KEYS[1], key)


def test_a_key_that_not_all_members_have_or_others_have_too_is_not_current() -> None:
    said = three()
    said.append(new_key(told(*said), b"s" * 32, KEYS[0], 5))
    assert told(*said).current_key() is not None
    assert told(*said, add_device(told(*said), KEYS[3].id, "d", KEYS[0], 6)).current_key() is None
    assert told(*said, revoke_device(told(*said), KEYS[1].id, KEYS[0], 6)).current_key() is None


def test_of_keys_made_at_once_everyone_takes_the_same_and_a_later_one_takes_its_place() -> None:
    said = three()
    pair = [new_key(told(*said), secret * 32, key, 5) for secret, key in ((b"1", KEYS[0]), (b"2", KEYS[1]))]
    both = told(*said, *pair).current_key()
    assert both == told(*pair[::-1], *said).current_key()
    later = new_key(told(*said, *pair), b"3" * 32, KEYS[2], 1)
    assert told(*said, *pair, later).current_key() == read(later)


# -- members that are dishonest ----------------------------------------------------------------------------------------


@dataclass
class Life:
    """Devices that act on what they know, some of them dishonest."""

    rng: random.Random
    account: bytes
    said: dict[bytes, set[bytes]] = field(default_factory=dict)  # what each device has

    def roster(self, key: DeviceKey) -> Roster:
        return Roster.from_statements(self.said[key.id], self.account)

    def tell(self, statement: bytes, *to: DeviceKey) -> None:
        for key in to:
            self.said[key.id].add(statement)

    def act(self, key: DeviceKey) -> None:
        """Have an honest device say something that it may say."""
        roster = self.roster(key)
        if key.id not in roster.devices:
            return
        other = self.rng.choice(KEYS)
        what = self.rng.random()
        if what < 0.4 and other.id in roster.devices and other is not KEYS[0]:
            self.tell(revoke_device(roster, other.id, key, 0), key)
        elif what < 0.6 and other.id in roster.devices:
            self.tell(rename_device(roster, other.id, str(self.rng.random()), key, 0), key)
        elif what < 0.7:
            self.tell(new_key(roster, self.rng.randbytes(32), key, 0), key)
        elif not roster.is_known(other.id):
            self.tell(add_device(roster, other.id, "new", key, 0), key)
            self.said.setdefault(other.id, set()).update(self.said[key.id])

    def attack(self, thief: DeviceKey) -> None:
        """Have one that may have been revoked forge, fork, replay and date back whatever it can."""
        known = [statement for statement in self.said[thief.id] if self.rng.random() < 0.8]
        try:
            roster = Roster.from_statements(known, self.account)
        except NoGenesis:
            return
        other = self.rng.choice(KEYS)
        forged = self.rng.choice(
            [
                add_device(roster, other.id, "forged", thief, 0),
                add_device(roster, thief.id, "again", thief, 0),
                rename_device(roster, other.id, "forged", thief, 0),
                new_key(roster, b"known to the thief".ljust(32), thief, 0),
                sign(thief, ["add", roster.account, roster.tips(), other.id, "forged", 0, KEYS[0].id]),
                sign(thief, ["genesis", thief.id, "forged", 0]),
            ]
        )
        self.tell(forged, thief)
        if self.rng.random() < 0.7:
            self.tell(forged, *(key for key in KEYS if key.id in self.said))

    def meet(self, one: DeviceKey, other: DeviceKey) -> None:
        both = self.said[one.id] | self.said[other.id]
        self.said[one.id], self.said[other.id] = set(both), set(both)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_revoked_devices_forge_they_stay_out_and_all_others_agree(seed: int) -> None:
    rng = random.Random(seed)
    thief = KEYS[7]
    first = genesis(KEYS[0], "first", 0)
    account = Roster.from_statements([first]).account
    life = Life(rng, account, {KEYS[0].id: {first}, thief.id: {first}})
    life.tell(add_device(Roster.from_statements([first]), thief.id, "thief", KEYS[0], 0), KEYS[0], thief)
    for _ in range(rng.randrange(10)):
        life.act(KEYS[0])
    life.tell(revoke_device(life.roster(KEYS[0]), thief.id, KEYS[0], 0), KEYS[0])
    seen = set(life.said[KEYS[0].id])  # what the owner had seen when it was revoked
    for _ in range(rng.randrange(30)):
        known = [key for key in KEYS[:7] if key.id in life.said]
        match rng.randrange(3):
            case 0:
                life.act(rng.choice(known))
            case 1:
                life.attack(thief)
            case _:
                life.meet(*rng.choices(known, k=2))
    everything = set().union(*life.said.values())
    order = list(everything)
    rng.shuffle(order)
    roster = Roster.from_statements(order, account)
    again = Roster.from_statements(sorted(everything), account)
    for said, before in zip(roster._authorised, map(roster._past.__getitem__, roster._places), strict=True):
        after = before | 1 << roster._places[said.hash]  # a shortcut of the code, against the rule itself
        assert _after(said, _stand(roster._authorised, roster._past, before)) == _stand(
            roster._authorised, roster._past, after
        )
    assert (roster.devices, roster.former, roster.statements) == (again.devices, again.former, again.statements)
    assert roster.current_key() == again.current_key()
    assert thief.id not in roster.devices
    assert not any(record.name in ("forged", "again") for record in roster.devices.values())
    key = roster.current_key()
    assert key is None or (key.encoded in seen or key.by != thief.id)


def test_a_key_on_paper_is_a_member_that_may_add_devices_and_be_revoked() -> None:
    said = three()
    said.append(add_paper(told(*said), KEYS[6], "paper", KEYS[0], 5))
    assert told(*said).devices[KEYS[6].id].is_paper
    said.append(add_device(told(*said), KEYS[3].id, "d", KEYS[6], 6))
    assert KEYS[3].id in told(*said).devices
    said.append(revoke_device(told(*said), KEYS[6].id, KEYS[3], 7))
    assert KEYS[6].id not in told(*said).devices


def test_nobody_claims_a_key_on_paper_for_an_account_that_its_owner_did_not_make_it_for() -> None:
    first = genesis(KEYS[0], "a", 0)
    others = add_paper(told(genesis(KEYS[1], "b", 0)), KEYS[6], "paper", KEYS[1], 5)
    consent = codec.as_list(codec.decode(others, 4096))[5]
    forged = sign(KEYS[0], ["paper", told(first).account, told(first).tips(), KEYS[6].id, "x", consent, 5, KEYS[0].id])
    assert KEYS[6].id not in told(first, forged).devices


def test_a_secret_is_exposed_as_soon_as_anybody_leaves_who_was_there_with_it_or_after() -> None:
    said = three()
    said.append(revoke_device(told(*said), KEYS[1].id, KEYS[0], 5))
    said.append(new_key(told(*said), b"s" * 32, KEYS[0], 5))
    (key,) = told(*said).key_statements()
    assert not told(*said).is_exposed(key)
    said.append(add_device(told(*said), KEYS[3].id, "d", KEYS[0], 6))
    said.append(revoke_device(told(*said), KEYS[3].id, KEYS[0], 7))
    assert told(*said).is_exposed(key)


def test_a_revocation_is_proven_by_what_it_rests_on_alone() -> None:
    said = three()
    said.append(revoke_device(told(*said), KEYS[1].id, KEYS[0], 5))
    whole = told(*said, add_device(told(*said), KEYS[3].id, "later", KEYS[0], 6))
    proof = Roster.from_statements(whole.revocation_of(KEYS[1].id))
    assert KEYS[1].id in proof.former
    assert not proof.is_known(KEYS[3].id)
    assert whole.revocation_of(KEYS[2].id) == []


def test_a_device_erases_its_copies_only_when_a_member_says_so_that_let_it_in() -> None:
    said = three()
    said.append(add_device(told(*said), KEYS[3].id, "d", KEYS[2], 3))
    for elder, device, counts in [
        (0, 1, True),
        (0, 3, True),
        (2, 3, True),
        (2, 1, False),
        (3, 2, False),
        (1, 0, False),
    ]:
        roster = told(*said, revoke_device(told(*said), KEYS[device].id, KEYS[elder], 5, erase=True))
        assert roster.former[KEYS[device].id].erase is counts
    gone = revoke_device(told(*said), KEYS[1].id, KEYS[0], 5, erase=True)
    assert not told(*said, gone, revoke_device(told(*said), KEYS[0].id, KEYS[2], 5)).former[KEYS[1].id].erase


def test_nobody_becomes_the_elder_of_a_device_by_adding_it_once_more() -> None:
    said = three()
    early = told(*said[:2])
    again = [add_device(early, KEYS[number].id, "mine", KEYS[1], 0) for number in (0, 2)]  # dated back
    for device in (0, 2):
        erased = revoke_device(told(*said, *again), KEYS[device].id, KEYS[1], 5, erase=True)
        assert not told(*said, *again, erased).former[KEYS[device].id].erase


def test_who_let_in_whom_is_told_of_long_lines_and_of_many_ways_at_once() -> None:
    keys = [DeviceKey(number.to_bytes(32)) for number in range(1, 2001)]
    said = [genesis(keys[0], "first", 0)]
    line = Roster.from_statements(said)
    tip = line.tips()
    for elder, key in itertools.pairwise(keys[:1500]):  # each lets the next one in
        said.append(sign(elder, ["add", line.account, tip, key.id, "d", 1, elder.id]))
        tip = [blake3.blake3(said[-1]).digest()]
    line = Roster.from_statements(said)
    assert line.let_in(keys[1].id, keys[1499].id)
    assert not line.let_in(keys[3].id, keys[2].id)
    said = [genesis(keys[0], "first", 0)]
    tip = Roster.from_statements(said).tips()
    layers = [keys[2 * number + 1 : 2 * number + 3] for number in range(40)]
    for above, below in itertools.pairwise([[keys[0]], *layers]):  # each is let in by both above it
        for elder in above:
            for key in below:
                said.append(sign(elder, ["add", line.account, tip, key.id, "d", 1, elder.id]))
                tip = [blake3.blake3(said[-1]).digest()]
    ways = Roster.from_statements(said)
    assert not ways.let_in(keys[3].id, layers[-1][0].id)
    assert ways.let_in(keys[0].id, layers[-1][0].id)
