"""The devices of an account: what its statements come to, the same for everyone who has the same ones.

A statement is *authorised* when all that it links to is known and its author was a member by that. Of those:
- every revocation counts, and for good: two devices that revoke each other at the same time are both out;
- anything else counts unless its author was revoked by a statement that does not have it in its past. So a device that
  was revoked can add none behind, and what it dates back does not count either, unless whoever revoked it had seen it.
  Nor does what came of it: a device that it added so is no member.

What somebody whose key was once good can do with it later, is to have others revoked by statements that it dates back;
it can neither come back nor read on. Removal wins over addition whenever the two did not know of each other.

That a device is to erase its copies counts only when a member says so that let it in, or let in who did: else whoever
has the newest phone could have every copy of everything erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId
from shoal.crdt.statements import MAX_LINKS, MAX_NAME, PAPER, Statement, boxes_for, can_open, read, sign


class NoGenesis(Exception):
    """The statements do not hold exactly one account."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device that is or was of the account. `name`: for people; `added_ms`, `revoked_ms`: what clocks said, the
    latter None for a member; `erase`: whether it was to erase its copies; `is_paper`: a key on paper."""

    name: str
    added_ms: int
    is_paper: bool = False
    revoked_ms: int | None = None
    erase: bool = False


class Roster:
    """The devices of an account. `refused` counts the statements that are none or are not authorised."""

    def __init__(self, account: bytes, authorised: list[Statement], past: Mapping[bytes, int], refused: int) -> None:
        """`authorised`: each after all that it links to. `past`: a bit set of places in it, by hash, its own not."""
        self.account = account
        self.refused = refused
        self._authorised = authorised
        self._past = past
        self._places = {said.hash: place for place, said in enumerate(authorised)}
        self.statements: tuple[bytes, ...] = tuple(sorted(said.encoded for said in authorised))
        judged = _judge(authorised, past, (1 << len(authorised)) - 1)
        added: dict[DeviceId, Statement] = {}
        named: dict[DeviceId, Statement] = {}
        self._revocations: dict[DeviceId, list[Statement]] = {}
        self._keys: list[Statement] = []
        self._adders: dict[DeviceId, set[DeviceId]] = {}
        for said in judged.counting:
            if said.kind in ("genesis", "add", "paper"):
                added[said.device] = _first(added.get(said.device), said)
                self._adders.setdefault(said.device, set()).add(said.by)
            elif said.kind == "rename":
                named[said.device] = self._later(named.get(said.device), said)
            elif said.kind == "key":
                self._keys.append(said)
            else:
                self._revocations.setdefault(said.device, []).append(said)
        everyone = {
            device: DeviceRecord(
                named.get(device, said).name,
                said.time_ms,
                said.kind == "paper",
                min((one.time_ms for one in self._revocations.get(device, ())), default=None),
                any(
                    one.erase and one.by in judged.members and self.let_in(one.by, device)
                    for one in self._revocations.get(device, ())
                ),
            )
            for device, said in sorted(added.items(), key=lambda pair: (pair[1].time_ms, pair[1].hash))
        }
        self.devices = {device: record for device, record in everyone.items() if device in judged.members}
        self.former = {device: record for device, record in everyone.items() if device not in judged.members}

    @classmethod
    def from_statements(cls, statements: Iterable[bytes], account: bytes | None = None) -> Roster:
        """Make the roster of `account` (None: that of the only genesis among them). Raises NoGenesis."""
        given = set(statements)
        signed = {said.hash: said for said in map(read, given) if said is not None}
        roots = [said for said in signed.values() if said.kind == "genesis" and account in (None, said.hash)]
        if len(roots) != 1:
            raise NoGenesis(f"{len(roots)} accounts in one set of statements")
        authorised: list[Statement] = []
        places: dict[bytes, int] = {}
        past: dict[bytes, int] = {}
        standing = {0: _Standing(frozenset(), frozenset())}  # by the bit set of what is known
        lacking: dict[bytes, int] = {}  # of those that are not ready: how many links
        linking: dict[bytes, list[Statement]] = {}
        for _, said in sorted(signed.items()):
            if said.account == roots[0].hash:
                lacking[said.hash] = len(said.links)
                for link in said.links:
                    linking.setdefault(link, []).append(said)
        ready = [roots[0]]
        while ready:
            batch, ready = ready, []
            for said in batch:
                before = 0
                for link in said.links:
                    before |= past[link] | 1 << places[link]
                if before not in standing:
                    standing[before] = (
                        _after(authorised[places[said.links[0]]], standing[past[said.links[0]]])
                        if len(said.links) == 1
                        else _stand(authorised, past, before)
                    )
                if said.kind == "genesis" or said.by in standing[before].members:
                    past[said.hash] = before
                    places[said.hash] = len(authorised)
                    authorised.append(said)
                    for each in linking.get(said.hash, ()):
                        lacking[each.hash] -= 1
                        if not lacking[each.hash]:
                            ready.append(each)
        return cls(roots[0].hash, authorised, past, len(given) - len(authorised))

    def revocation_of(self, device: DeviceId) -> list[bytes]:
        """Return the statements that prove to a device that it was revoked, and nothing that came after; none where it
        was not."""
        needed = 0
        for said in self._revocations.get(device, ()):
            needed |= self._past[said.hash] | 1 << self._places[said.hash]
        return [said.encoded for place, said in enumerate(self._authorised) if needed >> place & 1]

    def let_in(self, elder: DeviceId, device: DeviceId) -> bool:
        """Return whether everyone who ever added a device is `elder`, or was let in by it in turn."""
        queue, seen = [device], {device}
        while queue:
            each = queue.pop()
            adders = self._adders.get(each, set())
            if not adders or each in adders:  # the first device of all
                return False
            fresh = adders - seen - {elder}
            seen |= fresh
            queue += fresh
        return True

    def is_known(self, device: DeviceId) -> bool:
        """Return whether a device is a member, or was one."""
        return device in self.devices or device in self.former

    def tips(self) -> list[bytes]:
        """Return the hashes of the statements that no other links to: what a new one links to."""
        linked = {link for said in self._authorised for link in said.links}
        tips = sorted(said.hash for said in self._authorised if said.hash not in linked)
        return tips[:MAX_LINKS]

    def key_statements(self) -> list[Statement]:
        """Return the key statements that count, each after those in its past."""
        return self._keys

    def current_key(self) -> Statement | None:
        """Return the key statement to seal by: of the newest whose secret all members were given, and nobody else has,
        the one with the greatest hash. None where there is none: there has to be a new one, or none was ever needed."""
        fit = [
            said
            for said in self._keys
            if {device for device, _ in said.boxes} == can_open(self.devices) and not self.is_exposed(said)
        ]
        newest = [said for said in fit if not any(self._is_before(said, other) for other in fit)]
        return max(newest, key=lambda said: said.hash, default=None)

    def is_exposed(self, key: Statement) -> bool:
        """Return whether somebody who is no member now may have a key's secret: who joins later is given it, too, so
        all who had not been revoked before."""
        before = self._past[key.hash]
        return any(
            not any(before >> self._places[said.hash] & 1 for said in self._revocations[device])
            for device in self.former
        )

    def _is_before(self, one: Statement, other: Statement) -> bool:
        return bool(self._past[other.hash] >> self._places[one.hash] & 1)

    def _later(self, one: Statement | None, other: Statement) -> Statement:
        if one is None or self._is_before(one, other):
            return other
        return one if self._is_before(other, one) else max(one, other, key=lambda said: said.hash)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Who is a member by some statements, and who was revoked by them."""

    members: frozenset[DeviceId]
    revoked: frozenset[DeviceId]


