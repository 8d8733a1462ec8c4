"""What is known of shared folders and of the people they are shared with: kept in the store, merged from peers.

A share is a folder, its founder's account, and a growing set of signed statements (`crdt.folder_statements`). A person
is another account: the statements on its devices, and what it is called here. Who tells of them need not be trusted:
all of it is signed; but what nobody here has to do with is not kept.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2

from shoal.crdt import codec
from shoal.crdt.folder_roster import FolderRoster
from shoal.crdt.folder_statements import ACCOUNT, Author, Kind, rank, read, root_of, say
from shoal.crdt.model import DeviceId, FolderId
from shoal.crdt.roster import NoGenesis, Roster
from shoal.node.account import Account
from shoal.node.errors import UserError
from shoal.node.store import Store

SHARES, PEOPLE = b"shares", b"people"
READER = rank("reader")
MAX_NAME = 64
PIECE = 2 * 1024 * 1024  # bytes of statements in one message
MOST_BUNDLES, MOST_SAID = 1000, 20_000
MOST_OF_OFFER = 300  # statements of a folder that was not accepted
MOST_OFFERS = 100  # of strangers, that wait to be accepted
MOST_OFFERS_OF_ONE = 20  # of them, of one stranger
MOST_BYTES_OF_OFFER = 128 * 1024  # of statements of a stranger's folder that was not accepted
MOST_STATEMENTS = 4096  # of one account
MOST_BYTES_OF_PERSON = 256 * 1024  # of the statements of another account that are kept
MOST_ADDRESSES = 16

Bundle = tuple[FolderId, bytes, tuple[bytes, ...]]
"""A folder, its founder, and statements on it."""


@dataclass(frozen=True, slots=True)
class Person:
    """Another account. `named_ms`: when somebody of this account said what it is called, and whether it is a contact; 0
    where that is only what it calls itself. `addresses`: where its devices may be, each with /p2p/ and an id;
    `is_seed`: whether it is to hold this account's folders."""

    id: bytes
    name: str
    statements: tuple[bytes, ...] = field(default=(), repr=False)
    named_ms: int = 0
    is_contact: bool = False
    addresses: tuple[str, ...] = ()
    is_seed: bool = False

    def encode(self) -> list[Any]:
        """Return it as the devices of the account tell each other, and as it is stored."""
        fields = [self.id, self.name, list(self.statements), self.named_ms, self.is_contact, list(self.addresses)]
        return [*fields, True] if self.is_seed else fields

    @classmethod
    def decode(cls, fields: Any) -> Person:
        """Raises codec.Malformed."""
        said = codec.as_list(fields, most=7)
        account, name, statements, named_ms, is_contact, addresses, is_seed = [*said, False] if len(said) == 6 else said
        return cls(
            codec.as_bytes(account, ACCOUNT),
            clean_name(codec.as_text(name, 4 * MAX_NAME)),
            tuple(codec.as_bytes(said) for said in codec.as_list(statements, most=MOST_STATEMENTS)),
            codec.as_int(named_ms),
            codec.as_bool(is_contact),
            tuple(codec.as_text(each, 512) for each in codec.as_list(addresses, most=MOST_ADDRESSES)),
            codec.as_bool(is_seed),
        )


def clean_name(text: str) -> str:
    """Return what somebody is called, so that it does no harm where it is shown."""
    return "".join(each for each in text if each.isprintable()).strip()[:MAX_NAME]


def short_id(account: bytes) -> str:
    """Return the beginning of an account's id, for people."""
    return base64.b32encode(account).decode().lower()[:8]


def decode_bundles(fields: Any, most: int) -> list[Bundle]:
    """Return what is told of folders, of `most` statements in all. Raises codec.Malformed."""
    bundles = [_decode_bundle(each) for each in codec.as_list(fields, most=MOST_BUNDLES)]
    if sum(len(statements) for _, _, statements in bundles) > most:
        raise codec.Malformed("more than anybody has to say of shared folders")
    return bundles


def _decode_bundle(fields: Any) -> Bundle:
    folder, founder, statements = codec.as_list(fields, length=3)
    said = tuple(codec.as_bytes(each) for each in codec.as_list(statements, most=MOST_SAID))
    return FolderId(codec.as_bytes(folder, 16)), codec.as_bytes(founder, ACCOUNT), said


