"""Who may do what with a shared folder: what its statements come to, the same for everyone who has the same ones.

A statement is *authorised* when all that it links to is, its author was a device of the account it speaks for, and that
account was an owner by what it links to (a member, to accept; one that ever was, to leave). Of those:
- a role that an owner gives counts as long as its author is an owner and its device one of that account. What one said
  that was removed or revoked since does not, however it is dated: who removes or revokes says again what is to stay;
- every authorised role is a ceiling to all roles of that account which had not seen it: of a removal and an addition
  that did not know of each other the removal wins, and of two roles the lesser. Who has seen a removal may add anew;
- that an account leaves counts as long as the device is one of it that said so;
- an account takes part that accepted, and was not removed after.
The founder is an owner for good. So roles are a least fixpoint from the founder on, whatever order statements came in.

What an account wrote while it might is kept; whoever takes that from it says how much of its logs there was (`cuts`),
and all else is refused from then on by everyone. What others had got beyond that is said again by who may write. The
same goes for a device that its account revoked: another one of it says how much there was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

import blake3

from shoal.crdt.folder_statements import ROLES, Role, Said, links_of, rank, read, root_of
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId, NodeId
from shoal.crdt.roster import Roster
from shoal.crdt.statements import can_open

MOST_DEVICES = 100  # of an account that get keys; others have them from the account
MOST_OF_OWNER, MOST_OF_OTHER = 1000, 100  # statements of one account that no other owner has built on
MOST_LIMITS = 10_000  # remembered

OWNER, WRITER, READER = rank("owner"), rank("writer"), rank("reader")
NOTHING = LogHead()


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite that stands. `used`: how many roles that count were given for it."""

    hash: bytes
    public: bytes
    role: Role
    expires_ms: int
    uses: int
    used: int


