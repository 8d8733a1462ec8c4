"""What people are told of shared folders: who shares what, who takes part, what their roles became."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoal.crdt.folder_roster import FolderRoster
from shoal.crdt.folder_statements import Role
from shoal.node.account import Account
from shoal.node.events import EventLog

if TYPE_CHECKING:
    from shoal.node.sharing import Sharing


@dataclass(frozen=True, slots=True)
class _Seen:
    """A folder, as it was told of last."""

    roles: Mapping[bytes, Role]
    accepted: frozenset[bytes]
    links: int


class SharingNews:
    """Tells what changed since it was asked last."""

    def __init__(self, account: Account, sharing: Sharing, events: EventLog) -> None:
        self._account = account
        self._sharing = sharing
        self._events = events
        self._seen: dict[bytes, _Seen] | None = None
        self._refused: set[bytes] = set()

    def tell(self) -> None:
        """Say what changed, whoever did it."""
        before, now = self._seen, self._sharing.shares.all
        self._seen = {root: _see(roster) for root, roster in now.items()}
        if before is None:
            return  # it begins: all of that was told before
        for root, roster in now.items():
            was, seen = before.get(root, _Seen({}, frozenset(), 0)), self._seen[root]
            for account in dict.fromkeys((*was.roles, *seen.roles)):
                if account != roster.founder:
                    self._tell_of_role(roster, account, was.roles.get(account), seen.roles.get(account))
            for account in seen.accepted - was.accepted - {roster.founder}:
                who = "you take" if account == self._account.id else f"{self._sharing.shares.name_of(account)} takes"
                self._events.add("share-accepted", f"{who} part in {self._name(roster)}")
            if seen.links > was.links:
                self._events.add("link-made", f"there is a new link to {self._name(roster)}")
            elif seen.links < was.links:
                self._events.add("link-ended", f"a link to {self._name(roster)} is not valid any more")

    def tell_of_refusal(self, roster: FolderRoster, author: str, sender: str) -> None:
        """Say that somebody wrote who may not; once for each who did."""
        key = roster.root + author.encode()
        if key not in self._refused:
            self._refused.add(key)
            through = "" if author == sender else f", as {sender} passed on"
            self._events.add(
                "write-refused", f"{author} wrote to {self._name(roster)} and may not{through}: it was refused"
            )

    def _tell_of_role(self, roster: FolderRoster, account: bytes, was: Role | None, now: Role | None) -> None:
        if was == now:
            return
        me, name = account == self._account.id, self._name(roster)
        who = self._sharing.shares.name_of(account)
        founder = self._sharing.shares.name_of(roster.founder)
        if now is None:
            self._events.add("unshared", f"{'you have' if me else f'{who} has'} no part in {name} any more")
        elif was is None:
            shares = f"{founder} shares {name} with you" if me else f"{name} is shared with {who}"
            self._events.add("shared", f"{shares}, as {now}")
        else:
            self._events.add("role-changed", f"{'you are' if me else f'{who} is'} {now} of {name} now, was {was}")

    def _name(self, roster: FolderRoster) -> str:
        entry = self._account.entry(roster.folder)
        if entry is not None and (entry.founder or self._account.id) == roster.founder:
            return entry.name
        keys = self._sharing.secrets.newest(roster)
        return keys[0] if keys is not None else "a folder"


def _see(roster: FolderRoster) -> _Seen:
    return _Seen(dict(roster.roles), frozenset(roster.accepted), len(roster.invites()))