class Shares:
    """The shared folders and the people. Whoever changes something calls `save`."""

    def __init__(self, store: Store, account: Account) -> None:
        self._store = store
        self._account = account
        self.people: dict[bytes, Person] = {}
        self._rosters: dict[bytes, Roster] = {}  # of people
        self._bundles: dict[bytes, Bundle] = {}  # by root
        self.all: dict[bytes, FolderRoster] = {}  # by root
        self._held: dict[FolderId, FolderRoster] = {}
        self._judged: dict[bytes, tuple[Bundle, list[Roster | None]]] = {}  # what each rests on
        self.welcomes: Callable[[bytes], bool] = lambda founder: True  # whose folders may be offered here
        self._read()
        self.refresh()

    # -- what is known -----------------------------------------------------------------------------------------------

    def of(self, folder: FolderId) -> FolderRoster | None:
        """Return the roster of a folder of the account, or one that it holds; None where it is not shared."""
        entry = self._account.entry(folder)
        if entry is None:
            return self._held.get(folder)
        return self.all.get(root_of(folder, entry.founder or self._account.id))

    def offers(self) -> list[FolderRoster]:
        """Return what others share with this account that was not accepted yet."""
        me, offers = self._account.id, []
        for each in self.all.values():
            unread = me != each.founder and rank(each.role(me)) >= READER and self._account.entry(each.folder) is None
            if each.role(me) != "none" and (me not in each.accepted or unread):  # it may have been a holder before
                offers.append(each)
        return offers

    def held(self) -> list[FolderRoster]:
        """Return the folders of others that this account holds sealed."""
        return list(self._held.values())

    def roster_of(self, account: bytes) -> Roster | None:
        """Return the devices of an account, as far as they are known."""
        return self._account.roster if account == self._account.id else self._rosters.get(account)

    def accounts_of(self, device: DeviceId) -> list[bytes]:
        """Return the other accounts that a device is of."""
        return [account for account, roster in self._rosters.items() if device in roster.devices]

    def is_of(self, device: DeviceId, account: bytes, person: Person | None) -> bool:
        """Return whether a device is of another account, by what is known of it and what is told now."""
        told = [person] if person is not None and person.id == account else []
        roster = (self._known() | _rosters_of(told, self.people)).get(account)
        return roster is not None and account != self._account.id and device in roster.devices

    def name_of(self, account: bytes) -> str:
        """Return what an account is called here."""
        person = self.people.get(account)
        return (person.name if person is not None else "") or f"account {short_id(account)}"

    # -- what others are told ----------------------------------------------------------------------------------------

    def bundles_for(self, account: bytes) -> list[Bundle]:
        """Return what an account may know of shared folders: of one that it has no part in any more, how that came."""
        if account == self._account.id:
            return list(self._bundles.values())
        told: list[Bundle] = []
        for root, roster in self.all.items():
            if roster.role(account) != "none":
                told.append(self._bundles[root])
            elif account in roster.mentioned:
                told.append((roster.folder, roster.founder, tuple(roster.about(account))))
        return told

    def people_for(self, account: bytes, bundles: Iterable[Bundle], own_name: str) -> list[Person]:
        """Return whose statements the bundles rest on, this account first; for another one without what is this one's
        own matter."""
        if account == self._account.id:
            return list(self.people.values())
        concerned: set[bytes] = set()
        for bundle in bundles:
            concerned.update(_concerned(bundle))
        concerned -= {account, self._account.id}
        mine = Person(self._account.id, own_name, tuple(self._account.roster.statements))
        others = [self.people[each] for each in sorted(concerned) if each in self.people]
        return [mine, *(Person(each.id, each.name if not each.named_ms else "", each.statements) for each in others)]

    def messages_for(self, accounts: Iterable[bytes], own_name: str) -> list[list[Any]]:
        """Return what a device of some accounts may know, as pairs of bundles and people that each make sense after
        those before."""
        messages: dict[bytes, list[Any]] = {}  # by what they are, as a device may be of two accounts
        for account in accounts:
            is_own = account == self._account.id
            for person in self.people.values() if is_own else ():
                messages[person.id] = [[], [person.encode()]]
            for bundle in self.bundles_for(account):
                folder, founder, statements = bundle
                people = [] if is_own else [each.encode() for each in self.people_for(account, [bundle], own_name)]
                for number, piece in enumerate(_pieces(statements)):
                    key = folder + founder + number.to_bytes(4)
                    messages[key] = [[[folder, founder, piece]], people if number == 0 else []]
        return list(messages.values())

    # -- what changes it ---------------------------------------------------------------------------------------------

    def begin(self, folder: FolderId) -> FolderRoster:
        """Return the roster of a folder of the account, made if need be."""
        entry = self._account.entry(folder)
        assert entry is not None
        founder = entry.founder or self._account.id
        root = root_of(folder, founder)
        if root not in self._bundles:
            self._bundles[root] = folder, founder, ()
            self.refresh()
        return self.all[root]

    def say(self, author: Author, root: bytes, kind: Kind, says: Iterable[Any], now_ms: int) -> bytes:
        """Say something of a shared folder; return the statement. Raises UserError."""
        roster = self.all[root]
        made = say(author, kind, root, roster.links(), list(says), now_ms)
        if read(made) is None:
            raise UserError("too-much", "more was said of who shares that folder than it can hold", "share another")
        self._bundles[root] = roster.folder, roster.founder, (*roster.in_order, made)
        self.refresh()
        return made

    def meet(self, person: Person, *, of_own: bool = False, by: Collection[bytes] = ()) -> bool:
        """Take what is told of another account; return whether it was news. `of_own`: by a device of this account;
        `by`: the accounts of the device that tells: each says what it calls itself."""
        if person.id == self._account.id:
            return False
        known = self.people.get(person.id, Person(person.id, ""))
        named = known
        if of_own and person.named_ms > known.named_ms:
            named = replace(
                known,
                name=person.name,
                named_ms=person.named_ms,
                is_contact=person.is_contact,
                addresses=person.addresses,
                is_seed=person.is_seed,
            )
        elif not known.named_ms and person.name and (not known.name or person.id in by):
            named = replace(named, name=person.name)
        try:
            roster = Roster.from_statements({*known.statements, *person.statements}, person.id)
            if of_own or sum(map(len, roster.statements)) <= MOST_BYTES_OF_PERSON:
                self._rosters[person.id] = roster
                named = replace(named, statements=roster.statements)
        except NoGenesis:
            pass  # its devices are not known yet
        if named == self.people.get(person.id):
            return False
        self.people[person.id] = named
        return True

    def take(
        self, bundles: Iterable[Bundle], people: Mapping[bytes, Person], by: Collection[bytes], *, of_own: bool
    ) -> bool:
        """Take what a peer, of the accounts `by`, told of folders that it shares with this one; return whether any of
        it was news."""
        news = False
        if of_own:
            for person in people.values():
                news |= self.meet(person, of_own=True)
        for account in () if of_own else people.keys() & self.people.keys():
            news |= self.meet(people[account], by=by)
        rosters = self._known() | _rosters_of(people.values(), self.people)
        rosters[self._account.id] = self._account.roster
        waiting = sum(not self._is_contact(each.founder) for each in self.offers())
        for folder, founder, statements in bundles:
            root = root_of(folder, founder)
            known = self._bundles.get(root)
            if known is not None and set(statements) <= set(known[2]) and not people:
                continue
            before = set(known[2]) if known is not None else set()
            if known is None and not of_own and len(statements) > MOST_OF_OFFER:
                continue
            roster = FolderRoster(folder, founder, before.union(statements), rosters)
            if known is None and not of_own:
                if roster.role(self._account.id) == "none" or not self._may_be(roster) or not self.welcomes(founder):
                    continue
                if not self._is_contact(founder):  # strangers' offers take no place from those of others
                    if waiting >= MOST_OFFERS or sum(map(len, statements)) > MOST_BYTES_OF_OFFER:
                        continue
                    if sum(each.founder == founder for each in self.offers()) >= MOST_OFFERS_OF_ONE:
                        continue
                    waiting += 1
            size = sum(map(len, {*before, *statements}))
            if known is not None and not of_own and size > MOST_BYTES_OF_OFFER and self._is_unasked(roster, founder):
                continue
            if not of_own:
                kept = roster.admitted(before)
                if len(kept) < len(roster.statements):
                    roster = FolderRoster(folder, founder, kept, rosters)
            for account in (roster.mentioned | roster.authors) & people.keys():
                news |= self.meet(people[account], by=by)
            if set(roster.statements) != before or known is None:
                self._bundles[root] = folder, founder, tuple(roster.in_order)
                news = True
        if news:
            self.refresh()
        return news

    def _is_contact(self, account: bytes) -> bool:
        person = self.people.get(account)
        return person is not None and person.is_contact

    def _is_unasked(self, roster: FolderRoster, founder: bytes) -> bool:
        """Return whether a folder is a stranger's that this account has not accepted."""
        return self._account.id not in roster.accepted and not self._is_contact(founder)

    def _may_be(self, roster: FolderRoster) -> bool:
        """Return whether a folder can be shared so: one that was this account's first is known to it."""
        return roster.founder != self._account.id or self._account.entry(roster.folder) is not None

    def _forget_old(self) -> None:
        """Of folders that this account has no part in any more, or declined, forget some where they are many."""
        me = self._account.id
        over = [
            root
            for root, roster in self.all.items()
            if roster.role(me) == "none" and self._account.entry(roster.folder) is None
        ]
        for root in over[: max(0, len(over) - MOST_OFFERS)]:
            del self._bundles[root], self.all[root]
            self._judged.pop(root, None)

    def forget_contact(self, account: bytes, now_ms: int) -> None:
        """Have an account be a contact no more."""
        known = self.people[account]
        self.people[account] = replace(known, is_contact=False, is_seed=False, named_ms=max(now_ms, known.named_ms + 1))

    def refresh(self) -> None:
        """Judge all anew, after an account's devices changed."""
        accounts = self._known()
        known = self.all
        self.all = {}
        for root, bundle in self._bundles.items():
            roster, concerned = known.get(root), [accounts.get(each) for each in _concerned(bundle)]
            if roster is None or self._judged.get(root) != (bundle, concerned):
                roster = FolderRoster(*bundle, accounts)
                self._judged[root] = bundle, concerned
            self.all[root] = roster
        me = self._account.id
        held = [each for each in self.all.values() if each.role(me) == "holder" and me in each.accepted]
        self._held = {each.folder: each for each in held}

    def save(self) -> None:
        """Write all. Raises StoreFull; it is as it was stored then."""
        self._forget_old()
        try:
            shares = [[folder, founder, list(said)] for folder, founder, said in self._bundles.values()]
            people = [person.encode() for person in self.people.values()]
            self._store.write([("meta", SHARES, cbor2.dumps(shares)), ("meta", PEOPLE, cbor2.dumps(people))], sync=True)
        except BaseException:
            self._read()
            self.refresh()
            raise

    # -- inside ------------------------------------------------------------------------------------------------------

    def _known(self) -> dict[bytes, Roster]:
        return {**self._rosters, self._account.id: self._account.roster}

    def _read(self) -> None:
        self.people, self._rosters, self._bundles = {}, {}, {}
        for fields in cbor2.loads(self._store.get("meta", PEOPLE) or b"\x80"):
            person = Person.decode(fields)
            self.people[person.id] = person
            if person.statements:
                self._rosters[person.id] = Roster.from_statements(person.statements, person.id)
        for fields in cbor2.loads(self._store.get("meta", SHARES) or b"\x80"):
            bundle = _decode_bundle(fields)
            self._bundles[root_of(bundle[0], bundle[1])] = bundle


def _concerned(bundle: Bundle) -> list[bytes]:
    """Return the accounts that statements on a folder are by, or about."""
    _, founder, statements = bundle
    said = [each for each in map(read, statements) if each is not None]
    return sorted({founder, *(each.account for each in said), *(each.subject for each in said if each.kind == "role")})


def _rosters_of(people: Iterable[Person], known: Mapping[bytes, Person]) -> dict[bytes, Roster]:
    rosters = {}
    for person in people:
        before = known[person.id].statements if person.id in known else ()
        with contextlib.suppress(NoGenesis):
            rosters[person.id] = Roster.from_statements({*before, *person.statements}, person.id)
    return rosters


def _pieces(statements: Iterable[bytes]) -> list[list[bytes]]:
    """Divide statements, in their order, so that each piece fits into a message."""
    pieces: list[list[bytes]] = [[]]
    size = 0
    for said in statements:
        if size + len(said) > PIECE and pieces[-1]:
            pieces.append([])
            size = 0
        pieces[-1].append(said)
        size += len(said)
    return pieces