class FolderRoster:
    """The accounts of a shared folder. `refused` counts statements that are none of the folder's, or not authorised."""

    def __init__(
        self, folder: FolderId, founder: bytes, statements: Iterable[bytes], accounts: Mapping[bytes, Roster]
    ) -> None:
        """`accounts`: the rosters of the accounts that are known; a statement of another is not authorised yet."""
        self.folder = folder
        self.founder = founder
        self.root = root_of(folder, founder)
        self._accounts = accounts
        self._said: list[Said] = []
        self._past: dict[bytes, int] = {}  # by hash, a bit set of places in `_said`
        self._standings: dict[tuple[int, bool], dict[bytes, int]] = {}
        self._ownings: dict[int, set[bytes]] = {}
        self._limits: dict[LogId, LogHead | None] = {}
        self._roles_mask = self._owner_mask = 0  # bit sets of places
        self._about: dict[bytes, list[int]] = {}  # by account and rank, the same
        self._take(set(statements))
        self.roles: dict[bytes, Role] = {account: _role(worth) for account, worth in self._now.items() if worth}

    # -- who may ---------------------------------------------------------------------------------------------------

    def role(self, account: bytes) -> Role:
        """Return what an account may."""
        return self.roles.get(account, "none")

    @cached_property
    def accepted(self) -> set[bytes]:
        """The accounts that take part."""
        gone = [self._said[place] for place in _places(self._roles_mask) if self._said[place].role == "none"]
        said = {
            said.account
            for said in self._said
            if said.kind == "accept"
            and not any(out.subject == said.account and self._is_before(said, out) for out in gone)
        }
        return {account for account in self.roles if account in said or account == self.founder}

    @cached_property
    def mentioned(self) -> set[bytes]:
        """The accounts that had a role at any time, or have one."""
        return {self.founder, *(said.subject for said in self._said if said.kind == "role")}

    @property
    def said_of_roles(self) -> bool:
        """Whether it was ever shared with anybody."""
        return bool(self._roles_mask)

    @cached_property
    def authors(self) -> set[bytes]:
        """The accounts that said something of it."""
        return {said.account for said in self._said}

    def about(self, account: bytes) -> list[bytes]:
        """Return the roles that an account was given and what they rest on: what it may know that has none any more."""
        needed = 0
        for said in self._said:
            if said.kind == "role" and said.subject == account:
                needed |= self._past[said.hash] | 1 << self._places[said.hash]
        return [said.encoded for place, said in enumerate(self._said) if needed >> place & 1]

    def role_of_device(self, device: DeviceId, *, accepted: bool = False) -> Role:
        """Return what a device may: the most that an account may which it is of. `accepted`: of who takes part."""
        among = self.accepted if accepted else self.roles
        worth = (rank(self.roles[a]) for a in among if a in self._accounts and device in self._accounts[a].devices)
        return _role(max(worth, default=0))

    def limit(self, log: LogId) -> LogHead | None:
        """Return how much of a log is taken; None for all of it."""
        if log not in self._limits:
            if len(self._limits) >= MOST_LIMITS:  # a peer makes logs up
                self._limits.clear()
            self._limits[log] = self._limit(log)
        return self._limits[log]

    def _limit(self, log: LogId) -> LogHead | None:
        limit = NOTHING
        for account in self.mentioned:
            if account not in self._accounts or not self._accounts[account].is_known(log.device):
                continue
            cut = self._cuts.get(account, {}).get(log, NOTHING)
            if rank(self.role(account)) >= WRITER:
                if log.device in self._accounts[account].devices or (account, log.device) not in self._device_cuts:
                    return None
                cut = self._device_cuts[account, log.device].get(log, NOTHING)
            limit = max(limit, cut, key=lambda head: head.length)
        return limit

    @cached_property
    def _device_cuts(self) -> dict[tuple[bytes, DeviceId], dict[LogId, LogHead]]:
        said = [each for each in self._said if each.kind == "cut" and each.device != each.subject]
        cuts: dict[tuple[bytes, DeviceId], dict[LogId, LogHead]] = {}
        # What devices say that are none of the account's any more counts only where no other said anything.
        for current in (True, False):
            found: dict[tuple[bytes, DeviceId], dict[LogId, LogHead]] = {}
            for each in said:
                key = each.account, DeviceId(each.subject)
                if (each.device in self._accounts[each.account].devices) == current and key not in cuts:
                    _widen(found.setdefault(key, {}), each.cuts)
            cuts |= found
        return cuts

    def left_by_itself(self) -> dict[bytes, dict[LogId, LogHead]]:
        """Return the accounts whose logs nobody but themselves has cut, as they left, with what they said there was."""
        told = {said.subject for said in self._lowerings if said.account != said.subject}
        left = self._cuts.keys() - told - self.roles.keys()
        return {account: self._cuts[account] for account in left if self._cuts[account]}

    @cached_property
    def _cuts(self) -> dict[bytes, dict[LogId, LogHead]]:
        """How much there is of the logs of accounts, by the owners; where these said nothing, by who was one; then by
        themselves, as they left: nobody widens what is taken of his own logs."""
        cuts: dict[bytes, dict[LogId, LogHead]] = {}
        for tier in range(3):
            found: dict[bytes, dict[LogId, LogHead]] = {}
            for said in self._lowerings:
                own = 2 if said.account == said.subject else 0 if self._counts(said) else 1
                if own == tier and said.subject not in cuts:
                    _widen(found.setdefault(said.subject, {}), said.cuts)
            cuts |= found
        return cuts

    @cached_property
    def _lowerings(self) -> list[Said]:
        """Return what took from somebody that he may write, by all that it had seen, and was not given back and taken
        anew since; and what an owner said after it of the logs."""
        said = [
            each
            for each in self._said
            if each.kind == "role"
            and rank(each.role) < WRITER
            and (self._took(each) or (each.cuts and each.account != each.subject and self._counts(each)))
        ]
        by_subject: dict[bytes, list[Said]] = {}
        for each in said:
            by_subject.setdefault(each.subject, []).append(each)
        return [each for each in said if not any(self._is_before(each, later) for later in by_subject[each.subject])]

    def _took(self, said: Said) -> bool:
        """Return whether somebody might write by all that a statement had seen."""
        return self._standing(self._past[said.hash], current=False).get(said.subject, 0) >= WRITER

    @cached_property
    def parts(self) -> dict[NodeId, FolderId]:
        """The parts of it that are folders of their own, by node."""
        said = [each for each in self._said if each.kind == "part" and self._counts(each)]
        return {each.part: FolderId(each.subject) for each in reversed(said)}

    # -- its keys --------------------------------------------------------------------------------------------------

    def key_statements(self) -> list[Said]:
        """Return those that count, each after what it links to."""
        return [said for said in self._said if said.kind == "key" and self._counts(said)]

    @cached_property
    def readers(self) -> set[DeviceId]:
        """The devices that may read, `MOST_DEVICES` of an account at most, the oldest."""
        found: set[DeviceId] = set()
        for account, role in self.roles.items():
            if rank(role) >= READER and account in self._accounts:
                devices = [d for d, record in self._accounts[account].devices.items() if not record.is_paper]
                found |= can_open(devices[:MOST_DEVICES])
        return found

    @cached_property
    def former(self) -> bytes:
        """What a key statement says of the devices that the readers' accounts revoked."""
        gone = {
            device
            for account, role in self.roles.items()
            if rank(role) >= READER and account in self._accounts
            for device in self._accounts[account].former
        }
        return blake3.blake3(b"".join(sorted(gone))).digest()

    def keys_due(self) -> bool:
        """Return whether an owner has to hand out keys: a reader lacks them, or somebody has them who may read no
        more."""
        newest = self._newest_keys()
        return not newest or not all(self._fits(said) for said in newest)

    def is_exposed(self) -> bool:
        """Return whether the newest keys may be known to somebody who may read no more."""
        return any(
            said.former != self.former or not {device for device, _ in said.boxes} <= self.readers
            for said in self._newest_keys()
        )

    def _newest_keys(self) -> list[Said]:
        keys = self.key_statements()
        return [said for said in keys if not any(self._is_before(said, other) for other in keys)]

    def _fits(self, said: Said) -> bool:
        return said.former == self.former and {device for device, _ in said.boxes} == self.readers

    # -- invites ---------------------------------------------------------------------------------------------------

    def invites(self) -> list[Invite]:
        """Return those that count and were not cancelled."""
        cancelled = {said.invite for said in self._said if said.kind == "cancel"}
        used: dict[bytes, set[bytes]] = {}
        for said in self._said:
            if said.kind == "role" and said.invite:
                used.setdefault(said.invite, set()).add(said.subject)
        return [
            Invite(s.hash, s.public, s.role, s.expires_ms, s.uses, len(used.get(s.hash, ())))
            for s in self._said
            if s.kind == "invite" and s.hash not in cancelled and self._counts(s)
        ]

    def may_redeem(self, invite: bytes, account: bytes) -> bool:
        """Return whether an account may use an invite: not one that was made before something was taken from it."""
        made = next(said for said in self._said if said.hash == invite)
        return all(
            rank(said.role) >= rank(made.role) or self._is_before(said, made)
            for said in self._said
            if said.kind == "role" and said.subject == account and said.hash != invite
        )

    # -- what a new statement needs ----------------------------------------------------------------------------------

    @property
    def statements(self) -> tuple[bytes, ...]:
        """All that are authorised, in byte order."""
        return tuple(sorted(said.encoded for said in self._said))

    @property
    def in_order(self) -> list[bytes]:
        """The same, each after what it links to."""
        return [said.encoded for said in self._said]

    def links(self) -> list[bytes]:
        """Return what a new statement links to."""
        linked = {link for said in self._said for link in said.links}
        tips = [said for said in self._said if said.hash not in linked]
        tips.sort(key=lambda said: (self.role(said.account) != "owner", said.hash))  # others may say very much
        return links_of((said.hash for said in tips), self.root)

    def admitted(self, held: Set[bytes]) -> list[bytes]:
        """Return the statements to keep, of which some are held already: all of these, and of new ones of an account no
        more than `MOST_OF_OWNER` or `MOST_OF_OTHER` with those that are held, but for what rests on another owner's
        word. So nobody can fill it up, and what is held is never dropped."""
        owners = {account for account, role in self.roles.items() if role == "owner"}
        seen = dict.fromkeys(owners, 0)  # by an owner, the past of all that it said
        for said in self._said:
            if said.account in owners:
                seen[said.account] |= self._past[said.hash]
        count: Counter[bytes] = Counter()
        kept = []
        for place, said in enumerate(self._said):
            vouched = any(past >> place & 1 for owner, past in seen.items() if owner != said.account)
            count[said.account] += not vouched
            most = MOST_OF_OWNER if said.account in owners else MOST_OF_OTHER
            if vouched or said.encoded in held or count[said.account] <= most:
                kept.append(said.encoded)
        return kept

    def left_by(self, account: bytes, device: DeviceId) -> bool:
        """Return whether an account left by the word of one of its devices."""
        return any(self._leaves(said) and (said.account, said.device) == (account, device) for said in self._said)

    def cuts_of(self, account: bytes) -> Mapping[LogId, LogHead]:
        """Return how much there is of the logs of an account that may not write."""
        return self._cuts.get(account, {})

    def vouched_by(self, account: bytes, device: DeviceId | None = None) -> dict[bytes, Role]:
        """Return the roles that others have by an account, or by one device of it, alone: who removes that says them
        again."""
        by: dict[bytes, bool] = {}  # whether somebody else gave it, too
        for said in self._said:
            if said.kind == "role" and self._counts(said) and self._worth(said) == rank(self.role(said.subject)) > 0:
                other = said.account != account or device not in (None, said.device)
                by[said.subject] = by.get(said.subject, False) or other
        return {subject: self.role(subject) for subject, other in by.items() if not other and subject != account}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(self, given: set[bytes]) -> None:
        signed = {said.hash: said for said in map(read, given) if said is not None and said.root == self.root}
        lacking: dict[bytes, int] = {}
        linking: dict[bytes, list[Said]] = {}
        places: dict[bytes, int] = {}
        ready: list[Said] = []
        for _, said in sorted(signed.items()):
            links = [link for link in said.links if link != self.root]
            lacking[said.hash] = len(links)
            for link in links:
                linking.setdefault(link, []).append(said)
            if not links:
                ready.append(said)
        while ready:
            said = ready.pop(0)
            before = 0
            for link in said.links:
                if link != self.root:
                    before |= self._past[link] | 1 << places[link]
            if not self._is_authorised(said, before):
                continue
            places[said.hash] = len(self._said)
            self._past[said.hash] = before
            if said.kind == "role" and not (self._leaves(said) and not self._is_current(said)):
                here = 1 << len(self._said)
                self._roles_mask |= here
                self._owner_mask |= here if rank(said.role) == OWNER else 0
                self._about.setdefault(said.subject, [0] * len(ROLES))[rank(said.role)] |= here
            self._said.append(said)
            for each in linking.get(said.hash, ()):
                lacking[each.hash] -= 1
                if not lacking[each.hash]:
                    ready.append(each)
        self._places = places
        self.refused = len(given) - len(self._said)
        self._now = self._standing((1 << len(self._said)) - 1, current=True)

    def _is_authorised(self, said: Said, before: int) -> bool:
        author = self._accounts.get(said.account)
        if author is None or not author.is_known(said.device):
            return False
        if said.kind == "cut" and DeviceId(said.subject) not in author.former:
            return False
        if said.kind == "role" and said.subject == self.founder:
            return False
        if self._leaves(said):
            return any(about & before for about in self._about.get(said.account, ()))
        if said.kind in ("accept", "cut"):
            standing = self._standing(before, current=False).get(said.account, 0)
            return standing >= (WRITER if said.kind == "cut" else 1)
        return said.account in self._owners_by(before & self._roles_mask)

    def _owners_by(self, which: int) -> set[bytes]:
        if which not in self._ownings:
            self._ownings[which] = self._owners(which, current=False)
        return self._ownings[which]

    @staticmethod
    def _leaves(said: Said) -> bool:
        return said.kind == "role" and said.subject == said.account and said.role == "none"

    def _counts(self, said: Said) -> bool:
        return self._now.get(said.account, 0) >= OWNER and self._is_current(said)

    def _worth(self, said: Said, which: int = -1) -> int:
        """Return what a role comes to, given all that the statements of a bit set say of its account."""
        unseen = which & ~self._past[said.hash]
        return next(worth for worth, about in enumerate(self._about[said.subject]) if about & unseen)

    def _standing(self, which: int, *, current: bool) -> dict[bytes, int]:
        """Return each account's rank by the statements of a bit set, which holds their pasts. `current`: what devices
        said that were revoked does not count."""
        which &= self._roles_mask
        if (which, current) not in self._standings:
            owners = self._owners(which, current)
            standing = {self.founder: OWNER}
            for place in _places(which):
                said = self._said[place]
                if said.account in owners and (not current or self._is_current(said)):
                    standing[said.subject] = max(standing.get(said.subject, 0), self._worth(said, which))
            self._standings[which, current] = standing
        return self._standings[which, current]

    def _owners(self, which: int, current: bool) -> set[bytes]:
        said = (self._said[place] for place in _places(which & self._owner_mask))
        given = [each for each in said if self._worth(each, which) == OWNER]
        owners = {self.founder}
        changed = True
        while changed:
            fresh = {s.subject for s in given if s.account in owners and (not current or self._is_current(s))} - owners
            owners |= fresh
            changed = bool(fresh)
        return owners

    def _is_current(self, said: Said) -> bool:
        return said.device in self._accounts[said.account].devices

    def _is_before(self, one: Said, other: Said) -> bool:
        return bool(self._past[other.hash] >> self._places[one.hash] & 1)


def _widen(cuts: dict[LogId, LogHead], more: Mapping[LogId, LogHead]) -> None:
    for log, head in more.items():
        cuts[log] = max(cuts.get(log, NOTHING), head, key=lambda each: (each.length, each.hash))


def _places(which: int) -> Iterator[int]:
    """Yield the places of the bits that are set."""
    while which:
        lowest = which & -which
        yield lowest.bit_length() - 1
        which ^= lowest


def _role(worth: int) -> Role:
    return ROLES[worth]