def _stand(authorised: list[Statement], past: Mapping[bytes, int], which: int) -> _Standing:
    members = _judge(authorised, past, which).members
    revoked = (said.device for place, said in enumerate(authorised) if which >> place & 1 and said.kind == "revoke")
    return _Standing(members, frozenset(revoked))


def _after(said: Statement, before: _Standing) -> _Standing:
    """Return the standing by a statement and its past, by which `before` is; what `_stand` says of these, at once."""
    if said.kind == "revoke":
        return _Standing(before.members - {said.device}, before.revoked | {said.device})
    if said.kind in ("genesis", "add", "paper") and said.device not in before.revoked:
        return _Standing(before.members | {said.device}, before.revoked)
    return before


@dataclass(frozen=True, slots=True)
class _Judged:
    members: frozenset[DeviceId]
    counting: list[Statement]


def _judge(authorised: list[Statement], past: Mapping[bytes, int], which: int) -> _Judged:
    """Return who is a member by those of the authorised statements that are in a bit set, which holds the past of each
    of them, too; and which of them count."""
    within = [(place, said) for place, said in enumerate(authorised) if which >> place & 1]
    revocations: dict[DeviceId, list[int]] = {}  # the pasts of those that revoke a device
    for _, said in within:
        if said.kind == "revoke":
            revocations.setdefault(said.device, []).append(past[said.hash])
    added: set[DeviceId] = set()
    counting: list[Statement] = []
    for place, said in within:
        if said.kind == "revoke":
            counting.append(said)
            continue
        seen = all(before >> place & 1 for before in revocations.get(said.by, ()))
        if said.kind == "genesis" or (seen and said.by in added):
            counting.append(said)
            if said.kind in ("genesis", "add", "paper"):
                added.add(said.device)
    return _Judged(frozenset(added - revocations.keys()), counting)


