"""The always-on seeds of this account: other accounts that hold its folders sealed, by the word of a person.

A seed is a contact with a mark, which the account's devices tell each other. Each of the account's own folders is
shared with each seed, as a holder, also those that come later; a seed hears what is new in the account itself, too (see
`mail`). And it is where a device begins to look for others.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from shoal.bootstrap.peerid import device_from_text
from shoal.crdt.folder_statements import rank
from shoal.crdt.model import DeviceId
from shoal.node.errors import UserError
from shoal.node.shares import Person
from shoal.node.store import StoreFull

if TYPE_CHECKING:
    from shoal.node.daemon import Node

OWNER, HOLDER = rank("owner"), rank("holder")


class Seeds:
    """Of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def all(self) -> list[Person]:
        """Return the seeds, by name."""
        people = self._node.sharing.shares.people.values()
        return sorted((each for each in people if each.is_seed), key=lambda each: (each.name, each.id))

    def devices(self) -> dict[DeviceId, list[str]]:
        """Return the seeds' devices, and the addresses on their cards."""
        found: dict[DeviceId, list[str]] = {}
        for person in self.all():
            roster = self._node.sharing.shares.roster_of(person.id)
            found |= {device: [] for device in (roster.devices if roster is not None else ()) if device not in found}
            for address in person.addresses:
                bare, _, peer = address.rpartition("/p2p/")
                with contextlib.suppress(ValueError):
                    found.setdefault(device_from_text(peer), []).append(bare)
        return found

    def is_seed(self, device: DeviceId) -> bool:
        """Return whether a device is a seed of this account."""
        shares = self._node.sharing.shares
        return any(person.is_seed for account in shares.accounts_of(device) if (person := shares.people.get(account)))

    async def add(self, card: str, name: str | None) -> Person:
        """Have somebody by his card hold this account's folders. Raises UserError."""
        person = await self._node.joining.add_contact(card, name)
        self._mark(person, is_seed=True)
        self._node.events.add("seed-added", f"{person.name} is a seed of this account")
        self._node.finding.lost()
        return self._node.sharing.shares.people[person.id]

    def remove(self, name: str) -> Person:
        """Have somebody hold this account's folders no more. Raises UserError."""
        person = self._find(name)
        sharing, shares = self._node.sharing, self._node.sharing.shares
        self._mark(person, is_seed=False)
        for entry in self._node.account.folders().values():
            roster = shares.of(entry.id)
            if roster is not None and roster.role(person.id) == "holder" and self._is_own(roster.founder):
                sharing.give(entry.id, person.id, "none")
        self._node.events.add("seed-removed", f"{person.name} is no seed of this account any more")
        return person

    async def run(self) -> None:
        """Share with the seeds what is not yet, until cancelled."""
        while True:
            changed = self._node.sharing.changed
            self.look()
            await changed.wait()

    def look(self) -> None:
        """Share with the seeds what is not yet."""
        node, shares = self._node, self._node.sharing.shares
        seeds = self.all()
        if node.account.is_revoked or not seeds:
            return
        for entry in node.account.folders().values():
            for person in seeds:
                roster = shares.of(entry.id)
                has = rank(roster.role(person.id)) if roster is not None else 0
                if has < HOLDER and rank(node.sharing.access.role(entry.id)) >= OWNER:
                    with contextlib.suppress(UserError, StoreFull):
                        node.sharing.give(entry.id, person.id, "holder")

    def _find(self, name: str) -> Person:
        found = [each for each in self.all() if each.name == name]
        if not found:
            known = ", ".join(repr(each.name) for each in self.all()) or "none"
            raise UserError("no-such-seed", f"this account has no seed {name!r}; it has {known}", "", status=404)
        return found[0]

    def _is_own(self, founder: bytes) -> bool:
        return founder == self._node.account.id

    def _mark(self, person: Person, *, is_seed: bool) -> None:
        node = self._node
        when = max(node.now_ms(), person.named_ms + 1)
        node.sharing.shares.meet(replace(person, named_ms=when, is_seed=is_seed), of_own=True)
        node.sharing.saved()
