"""Contacts and links, as people use them: whom they stand for, and how their devices are reached."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from shoal.bootstrap.host import Unreachable
from shoal.bootstrap.peerid import device_from_text
from shoal.crdt.catalog import FolderEntry
from shoal.crdt.folder_roster import FolderRoster
from shoal.crdt.folder_statements import Role
from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.links import (
    Card,
    ShareLink,
    is_card,
    make_card,
    make_share_link,
    read_card,
    read_share_link,
)
from shoal.node.meeting import NotMet
from shoal.node.pairing_link import chosen_addresses
from shoal.node.shares import Person, clean_name, short_id
from shoal.node.sharing import Offered

if TYPE_CHECKING:
    from shoal.node.daemon import Node

TRY_EVERY = 15.0  # seconds
REACHED_WITHIN = 10.0  # seconds


class Joining:
    """Of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sought = trio.Event()

    async def run(self) -> None:
        """Try to reach who was not met yet, until cancelled."""
        shares = self._node.sharing.shares
        while True:
            self._sought = trio.Event()
            for person in [each for each in shares.people.values() if shares.roster_of(each.id) is None]:
                for device, addresses in _by_device(person.addresses).items():
                    with contextlib.suppress(NotMet, Unreachable):
                        await self._reach(device, addresses, person.id)
                        break
            with trio.move_on_after(TRY_EVERY):
                await self._sought.wait()

    # -- contacts ----------------------------------------------------------------------------------------------------

    def own_card(self) -> str:
        """Return this account's card."""
        node = self._node
        node.account.check_member()
        return make_card(Card(node.account.id, node.sharing.own_name, tuple(chosen_addresses(node.host.addresses()))))

    def contacts(self) -> list[Person]:
        """Return the contacts, and everyone else with whom a folder is shared, by name."""
        shares, me = self._node.sharing.shares, self._node.account.id
        others = {a for roster in shares.all.values() if roster.role(me) != "none" for a in roster.roles}
        found = [person for person in shares.people.values() if person.is_contact or person.id in others]
        return sorted(found, key=lambda person: (person.name, person.id))

    async def add_contact(self, text: str, name: str | None) -> Person:
        """Know somebody by a card; return what is known now. Raises UserError."""
        node, shares = self._node, self._node.sharing.shares
        card = read_card(text)
        if card.account == node.account.id:
            raise UserError("own-card", "that is your own card", "they need it, and you theirs", EXIT_USAGE, 400)
        called = clean_name(name or card.name) or f"account {short_id(card.account)}"
        if any(each.name == called and each.id != card.account for each in self.contacts()):
            raise UserError("name-taken", f"you know somebody called {called!r} already", "give another: --name NAME")
        before = shares.people.get(card.account)
        when = max(node.now_ms(), before.named_ms + 1 if before is not None else 0)  # whatever the clock once said
        person = Person(card.account, called, (), when, True, card.addresses)
        if shares.meet(person, of_own=True):
            node.sharing.shares.refresh()
            node.sharing.saved()
        for device, addresses in _by_device(card.addresses).items():
            with contextlib.suppress(NotMet, Unreachable):
                await self._reach(device, addresses, card.account)
                break
        return shares.people[card.account]

    def remove_contact(self, text: str) -> Person:
        """Have somebody be no contact any more; what is shared stays so. Raises UserError."""
        person = self.find(text)
        self._node.sharing.shares.forget_contact(person.id, self._node.now_ms())
        self._node.sharing.saved()
        return person

    def find(self, text: str) -> Person:
        """Return who is called so, or whose id begins so. Raises UserError."""
        known = self.contacts()
        found = [each for each in known if each.name == text]
        found = found or [each for each in known if len(text) >= 6 and short_id(each.id).startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(short_id(each.id) for each in found)
            raise UserError("ambiguous", f"several are called {text!r}", f"give the id: {ids}")
        raise UserError(
            "no-such-contact",
            f"you know nobody called {text!r}",
            "add them by their card: shoal contact add CARD",
            status=404,
        )

    # -- sharing -----------------------------------------------------------------------------------------------------

    def folder(self, name: str) -> FolderEntry:
        """Return a folder of the account. Raises UserError."""
        entry = self._node.account.folder_named(name)
        if entry is None:
            raise UserError(
                "no-such-folder", f"the account has no folder {name!r}", "see: shoal folder list", status=404
            )
        return entry

    def share_named(self, name: str) -> FolderRoster:
        """Return a shared folder by its name here, or the label of one that is held. Raises UserError."""
        for folder in self._node.holding.all:
            roster = self._node.sharing.shares.of(folder)
            if name == folder_label(folder) and roster is not None:
                return roster
        entry = self.folder(name)
        roster = self._node.sharing.shares.of(entry.id)
        if roster is None or not roster.said_of_roles:
            raise UserError("not-shared", f"{entry.name!r} is not shared", "")
        return roster

    async def share(self, folder: FolderId, whom: str, role: Role) -> Person:
        """Share a folder with a contact, or whose card that is. Raises UserError."""
        self._node.sharing.owned(folder)
        person = await self.add_contact(whom, None) if is_card(whom) else self.find(whom)
        self._node.sharing.give(folder, person.id, role)
        self._sought.set()
        return person

    def make_link(self, folder: FolderId, role: Role, expires_ms: int, uses: int) -> str:
        """Return a link by which others join a folder. Raises UserError."""
        node = self._node
        seed = node.sharing.make_invite(folder, role, expires_ms, uses)
        return make_share_link(ShareLink(seed, node.account.id, tuple(chosen_addresses(node.host.addresses()))))

    def offer_named(self, name: str) -> Offered:
        """Return what somebody shares with this account, by the folder's name there. Raises UserError."""
        offers = self._node.sharing.offered()
        found = [
            each for each in offers if name in (each.name, f"{each.name} ({each.by})", folder_label(each.roster.folder))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(repr(f"{each.name} ({each.by})") for each in found)
            raise UserError("ambiguous", f"several people share a folder {name!r} with you", f"give one of {names}")
        known = ", ".join(sorted(repr(each.name or folder_label(each.roster.folder)) for each in offers)) or "none"
        raise UserError(
            "no-such-offer", f"nobody shares a folder {name!r} with you that you have not accepted; there is {known}",
            "see: shoal shares", status=404,
        )  # fmt: skip

    async def redeem(self, text: str) -> FolderRoster:
        """Be given the role of a link; return the folder. Raises UserError."""
        node = self._node
        node.account.check_member()
        link = read_share_link(text)
        if link.account == node.account.id:
            raise UserError("own-link", "that is a link of your own account", "it is for others", EXIT_USAGE, 400)
        reasons: list[str] = []
        invite = DeviceKey(link.seed)
        for device, addresses in _by_device(link.addresses).items():
            try:
                await self._reach(device, addresses, link.account, invite)
            except (NotMet, Unreachable) as error:
                reasons.append(str(error))
                continue
            found = self._joined_by(invite)
            if found is not None:
                node.membership.trust()
                return found
            reasons.append("the folder did not come along")
        why = reasons[0] if reasons else "it has no address"
        raise UserError("link-refused", f"the link did not work: {why}", "ask for another one")

    def _joined_by(self, invite: DeviceKey) -> FolderRoster | None:
        me = self._node.account.id
        for roster in self._node.sharing.shares.all.values():
            if roster.role(me) != "none" and any(each.public == invite.id for each in roster.invites()):
                return roster
        return None

    async def _reach(
        self, device: DeviceId, addresses: Sequence[str], account: bytes, invite: DeviceKey | None = None
    ) -> None:
        node = self._node
        with trio.move_on_after(REACHED_WITHIN):
            if device not in node.host.connected():
                await node.host.connect(device, addresses)
            await node.meeting.ask(device, account, invite)
            for address in addresses:
                node.reached(device, address)
            return
        raise NotMet("it does not answer")


def folder_label(folder: FolderId) -> str:
    """Return what a folder is called whose name is not known here."""
    return folder.hex()[:8]


def _by_device(addresses: Sequence[str]) -> dict[DeviceId, list[str]]:
    found: dict[DeviceId, list[str]] = {}
    for address in addresses:
        found.setdefault(device_from_text(address.rpartition("/p2p/")[2]), []).append(address)
    return found