def _first(one: Statement | None, other: Statement) -> Statement:
    return other if one is None else min(one, other, key=lambda said: (said.time_ms, said.hash))


# -- what a member says ------------------------------------------------------------------------------------------------


def genesis(key: DeviceKey, name: str, now_ms: int) -> bytes:
    """Return the statement that makes an account whose first device is `key`'s."""
    return sign(key, ["genesis", key.id, name[:MAX_NAME], now_ms])


def add_device(roster: Roster, device: DeviceId, name: str, key: DeviceKey, now_ms: int) -> bytes:
    """Return the statement by which `key`'s device adds another to the account."""
    return sign(key, ["add", roster.account, roster.tips(), device, name[:MAX_NAME], now_ms, key.id])


def add_paper(roster: Roster, paper: DeviceKey, name: str, key: DeviceKey, now_ms: int) -> bytes:
    """Return the statement by which `key`'s device adds a key on paper to the account."""
    consent = paper.sign(PAPER + roster.account)
    fields = ["paper", roster.account, roster.tips(), paper.id, name[:MAX_NAME], consent, now_ms, key.id]
    return sign(key, fields)


def rename_device(roster: Roster, device: DeviceId, name: str, key: DeviceKey, now_ms: int) -> bytes:
    """Return the statement that a device has another name."""
    return sign(key, ["rename", roster.account, roster.tips(), device, name[:MAX_NAME], now_ms, key.id])


def revoke_device(roster: Roster, device: DeviceId, key: DeviceKey, now_ms: int, *, erase: bool = False) -> bytes:
    """Return the statement that a device is of the account no more; `erase`: it is to erase its copies."""
    return sign(key, ["revoke", roster.account, roster.tips(), device, erase, now_ms, key.id])


def new_key(roster: Roster, secret: bytes, key: DeviceKey, now_ms: int) -> bytes:
    """Return the statement by which the members are given a new secret of the account."""
    boxes = boxes_for(roster.devices, secret)
    return sign(key, ["key", roster.account, roster.tips(), boxes, now_ms, key.id])
