"""What devices of two accounts tell each other, and what they take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shoal.crdt import codec
from shoal.crdt.catalog import MAX_EPOCHS
from shoal.crdt.folder_statements import root_of, seal_secrets
from shoal.crdt.keys import DeviceKey, later_epoch
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.daemon import Node
from shoal.node.errors import UserError
from shoal.node.meeting import CONTEXT
from shoal.node.shares import MOST_OFFERS, Person
from shoal.node.store import MemoryStore


def device(number: int, name: str, place: Path) -> Node:
    """Return a node that runs nothing."""
    home = place / name
    home.mkdir()
    node = Node(MemoryStore(), bytes([number]) * 32, name, home)
    quiet: Any = SimpleNamespace(addresses=list, connected=set, trust=lambda devices: None)
    node.host, node.peering, node.start = quiet, quiet, lambda *work: None  # type: ignore[method-assign]
    return node


@pytest.fixture
def anna(tmp_path: Path) -> Node:
    return device(1, "anna", tmp_path)


@pytest.fixture
def ben(tmp_path: Path) -> Node:
    return device(2, "ben", tmp_path)


def question(asker: Node, account: bytes, *redeems: bytes, to: Node | None = None) -> bytes:
    device = to.key.id if to is not None else DeviceId(bytes(32))
    return codec.encode([account, *asker.meeting._tells(account, device), list(redeems)])


def ask(asker: Node, asked: Node) -> bool:
    """Have one ask the other; return whether it was answered, and take the answer."""
    answer = asked.meeting._answer(asker.key.id, question(asker, asked.account.id, to=asked))
    if answer is None:
        return False
    people = {person.id: person for person in map(Person.decode, answer[2])}
    bundles = [(FolderId(folder), founder, tuple(said)) for folder, founder, said in answer[1]]
    asker.sharing.take(asked.key.id, bundles, people)
    return True


def know(one: Node, other: Node, name: str = "") -> None:
    """Have one know the other as a contact."""
    called = name or other.account.name
    one.sharing.shares.meet(Person(other.account.id, called, other.account.roster.statements, 1000, True), of_own=True)
    one.sharing.shares.refresh()


def share(owner: Node, other: Node, role: Any = "reader", name: str = "F") -> bytes:
    know(owner, other)
    entry = owner.account.add_folder(name)
    owner.sharing.give(entry.id, other.account.id, role)
    return entry.id


def test_who_does_not_know_the_account_gets_no_answer(anna: Node, ben: Node) -> None:
    assert anna.meeting._answer(ben.key.id, question(ben, bytes(32))) is None


def test_who_knows_the_account_learns_its_devices_and_none_of_its_folders(anna: Node, ben: Node) -> None:
    anna.account.add_folder("secret")
    answer = anna.meeting._answer(ben.key.id, question(ben, anna.account.id))
    assert answer is not None
    account, bundles, people, _, refusal = answer
    assert (account, bundles, refusal) == (anna.account.id, [], "")
    assert [person[0] for person in people] == [anna.account.id]
    assert anna.sharing.shares.people == {}


def test_a_device_does_not_speak_for_an_account_that_it_is_not_of(anna: Node, ben: Node, tmp_path: Path) -> None:
    thief = device(3, "thief", tmp_path)
    assert anna.meeting._answer(thief.key.id, question(ben, anna.account.id)) is None


def test_a_device_that_its_account_revoked_gets_no_answer(anna: Node, ben: Node, tmp_path: Path) -> None:
    phone = device(3, "phone", tmp_path)
    phone.account.join(ben.account.invitation_for(phone.key.id, "phone"))
    share(anna, ben)
    assert ask(phone, anna)
    ben.account.revoke(phone.key.id)
    know(anna, ben)
    assert not ask(phone, anna)


def test_a_folder_is_offered_with_its_name_to_who_was_given_a_role(anna: Node, ben: Node) -> None:
    share(anna, ben, "writer")
    assert ask(ben, anna)
    (offer,) = ben.sharing.offered()
    assert (offer.name, offer.role, offer.by) == ("F", "writer", "anna")
    assert ben.account.folders() == {}
    ben.sharing.accept(offer.roster, None)
    assert [entry.name for entry in ben.account.folders().values()] == ["F"]
    assert ask(ben, anna)
    assert ben.account.id in anna.sharing.shares.all[offer.roster.root].accepted


def test_what_gives_this_account_nothing_is_not_kept(anna: Node, ben: Node, tmp_path: Path) -> None:
    carl = device(3, "carl", tmp_path)
    share(anna, ben)
    bundles = anna.sharing.shares.bundles_for(ben.account.id)
    people = {each.id: each for each in anna.sharing.shares.people_for(ben.account.id, bundles, "anna")}
    carl.sharing.take(anna.key.id, bundles, people)
    assert carl.sharing.shares.all == {}
    assert carl.sharing.shares.people == {}


def test_no_more_offers_wait_than_a_person_can_look_through(anna: Node, ben: Node) -> None:
    know(anna, ben)
    for number in range(MOST_OFFERS + 5):
        entry = anna.account.add_folder(f"F{number}")
        anna.sharing.shares.begin(entry.id)
        anna.sharing._say(anna.sharing.shares.of(entry.id), "role", [ben.account.id, "reader", [], b""])  # type: ignore[arg-type]
    ask(ben, anna)
    assert len(ben.sharing.offered()) == MOST_OFFERS


def test_who_has_no_part_any_more_is_told_of_that_and_of_nothing_newer(anna: Node, ben: Node, tmp_path: Path) -> None:
    carl = device(3, "carl", tmp_path)
    folder = FolderId(share(anna, ben))
    ask(ben, anna)
    anna.sharing.give(folder, ben.account.id, "none")
    know(anna, carl)
    anna.sharing.give(folder, carl.account.id, "reader")
    ask(ben, anna)
    (roster,) = ben.sharing.shares.all.values()
    assert roster.role(ben.account.id) == "none"
    assert carl.account.id not in roster.mentioned
    assert carl.account.id not in ben.sharing.shares.people


def test_a_name_that_was_given_here_stays_and_nobody_names_another(anna: Node, ben: Node, tmp_path: Path) -> None:
    carl = device(3, "carl", tmp_path)
    know(anna, ben, "My Ben")
    folder = FolderId(share(anna, carl, "writer"))
    anna.sharing.give(folder, ben.account.id, "writer")
    for other in (ben, carl):
        ask(other, anna)
        other.sharing.accept(other.sharing.offered()[0].roster, None)
    ask(ben, anna)
    assert anna.sharing.shares.name_of(ben.account.id) == "My Ben"
    ask(carl, anna)
    known = carl.sharing.shares
    assert known.name_of(ben.account.id).startswith("account ")
    known.meet(Person(ben.account.id, "ben", ben.account.roster.statements), by=[ben.account.id])
    known.meet(Person(ben.account.id, "Santa", ben.account.roster.statements), by=[anna.account.id])
    assert known.name_of(ben.account.id) == "ben"


def test_a_link_is_redeemed_by_who_has_its_key_for_himself_alone(anna: Node, ben: Node, tmp_path: Path) -> None:
    carl = device(3, "carl", tmp_path)
    entry = anna.account.add_folder("F")
    invite = DeviceKey(anna.sharing.make_invite(entry.id, "reader", 0, 1))
    signed = invite.sign(CONTEXT + ben.account.id + ben.key.id + anna.key.id)
    stolen = question(carl, anna.account.id, invite.id, signed)
    assert anna.meeting._answer(carl.key.id, stolen) is None
    answer = anna.meeting._answer(ben.key.id, question(ben, anna.account.id, invite.id, signed))
    assert answer is not None
    assert answer[-1] == ""
    roster = anna.sharing.shares.of(entry.id)
    assert roster is not None
    assert roster.role(ben.account.id) == "reader"


def test_a_folder_that_says_to_be_another_of_ours_cannot_be_accepted(anna: Node, ben: Node) -> None:
    mine = ben.account.add_folder("mine")
    know(anna, ben)
    from shoal.crdt.catalog import FolderEntry

    anna.account.keep(FolderEntry(mine.id, "F", ((0, b"s" * 32),), 1000))
    anna.sharing.give(mine.id, ben.account.id, "writer")
    ask(ben, anna)
    with pytest.raises(UserError, match="not the folder"):
        ben.sharing.accept(ben.sharing.offered()[0].roster, "other")
    assert ben.account.entry(mine.id) == mine


def test_all_of_it_is_there_after_a_restart(anna: Node, ben: Node) -> None:
    share(anna, ben, "writer")
    ask(ben, anna)
    ben.sharing.accept(ben.sharing.offered()[0].roster, None)
    again = Node(ben._store, ben.key.seed, "ben", ben._home)
    assert [entry.name for entry in again.account.folders().values()] == ["F"]
    assert again.sharing.access.may_write(next(iter(again.account.folders())))
    assert again.sharing.shares.name_of(anna.account.id) == "anna"


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x80", codec.encode([1, 2, 3, 4, 5, 6]), codec.encode([bytes(32), bytes(32), [1], [2], [3], []])],
)
def test_what_makes_no_sense_is_refused(anna: Node, ben: Node, frame: bytes) -> None:
    with pytest.raises(codec.Malformed):
        anna.meeting._answer(ben.key.id, frame)


def test_an_owner_who_gives_more_epochs_than_can_be_kept_ends_nothing(anna: Node, ben: Node) -> None:
    folder = FolderId(share(anna, ben, "writer"))
    ask(ben, anna)
    ben.sharing.accept(ben.sharing.offered()[0].roster, None)
    ask(ben, anna)
    entry = anna.account.entry(folder)
    assert entry is not None
    secrets = list(entry.secrets)
    for number in range(MAX_EPOCHS + 1):
        fresh = number.to_bytes(32)
        secrets.append((later_epoch(secrets[-1][0], fresh), fresh))
    roster = anna.sharing.shares.all[root_of(folder, anna.account.id)]
    boxes, sealed = seal_secrets(roster.root, "F", tuple(secrets), roster.readers, b"k" * 32)
    anna.sharing._say(roster, "key", [boxes, sealed, roster.former])
    ask(ben, anna)
    known = ben.account.entry(folder)
    assert known is not None
    assert known.secrets == entry.secrets


def test_an_owner_cannot_give_somebody_another_first_secret_than_the_founder_did(
    anna: Node, ben: Node, tmp_path: Path
) -> None:
    carl = device(3, "carl", tmp_path)
    folder = FolderId(share(anna, ben, "owner"))
    ask(ben, anna)
    ben.sharing.accept(ben.sharing.offered()[0].roster, None)
    ask(ben, anna)
    know(anna, carl)
    anna.sharing.give(folder, carl.account.id, "reader")
    ask(ben, anna)
    roster = ben.sharing.shares.all[root_of(folder, anna.account.id)]
    boxes, sealed = seal_secrets(roster.root, "F", ((0, b"x" * 32),), roster.readers, b"k" * 32)
    ben.sharing._say(roster, "key", [boxes, sealed, roster.former])
    ask(ben, anna)
    ask(carl, anna)
    carl.sharing.accept(carl.sharing.offered()[0].roster, None)
    ours, theirs = anna.account.entry(folder), carl.account.entry(folder)
    assert ours is not None
    assert theirs is not None
    assert theirs.secrets == ours.secrets


async def test_a_contact_is_named_anew_also_after_a_clock_was_years_ahead(
    anna: Node, ben: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(anna, ben)
    ahead = 4_000_000_000_000
    anna.sharing.shares.meet(Person(ben.account.id, "Ben", (), ahead, True), of_own=True)
    await anna.joining.add_contact(ben.joining.own_card(), "Benny")
    assert anna.sharing.shares.name_of(ben.account.id) == "Benny"
    anna.joining.remove_contact("Benny")
    assert anna.joining.contacts() == []


def test_a_closed_seed_keeps_nothing_of_who_it_does_not_serve(anna: Node, ben: Node) -> None:
    service = ben.serve_as_seed()
    share(anna, ben, "holder")
    ask(ben, anna)
    assert not ben.sharing.offered()
    service.allow(anna.account.id, "anna")
    ask(ben, anna)
    assert len(ben.sharing.offered()) == 1


def test_a_seed_gives_mail_to_the_account_that_a_device_says_it_is_of(anna: Node, ben: Node, tmp_path: Path) -> None:
    evil = device(4, "evil", tmp_path)
    evil.account.invitation_for(anna.key.id, "claimed")  # without being asked
    service = ben.serve_as_seed()
    service.set(is_open=True)
    for each in (anna, evil):
        share(each, ben, "holder")
        ask(each, ben)
    ask(ben, anna)
    ask(ben, evil)
    ben.mail.take(anna.key.id, [], anna.account.invitation().catalog)
    assert ben.mail.size(anna.account.id)
    assert not ben.mail.size(evil.account.id)
    assert ben.mail.told_to(evil.key.id)[1] == []
