"""Who may do what with a shared folder: the same for all in any order, removal wins, nothing by who may not say it."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt import codec
from shoal.crdt.catalog import Secrets
from shoal.crdt.folder_roster import MOST_OF_OTHER, FolderRoster
from shoal.crdt.folder_statements import (
    ROLES,
    Author,
    Role,
    cut_rows,
    open_secrets,
    rank,
    read,
    root_of,
    say,
    seal_secrets,
)
from shoal.crdt.keys import DeviceKey, Unsealable
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId
from shoal.crdt.roster import Roster, add_device, genesis, revoke_device

FOLDER = FolderId(b"f" * 16)


@dataclass
class Person:
    """An account with some devices."""

    number: int
    keys: list[DeviceKey] = field(init=False)
    roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        self.keys = [DeviceKey(bytes([self.number, n]) * 16) for n in range(3)]
        self.roster = Roster.from_statements([genesis(self.keys[0], f"p{self.number}", self.number)])
        for key in self.keys[1:]:
            self.adds(key)

    @property
    def id(self) -> bytes:
        return self.roster.account

    def adds(self, key: DeviceKey) -> None:
        said = add_device(self.roster, key.id, "device", self.keys[0], 1)
        self.roster = Roster.from_statements([*self.roster.statements, said])

    def revokes(self, device: int) -> None:
        by = self.keys[(device + 1) % 3]
        said = revoke_device(self.roster, self.keys[device].id, by, 2)
        self.roster = Roster.from_statements([*self.roster.statements, said])

    def author(self, device: int = 0) -> Author:
        return Author(self.id, self.keys[device])


@dataclass
class World:
    """Some people and the statements of one folder that the first founded."""

    people: list[Person] = field(default_factory=lambda: [Person(number) for number in range(1, 6)])
    said: set[bytes] = field(default_factory=set)

    @property
    def founder(self) -> Person:
        return self.people[0]

    def roster(self, of: set[bytes] | None = None) -> FolderRoster:
        accounts = {person.id: person.roster for person in self.people}
        return FolderRoster(FOLDER, self.founder.id, self.said if of is None else of, accounts)

    def gives(
        self,
        by: Person,
        to: Person,
        role: Role,
        *,
        knowing: set[bytes] | None = None,
        device: int = 0,
        cuts: Any = (),
    ) -> bytes:
        seen = self.roster(knowing)
        made = say(by.author(device), "role", seen.root, seen.links(), [to.id, role, list(cuts), b""], 0)
        self.said.add(made)
        return made

    def accepts(self, who: Person) -> None:
        seen = self.roster()
        self.said.add(say(who.author(), "accept", seen.root, seen.links(), [], 0))

    def cuts(self, whose: Person, device: int, heads: dict[LogId, LogHead], by: int) -> None:
        seen = self.roster()
        says = [whose.keys[device].id, cut_rows(heads)]
        self.said.add(say(whose.author(by), "cut", seen.root, seen.links(), says, 0))

    def keys(self, by: Person, secrets: Secrets = ((0, b"s" * 32),)) -> bytes:
        seen = self.roster()
        boxes, sealed = seal_secrets(seen.root, "Photos", secrets, seen.readers, b"k" * 32)
        made = say(by.author(), "key", seen.root, seen.links(), [boxes, sealed, seen.former], 0)
        self.said.add(made)
        return made

    def role(self, person: Person) -> Role:
        return self.roster().role(person.id)


@pytest.fixture
def world() -> World:
    return World()


def test_who_founds_a_folder_owns_it_and_nobody_else_does(world: World) -> None:
    assert world.roster().roles == {world.founder.id: "owner"}


@pytest.mark.parametrize("role", ["holder", "reader", "writer", "owner"])
def test_an_owner_gives_roles(world: World, role: Role) -> None:
    world.gives(world.founder, world.people[1], role, device=2)
    assert world.role(world.people[1]) == role


@pytest.mark.parametrize("role", ["none", "holder", "reader", "writer"])
def test_who_is_no_owner_gives_none(world: World, role: Role) -> None:
    world.gives(world.founder, world.people[1], role)
    world.gives(world.people[1], world.people[2], "reader")
    world.gives(world.people[1], world.people[1], "owner")
    assert world.role(world.people[2]) == "none"
    assert world.role(world.people[1]) == role
    assert world.roster().refused == 2


def test_a_device_does_not_speak_for_an_account_that_it_is_not_of(world: World) -> None:
    root = root_of(FOLDER, world.founder.id)
    forged = Author(world.founder.id, world.people[1].keys[0])
    world.said.add(say(forged, "role", root, [root], [world.people[1].id, "owner", [], b""], 0))
    assert world.role(world.people[1]) == "none"


def test_the_founder_cannot_be_removed(world: World) -> None:
    world.gives(world.founder, world.people[1], "owner")
    world.gives(world.people[1], world.founder, "none")
    assert world.role(world.founder) == "owner"


def test_a_removal_wins_over_an_addition_that_did_not_know_of_it(world: World) -> None:
    _, other, third = world.people[:3]
    world.gives(world.founder, other, "owner")
    before = set(world.said)
    world.gives(world.founder, third, "writer", knowing=before)
    again = set(world.said)
    world.gives(other, third, "none", knowing=again)
    world.gives(world.founder, third, "owner", knowing=again)
    assert world.role(third) == "none"


def test_who_has_seen_a_removal_may_add_anew_and_that_has_to_be_accepted_again(world: World) -> None:
    other = world.people[1]
    world.gives(world.founder, other, "writer")
    world.accepts(other)
    assert other.id in world.roster().accepted
    world.gives(world.founder, other, "none")
    world.gives(world.founder, other, "reader")
    assert world.role(other) == "reader"
    assert other.id not in world.roster().accepted


def test_of_two_roles_that_did_not_know_of_each_other_the_lesser_counts(world: World) -> None:
    _, other, third = world.people[:3]
    world.gives(world.founder, other, "owner")
    before = set(world.said)
    world.gives(other, third, "reader", knowing=before)
    world.gives(world.founder, third, "owner", knowing=before)
    assert world.role(third) == "reader"


def test_what_a_removed_owner_dates_back_gives_nobody_anything(world: World) -> None:
    _, other, third = world.people[:3]
    world.gives(world.founder, other, "owner")
    before = set(world.said)
    world.gives(world.founder, other, "none")
    world.gives(other, third, "owner", knowing=before)
    assert world.role(third) == "none"


def test_what_a_revoked_device_dates_back_gives_nobody_anything(world: World) -> None:
    _, other, third = world.people[:3]
    world.gives(world.founder, other, "writer", device=1)
    before = set(world.said)
    world.founder.revokes(1)
    world.gives(world.founder, third, "owner", knowing=before, device=1)
    assert world.role(third) == "none"


def test_who_removes_an_owner_is_told_whom_to_vouch_for(world: World) -> None:
    _, other, third, fourth = world.people[:4]
    world.gives(world.founder, other, "owner")
    world.gives(other, third, "writer")
    world.gives(other, fourth, "writer")
    world.gives(world.founder, fourth, "reader")
    assert world.roster().vouched_by(other.id) == {third.id: "writer"}


def test_two_owners_that_remove_each_other_are_both_out(world: World) -> None:
    _, one, other = world.people[:3]
    world.gives(world.founder, one, "owner")
    world.gives(world.founder, other, "owner")
    before = set(world.said)
    world.gives(one, other, "none", knowing=before)
    world.gives(other, one, "none", knowing=before)
    assert world.roster().roles == {world.founder.id: "owner"}


def test_who_is_a_member_may_leave(world: World) -> None:
    other = world.people[1]
    world.gives(world.founder, other, "reader")
    world.gives(other, other, "none")
    assert world.role(other) == "none"


def test_of_a_reader_no_log_is_taken_and_of_a_writer_every_one(world: World) -> None:
    reader, writer, stranger = world.people[1:4]
    world.gives(world.founder, reader, "reader")
    world.gives(world.founder, writer, "writer")
    roster = world.roster()
    assert roster.limit(LogId(reader.keys[1].id, bytes(16))) == LogHead()
    assert roster.limit(LogId(writer.keys[1].id, bytes(16))) is None
    assert roster.limit(LogId(stranger.keys[0].id, bytes(16))) == LogHead()
    assert roster.limit(LogId(world.founder.keys[2].id, bytes(16))) is None


@pytest.mark.parametrize("role", ["none", "holder", "reader"])
def test_of_who_may_write_no_more_what_was_known_is_kept_and_nothing_beyond(world: World, role: Role) -> None:
    other = world.people[1]
    log, unknown = LogId(other.keys[0].id, b"i" * 16), LogId(other.keys[0].id, b"j" * 16)
    head = LogHead(7, b"h" * 32)
    world.gives(world.founder, other, "writer")
    world.gives(world.founder, other, role, cuts=cut_rows({log: head}))
    assert world.roster().limit(log) == head
    assert world.roster().limit(unknown) == LogHead()


def test_of_a_revoked_device_what_its_account_knew_is_kept_and_nothing_beyond(world: World) -> None:
    other = world.people[1]
    log, head = LogId(other.keys[1].id, b"i" * 16), LogHead(3, b"h" * 32)
    world.gives(world.founder, other, "writer")
    world.accepts(other)
    other.revokes(1)
    assert world.roster().limit(log) is None
    world.cuts(other, 1, {log: LogHead(9, b"g" * 32)}, by=1)  # its own word on itself
    assert world.roster().limit(log) is None
    world.cuts(other, 1, {log: head}, by=0)
    assert world.roster().limit(log) == head
    assert world.roster().limit(LogId(other.keys[1].id, b"j" * 16)) == LogHead()
    assert world.roster().limit(LogId(other.keys[0].id, b"j" * 16)) is None


def test_an_account_cuts_no_devices_but_those_that_it_revoked(world: World) -> None:
    other, third = world.people[1:3]
    for person in (other, third):
        world.gives(world.founder, person, "writer")
    world.cuts(other, 1, {}, by=0)
    third.revokes(1)
    seen = world.roster()
    world.said.add(say(other.author(), "cut", seen.root, seen.links(), [third.keys[1].id, []], 0))
    assert world.roster().refused == 2
    assert world.roster().limit(LogId(other.keys[1].id, bytes(16))) is None
    assert world.roster().limit(LogId(third.keys[1].id, bytes(16))) is None


def test_keys_are_due_when_a_reader_lacks_them_and_exposed_when_somebody_has_them_who_left(world: World) -> None:
    other = world.people[1]
    assert world.roster().keys_due()
    world.gives(world.founder, other, "reader")
    world.keys(world.founder)
    assert not world.roster().keys_due()
    world.gives(world.founder, world.people[2], "writer")
    assert world.roster().keys_due()
    assert not world.roster().is_exposed()
    world.keys(world.founder)
    world.gives(world.founder, other, "none")
    assert world.roster().is_exposed()


def test_keys_are_exposed_when_a_device_was_revoked_even_one_that_got_them_elsewhere(world: World) -> None:
    other = world.people[1]
    world.gives(world.founder, other, "reader")
    world.keys(world.founder)
    late = DeviceKey(b"l" * 32)
    other.adds(late)
    assert not world.roster().is_exposed()
    said = revoke_device(other.roster, late.id, other.keys[0], 3)
    other.roster = Roster.from_statements([*other.roster.statements, said])
    assert world.roster().is_exposed()


def test_a_holder_and_a_stranger_cannot_open_the_keys(world: World) -> None:
    reader, holder = world.people[1:3]
    world.gives(world.founder, reader, "reader")
    world.gives(world.founder, holder, "holder")
    said = read(world.keys(world.founder))
    assert said is not None
    assert open_secrets(said, reader.keys[2]) == ("Photos", ((0, b"s" * 32),))
    for key in (holder.keys[0], world.people[3].keys[0]):
        with pytest.raises(Unsealable):
            open_secrets(said, key)


def test_keys_that_a_removed_owner_dates_back_do_not_count(world: World) -> None:
    other = world.people[1]
    world.gives(world.founder, other, "owner")
    seen = world.roster()
    world.gives(world.founder, other, "none")
    boxes, sealed = seal_secrets(seen.root, "Photos", ((0, b"x" * 32),), seen.readers, b"k" * 32)
    world.said.add(say(other.author(), "key", seen.root, seen.links(), [boxes, sealed, seen.former], 0))
    assert world.roster().key_statements() == []


def test_an_invite_counts_its_uses_and_can_be_cancelled(world: World) -> None:
    seen = world.roster()
    public = DeviceKey(b"i" * 32).id
    made = say(world.founder.author(), "invite", seen.root, seen.links(), [public, "reader", 99, 2], 0)
    world.said.add(made)
    (invite,) = world.roster().invites()
    seen = world.roster()
    world.said.add(
        say(world.founder.author(), "role", seen.root, seen.links(), [world.people[1].id, "reader", [], invite.hash], 0)
    )
    (invite,) = world.roster().invites()
    assert (invite.used, invite.uses, invite.role, invite.expires_ms) == (1, 2, "reader", 99)
    seen = world.roster()
    world.said.add(say(world.founder.author(), "cancel", seen.root, seen.links(), [invite.hash], 0))
    assert world.roster().invites() == []


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_harms_nothing(garbage: bytes) -> None:
    assert read(garbage) is None


def test_a_statement_of_another_folder_or_founder_is_not_taken(world: World) -> None:
    said = world.gives(world.founder, world.people[1], "owner")
    accounts = {person.id: person.roster for person in world.people}
    for folder, founder in ((FolderId(b"g" * 16), world.founder.id), (FOLDER, world.people[1].id)):
        assert FolderRoster(folder, founder, [said], accounts).refused == 1


def test_a_statement_waits_for_what_it_links_to_and_for_its_authors_account(world: World) -> None:
    first = world.gives(world.founder, world.people[1], "owner")
    second = world.gives(world.people[1], world.people[2], "reader")
    assert world.roster({second}).roles == {world.founder.id: "owner"}
    known = {world.founder.id: world.founder.roster}
    assert FolderRoster(FOLDER, world.founder.id, [first, second], known).role(world.people[2].id) == "none"


def test_a_flood_of_dated_back_statements_pushes_out_nothing_that_is_held(world: World) -> None:
    reader, writer = world.people[1:3]
    world.gives(world.founder, reader, "reader")
    granted = world.roster()
    world.accepts(reader)
    world.gives(world.founder, reader, "none")
    world.gives(world.founder, writer, "writer")
    held = set(world.roster().in_order)
    flood = {say(reader.author(), "accept", granted.root, granted.links(), [], number) for number in range(1, 300)}
    world.said |= flood
    kept = world.roster().admitted(held)
    assert held <= set(kept)
    assert len(flood & set(kept)) <= MOST_OF_OTHER
    world.said = set(kept)
    assert world.role(reader) == "none"
    assert world.role(writer) == "writer"


def test_what_another_owner_built_on_is_taken_however_much_there_is_of_it(world: World) -> None:
    reader, writer = world.people[1:3]
    world.gives(world.founder, reader, "reader")
    granted = world.roster()
    before = set(granted.in_order)
    for number in range(MOST_OF_OTHER + 50):
        world.said.add(say(reader.author(), "accept", granted.root, granted.links(), [], number))
    said = world.gives(world.founder, writer, "writer")
    assert said in world.roster().admitted(before)
    assert len(world.roster().admitted(before)) > MOST_OF_OTHER


def test_who_was_removed_cannot_widen_what_is_taken_of_his_log_by_leaving(world: World) -> None:
    other = world.people[1]
    log, head = LogId(other.keys[0].id, b"i" * 16), LogHead(5, b"h" * 32)
    world.gives(world.founder, other, "writer")
    before = set(world.said)
    world.gives(world.founder, other, "none", cuts=cut_rows({log: head}))
    wide = cut_rows({log: LogHead(10**9, b"w" * 32)})
    world.gives(other, other, "none", knowing=before, cuts=wide)
    assert world.roster().limit(log) == head


def test_who_leaves_says_what_there_is_of_his_log_until_an_owner_does(world: World) -> None:
    other = world.people[1]
    log = LogId(other.keys[0].id, b"i" * 16)
    world.gives(world.founder, other, "writer")
    world.gives(other, other, "none", cuts=cut_rows({log: LogHead(7, b"a" * 32)}))
    assert world.roster().limit(log) == LogHead(7, b"a" * 32)
    assert world.roster().left_by_itself() == {other.id: {log: LogHead(7, b"a" * 32)}}
    world.gives(world.founder, other, "none", cuts=cut_rows({log: LogHead(6, b"b" * 32)}))
    assert world.roster().limit(log) == LogHead(6, b"b" * 32)
    assert world.roster().left_by_itself() == {}


def test_a_cut_of_before_counts_no_more_once_somebody_might_write_again_and_left(world: World) -> None:
    other = world.people[1]
    log = LogId(other.keys[0].id, b"i" * 16)
    world.gives(world.founder, other, "writer")
    world.gives(world.founder, other, "reader", cuts=cut_rows({log: LogHead(5, b"a" * 32)}))
    world.gives(world.founder, other, "writer")
    world.gives(other, other, "none", cuts=cut_rows({log: LogHead(20, b"b" * 32)}))
    assert world.roster().limit(log) == LogHead(20, b"b" * 32)
    assert world.roster().left_by_itself() == {other.id: {log: LogHead(20, b"b" * 32)}}


def test_what_was_known_is_kept_of_who_first_may_only_read_and_is_then_removed(world: World) -> None:
    other = world.people[1]
    log, head = LogId(other.keys[0].id, b"i" * 16), LogHead(5, b"a" * 32)
    world.gives(world.founder, other, "writer")
    world.gives(world.founder, other, "reader", cuts=cut_rows({log: head}))
    world.gives(world.founder, other, "none")
    assert world.roster().limit(log) == head
    world.gives(world.founder, other, "reader")
    world.gives(other, other, "none")
    assert world.roster().limit(log) == head


def test_who_was_removed_cannot_leave_once_more_and_say_what_there_is_of_his_log(world: World) -> None:
    other = world.people[1]
    log, head = LogId(other.keys[0].id, b"i" * 16), LogHead(5, b"h" * 32)
    world.gives(world.founder, other, "writer")
    world.gives(world.founder, other, "none", cuts=cut_rows({log: head}))
    world.gives(other, other, "none", cuts=cut_rows({log: LogHead(10**9, b"w" * 32)}))
    assert world.roster().limit(log) == head


def test_nobody_makes_himself_irremovable_by_writing_in_very_many_logs(world: World) -> None:
    other = world.people[1]
    world.gives(world.founder, other, "writer")
    heads = {LogId(other.keys[0].id, number.to_bytes(16)): LogHead(number, b"h" * 32) for number in range(1, 2000)}
    assert read(world.gives(world.founder, other, "none", cuts=cut_rows(heads))) is not None
    assert world.role(other) == "none"
    assert world.roster().limit(LogId(other.keys[0].id, (1999).to_bytes(16))) == LogHead(1999, b"h" * 32)


def test_a_new_statement_links_to_what_owners_said_however_much_others_say(world: World) -> None:
    readers, late = world.people[1:4], world.people[4]
    for reader in readers:
        world.gives(world.founder, reader, "reader")
    seen = world.roster()
    for reader in readers:
        for number in range(600):
            world.said.add(say(reader.author(), "accept", seen.root, seen.links(), [], number))
    world.gives(world.founder, late, "reader")
    world.gives(world.founder, late, "none")
    world.gives(world.founder, late, "writer")
    assert world.role(late) == "writer"


def test_a_removed_owner_cannot_widen_anothers_cut(world: World) -> None:
    owner, other = world.people[1:3]
    log, head = LogId(other.keys[0].id, b"i" * 16), LogHead(5, b"h" * 32)
    world.gives(world.founder, owner, "owner")
    world.gives(world.founder, other, "writer")
    before = set(world.said)
    world.gives(world.founder, other, "none", cuts=cut_rows({log: head}))
    world.gives(world.founder, owner, "none")
    world.gives(owner, other, "none", knowing=before, cuts=cut_rows({log: LogHead(99, b"w" * 32)}))
    assert world.roster().limit(log) == head


def test_a_revoked_device_cannot_have_its_account_leave(world: World) -> None:
    other = world.people[1]
    world.gives(world.founder, other, "writer")
    before = set(world.said)
    other.revokes(1)
    world.gives(other, other, "none", knowing=before, device=1)
    assert world.role(other) == "writer"


def test_a_device_that_is_no_key_does_not_keep_keys_due_for_ever(world: World) -> None:
    other = world.people[1]
    world.gives(world.founder, other, "reader")
    said = add_device(other.roster, DeviceId(bytes(32)), "no key", other.keys[0], 1)
    other.roster = Roster.from_statements([*other.roster.statements, said])
    world.keys(world.founder)
    assert not world.roster().keys_due()


def test_a_link_from_before_somebody_was_removed_lets_him_in_no_more(world: World) -> None:
    other, third = world.people[1:3]
    seen = world.roster()
    world.said.add(
        say(world.founder.author(), "invite", seen.root, seen.links(), [DeviceKey(b"i" * 32).id, "writer", 0, 0], 0)
    )
    (old,) = world.roster().invites()
    world.gives(world.founder, other, "writer")
    world.gives(world.founder, other, "none")
    assert not world.roster().may_redeem(old.hash, other.id)
    assert world.roster().may_redeem(old.hash, third.id)
    seen = world.roster()
    world.said.add(
        say(world.founder.author(), "invite", seen.root, seen.links(), [DeviceKey(b"j" * 32).id, "writer", 0, 0], 1)
    )
    new = next(each for each in world.roster().invites() if each.hash != old.hash)
    assert world.roster().may_redeem(new.hash, other.id)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_byzantine_members_gain_nothing_and_all_replicas_agree(seed: int) -> None:
    """Honest owners give and take roles on replicas that hear late; the others forge, replay, fork, equivocate, date
    back and add after they were removed. Whatever the order, all come to the same; and who was never given a role by an
    honest owner, or was removed for good by one, has none."""
    rng = random.Random(seed)
    world = World()
    founder, honest, liar, victim, outsider = world.people
    views: dict[int, set[bytes]] = {0: set(), 1: set()}
    world.said.add(said := world.gives(founder, honest, "owner", knowing=set()))
    for view in views.values():
        view.add(said)
    old: list[set[bytes]] = [set(), set(views[0])]
    for _ in range(rng.randrange(4, 24)):
        if rng.random() < 0.5:  # an honest owner does something, by what it knows
            me = rng.choice((0, 1))
            to, role = rng.choice((liar, victim)), rng.choice(ROLES)
            made = world.gives(world.people[me], to, role, knowing=views[me], device=rng.randrange(3))
            views[me].add(made)
        elif rng.random() < 0.5:
            views[0] |= views[1]
            views[1] = set(views[0])
        else:
            said = _lie(rng, world, liar, rng.choice((victim, outsider, liar)), rng.choice(old))
            rng.choice(list(views.values())).add(said)
        old.append(set(rng.choice(list(views.values()))))
    everything = sorted(world.said)
    before = world.roster(set(everything))
    last = [world.gives(founder, each, "none", knowing=set(before.statements)) for each in (liar, outsider)]
    late = [_lie(rng, world, liar, rng.choice((victim, outsider, liar)), rng.choice(old)) for _ in range(4)]
    everything = [*everything, *last, *late]
    outcomes = []
    for _ in range(3):
        rng.shuffle(everything)
        outcomes.append(world.roster(set(everything)))
    assert all(one.roles == outcomes[0].roles and one.statements == outcomes[0].statements for one in outcomes)
    roles = outcomes[0].roles
    assert roles[founder.id] == roles[honest.id] == "owner" or "none" in _given(world, honest)
    assert liar.id not in roles
    assert outsider.id not in roles
    assert rank(roles.get(victim.id, "none")) <= max(map(rank, _given(world, victim)), default=0)
    log = LogId(liar.keys[0].id, b"i" * 16)
    assert outcomes[0].limit(log) == LogHead()


def _given(world: World, person: Person) -> set[Role]:
    """Return the roles that honest owners, or whoever they made one, ever gave somebody."""
    return {
        said.role
        for said in map(read, world.said)
        if said is not None and said.kind == "role" and said.subject == person.id
    }


def _lie(rng: random.Random, world: World, liar: Person, about: Person, known: set[bytes]) -> bytes:
    """Return a statement that its author may not make, or that is not what it seems."""
    seen = world.roster(known)
    links = rng.choice((seen.links(), [seen.root]))
    says: list[Any] = [about.id, rng.choice(ROLES[1:]), [], b""]
    kind = rng.randrange(4)
    if kind == 0:  # in another's name
        made = say(Author(world.founder.id, liar.keys[0]), "role", seen.root, links, says, 0)
    elif kind == 1:  # another's statement, changed
        fields = codec.decode(rng.choice(sorted(world.said)), 1 << 20)
        made = codec.encode([*fields[:3], about.id, "owner", [], b"", *fields[-4:]])
    elif kind == 2:  # dated back, or added after it was removed
        made = say(liar.author(rng.randrange(3)), "role", seen.root, links, says, rng.randrange(2**40))
    else:  # two things at once to different replicas
        world.said.add(say(liar.author(), "role", seen.root, links, [about.id, "none", [], b""], 1))
        made = say(liar.author(), "role", seen.root, links, says, 1)
    world.said.add(made)
    return made
