"""Folders that are shared with other people, as the node acts on it: roles are given and taken, links made and
redeemed, what others share accepted or declined, and keys handed out to who may read, and to nobody else.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from shoal.crdt.catalog import FolderEntry
from shoal.crdt.folder_roster import FolderRoster, Invite
from shoal.crdt.folder_statements import Author, Kind, Role, cut_rows, rank
from shoal.crdt.keys import DeviceKey
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId, NodeId
from shoal.node.access import Access
from shoal.node.errors import UserError
from shoal.node.folder_path import MAX_NAME, check_folder_name
from shoal.node.folder_secrets import FolderSecrets
from shoal.node.meeting import NotMet
from shoal.node.shares import Bundle, Person, Shares
from shoal.node.sharing_news import SharingNews
from shoal.node.store import Store, StoreFull

if TYPE_CHECKING:
    from shoal.node.daemon import Node
    from shoal.node.runtime import FolderRuntime

OWNER, WRITER, READER = rank("owner"), rank("writer"), rank("reader")
TEND_EVERY = 60.0  # seconds, where nothing changes
MEET_EVERY = 30.0  # seconds between two attempts to tell somebody what is shared with him
TEND_WITHIN = 2.0  # seconds, at most, after which an owner's device does what another may just have done


@dataclass(frozen=True, slots=True)
class Offered:
    """A folder that somebody shares with this account, and that it has not accepted. `name`: None until its keys are
    here; `by`: what the account is called that gave the role."""

    roster: FolderRoster
    name: str | None
    role: Role
    by: str


class Sharing:
    """What this node does about shared folders."""

    def __init__(self, node: Node, store: Store, now_ms: Callable[[], int]) -> None:
        self._node = node
        self._now_ms = now_ms
        self.shares = Shares(store, node.account)
        self.access = Access(node.account, self.shares, node.key.id)
        self._followed: dict[bytes, FolderRoster] = {}  # what all goes by
        self.secrets = FolderSecrets(node, self.shares, self._say)
        self._due = trio.Event()
        self.changed = trio.Event()  # set, and replaced, as anything of it changes
        self._news = SharingNews(node.account, self, node.events)
        node.account.is_shared = self.is_shared
        node.account.takes_part = self._takes_part

    async def run(self) -> None:
        """Hand out keys that are due after others changed who may read, until cancelled."""
        while True:
            with trio.move_on_after(TEND_EVERY):  # what was put off, or waits for what others have
                await self._due.wait()
            self._due = trio.Event()
            await trio.sleep(random.uniform(TEND_WITHIN / 4, TEND_WITHIN))
            try:
                self.tend(by_us=False)
            except (StoreFull, UserError):
                await trio.sleep(30)
                self._due.set()

    @property
    def own_name(self) -> str:
        """What this account calls itself to others."""
        user = self._node.users.user
        return (user.name or user.username if user is not None else "") or self._node.account.name

    @property
    def _author(self) -> Author:
        return Author(self._node.account.id, self._node.key)

    def is_shared(self, entry: FolderEntry) -> bool:
        """Return whether a folder is, or was, shared with other accounts."""
        roster = self.shares.of(entry.id)
        return bool(entry.founder) or (roster is not None and roster.said_of_roles)

    def _takes_part(self, entry: FolderEntry) -> bool:
        if not entry.founder:
            return True
        roster, me = self.shares.of(entry.id), self._node.account.id
        return roster is None or (me in roster.accepted and rank(roster.role(me)) >= READER)

    def check_alone(self) -> None:
        """Raises UserError when this account shares folders with others: it would leave them for another account."""
        me = self._node.account.id
        if any(me in roster.accepted and len(roster.roles) > 1 for roster in self.shares.all.values()):
            raise UserError(
                "shares-folders",
                "this device shares folders with others, as an account of its own",
                "leave them first (shoal unshare FOLDER), or start over with a fresh --home",
            )

    # -- roles -------------------------------------------------------------------------------------------------------

    def owned(self, folder: FolderId) -> FolderRoster:
        """Return the roster of a folder that this account may share. Raises UserError."""
        self._node.account.check_member()
        role = self.access.role(folder)
        if rank(role) < OWNER:
            raise UserError(
                "wrong-role", f"only an owner of a folder may share it, and you are its {role}", "ask one of its owners"
            )
        return self.shares.begin(folder)

    def give(self, folder: FolderId, subject: bytes, role: Role, invite: bytes = b"") -> None:
        """Give an account a role; "none" takes it. Raises UserError."""
        roster = self.owned(folder)
        if subject == roster.founder:
            raise UserError("founder", "who had the folder first owns it for good", "")
        if roster.role(subject) == role and (role == "none" or not invite):
            raise UserError("no-change", f"{self.shares.name_of(subject)} has that role already", "")
        concerned = [roster, *self._parts_to_give(roster, subject, role)]
        cuts = [self._cuts(each, subject, role) for each in concerned]  # before anything is said: it may be refused
        for each, rows in zip(concerned, cuts, strict=True):
            self._say(each, "role", [subject, role, rows, invite if each is roster else b""])
            if rank(each.role(subject)) >= OWNER > rank(role):
                self._vouch(self.shares.all[each.root], each.vouched_by(subject))
        self._say_parts(folder)
        self.tend()
        self.saved()

    def pass_on(self, outer: FolderId, part: FolderEntry) -> None:
        """Have who has a role in a folder have it in a part of it, too, that just became a folder of its own."""
        roster, inner = self.owned(outer), self.shares.begin(part.id)
        for account, role in roster.roles.items():
            if account != inner.founder:
                self._say(inner, "role", [account, role, [], b""])
        self._say_parts(outer)
        self.tend()
        self.saved()

    def _parts_to_give(self, roster: FolderRoster, subject: bytes, role: Role) -> list[FolderRoster]:
        """Return the parts of a folder in which somebody is to have the same role: whoever has all of it has these, and
        has no more of them than of the rest."""
        found = []
        for part in self._parts(roster.folder):
            inner = self.shares.begin(part.id)
            has = inner.role(subject)
            may = rank(inner.role(self._node.account.id)) >= OWNER and subject != inner.founder
            if may and (rank(has) < rank(role) or (role == "none" and has != "none")):
                found.append(inner)
        return found

    def _parts(self, outer: FolderId) -> list[FolderEntry]:
        folders = self._node.account.folders().values()
        return [entry for entry in folders if entry.within is not None and entry.within[0] == outer]

    def _say_parts(self, outer: FolderId) -> None:
        """Tell who shares a folder which parts of it are folders of their own."""
        for part in self._parts(outer):
            roster = self.owned(outer)
            if part.within is not None and roster.parts.get(part.within[1]) != part.id:
                self._say(roster, "part", [part.within[1], part.id])

    def _cuts(self, roster: FolderRoster, subject: bytes, role: Role) -> list[list[Any]]:
        lowers = rank(roster.role(subject)) >= WRITER > rank(role)
        return cut_rows(self._heads(roster, subject)) if lowers else []

    def leave(self, roster: FolderRoster) -> None:
        """Have this account take part in a folder, or be asked to, no more. Raises UserError."""
        me = self._node.account.id
        if roster.founder == me:
            raise UserError(
                "founder",
                "this account had the folder first: it cannot leave it",
                "take it from the others instead: shoal unshare FOLDER WHO",
            )
        cuts: dict[LogId, LogHead] = {}
        if me in roster.accepted and self.access.may_write(roster.folder):
            cuts = self._heads(roster, me)  # what was written stays
        self._say(roster, "role", [me, "none", cut_rows(cuts), b""])
        self.saved()
        self._node.start(self._tell, roster)

    def vouch_for(self, device: DeviceId) -> None:
        """Say again what a device of this account said of roles, before it is revoked."""
        me = self._node.account.id
        for roster in list(self.shares.all.values()):
            if rank(roster.role(me)) >= OWNER:
                self._vouch(roster, roster.vouched_by(me, device))
            elif roster.role(me) == "none" and roster.left_by(me, device):
                self._say(roster, "role", [me, "none", cut_rows(roster.cuts_of(me)), b""])
        self.saved()

    def _vouch(self, roster: FolderRoster, roles: Mapping[bytes, Role]) -> None:
        for account, role in roles.items():
            self._say(roster, "role", [account, role, [], b""])

    def _heads(self, roster: FolderRoster, subject: bytes) -> dict[LogId, LogHead]:
        """Return what is here of an account's logs: what others hold beyond that, is taken from nobody any more."""
        runtime = self._node.folders.get(roster.folder)
        devices = self.shares.roster_of(subject)
        if runtime is None:
            raise UserError(
                "folder-not-here",
                "what they wrote is only known on a device that keeps the folder",
                "do it on one of your devices that does",
            )
        return self._longest(runtime, lambda device: devices is not None and devices.is_known(device))

    def _longest(self, runtime: FolderRuntime, concerns: Callable[[DeviceId], bool]) -> dict[LogId, LogHead]:
        """Return how much there is of some devices' logs, here or by the word of connected devices of this account:
        what is on its way here is not to be lost."""
        heads = {log: head for log, head in runtime.replica.frontier.items() if concerns(log.device)}
        for device, session in self._node.sessions.items():
            if self._node.account.is_member(device):
                for log, head in session.heads(runtime.entry.id).items():
                    if concerns(log.device) and head.length > heads.get(log, LogHead()).length:
                        heads[log] = head
        return heads

    # -- links -------------------------------------------------------------------------------------------------------

    def make_invite(self, folder: FolderId, role: Role, expires_ms: int, uses: int) -> bytes:
        """Let who has the key whose seed is returned have a role, until then, so many times. Raises UserError."""
        roster = self.owned(folder)
        seed = os.urandom(32)
        self._say(roster, "invite", [DeviceKey(seed).id, role, expires_ms, uses])
        self.saved()
        return seed

    def cancel_invites(self, folder: FolderId) -> int:
        """Have no link to a folder be valid any more; return how many were. Raises UserError."""
        invites = self.owned(folder).invites()
        for invite in invites:
            self._say(self.owned(folder), "cancel", [invite.hash])
        self.saved()
        return len(invites)

    def redeem(self, public: bytes, person: Person) -> str:
        """Give somebody the role of a link; return why not, empty where it was done."""
        for roster in self.shares.all.values():
            for invite in roster.invites():
                if invite.public == public and rank(roster.role(self._node.account.id)) >= OWNER:
                    return self._redeem(roster, invite, person)
        return "the link is not valid any more"

    def _redeem(self, roster: FolderRoster, invite: Invite, person: Person) -> str:
        before = roster.role(person.id)
        if rank(before) >= rank(invite.role):
            return ""
        if not roster.may_redeem(invite.hash, person.id):
            return "the link is not for you any more: what you may do was changed after it was made"
        if invite.expires_ms and invite.expires_ms < self._now_ms():
            return "the link expired"
        if invite.uses and invite.used >= invite.uses:
            return "the link was used up"
        self.shares.meet(Person(person.id, person.name, person.statements), by=[person.id])
        self.shares.refresh()
        self.give(roster.folder, person.id, invite.role, invite.hash)
        self._node.events.add("link-used", f"{self.shares.name_of(person.id)} joined by a link, as {invite.role}")
        return ""

    # -- what others share -------------------------------------------------------------------------------------------

    def offered(self) -> list[Offered]:
        """Return what others share with this account that it has not accepted, but for parts of what they share, too:
        they come along."""
        found = []
        parts = {part for roster in self.shares.all.values() for part in roster.parts.values()}
        me, held = self._node.account.id, self._node.holding.all
        elsewhere = [each for each in self.shares.held() if each.folder not in held]
        for roster in [*self.shares.offers(), *elsewhere]:
            if roster.folder in parts:
                continue
            keys = self.secrets.newest(roster)
            by = self.shares.name_of(roster.founder)
            found.append(Offered(roster, keys[0] if keys else None, roster.role(me), by))
        return found

    def accept(
        self, roster: FolderRoster, name: str | None, within: tuple[FolderId, NodeId] | None = None
    ) -> FolderEntry | None:
        """Take part in a folder that is shared with this account; `name`: what it is called here; `within`: of what it
        is a part. Return it, None where it is only held here. Raises UserError."""
        account = self._node.account
        account.check_member()
        if roster.role(account.id) == "holder":
            self._say(roster, "accept", [])
            self._node.holding.begin(roster.folder)
            self.saved()
            self._node.start(self._tell, roster)
            return None
        keys = self.secrets.newest(roster)
        if keys is None:
            raise UserError("no-keys-yet", "the folder's keys have not come yet", "try again in a moment")
        known = account.entry(roster.folder)
        if known is not None and known.founder != roster.founder:
            raise UserError("not-that-folder", "that is not the folder that it says it is", "decline it")
        told, secrets = keys
        entry = FolderEntry(
            roster.folder,
            check_folder_name(name) if name else self._free_name(told, roster),
            secrets,
            self._now_ms(),
            roster.founder,
            within,
        )
        taken = account.folder_named(entry.name)
        if taken is not None and taken.id != entry.id:
            raise UserError("folder-name-taken", f"you have a folder {entry.name!r} already", "give another: --as NAME")
        account.keep(entry)
        self._say(roster, "accept", [])
        self.saved()
        self._node.start(self._tell, roster)
        return entry

    def _free_name(self, told: str, roster: FolderRoster) -> str:
        names = {entry.name for entry in self._node.account.folders().values() if entry.id != roster.folder}
        name = "".join(each for each in told if each.isprintable()).replace("/", "_").strip()[:MAX_NAME]
        name = name or "shared folder"
        return name if name not in names else f"{name} ({self.shares.name_of(roster.founder)})"[:MAX_NAME]

    # -- keys --------------------------------------------------------------------------------------------------------

    def tend(self, *, by_us: bool = True) -> None:
        """Do what is due of an owner: say what there is of who left, and hand out keys. `by_us`: after what was done
        here."""
        if self._node.account.is_revoked:
            return
        news = self._confirm_leaving()
        if self.secrets.hand_out(by_us=by_us) or news:
            self.saved()

    def cut_device(self, device: DeviceId) -> None:
        """Say how much there is of the logs of a device that this account just revoked, where folders are shared that
        are kept here."""
        for runtime in self._node.folders.values():
            roster = self.shares.of(runtime.entry.id)
            if roster is not None and roster.said_of_roles and self.access.may_write(runtime.entry.id):
                heads = self._longest(runtime, lambda each: each == device)
                self._say(roster, "cut", [device, cut_rows(heads)])
        self.saved()

    def _confirm_leaving(self) -> bool:
        """Say how much there is of the logs of who left, once all is here that he said there was; return whether that
        was due: from then on he cannot have more of it taken."""
        news = False
        for runtime in self._node.folders.values():
            roster = self.shares.of(runtime.entry.id)
            if roster is None or rank(roster.role(self._node.account.id)) < OWNER:
                continue
            frontier = runtime.replica.frontier
            for account, cuts in roster.left_by_itself().items():
                if all(frontier.get(log, LogHead()).length >= head.length for log, head in cuts.items()):
                    self._say(roster, "role", [account, "none", cut_rows(cuts), b""])
                    news = True
        return news

    # -- what comes of it --------------------------------------------------------------------------------------------

    def take(self, device: DeviceId, bundles: Iterable[Bundle], people: Mapping[bytes, Person]) -> None:
        """Take what a device told of shared folders and people."""
        of_own = self._node.account.is_member(device)
        by = {account for account, told in people.items() if self.shares.is_of(device, account, told)}
        if self.shares.take(bundles, people, by, of_own=of_own):
            self.saved()

    def told_to(self, device: DeviceId) -> list[list[Any]]:
        """Return what a device may know of shared folders and people, in messages that each make sense after those
        before: pairs of bundles and people."""
        return self.shares.messages_for(self.access.accounts_of(device), self.own_name)

    async def _tell(self, roster: FolderRoster) -> None:
        """Tell connected devices of a folder's accounts what this account said of it: they may not converse yet, or no
        more."""
        for device in self._node.host.connected():
            for account in self.shares.accounts_of(device):
                if account in roster.mentioned and device not in self._node.sessions:
                    with contextlib.suppress(NotMet):
                        await self._node.meeting.ask(device, account)

    async def meet(self, device: DeviceId) -> None:
        """Tell a connected device of another account what is shared with it, and hear what it shares; wait until there
        is something to talk of. A device of this account needs none of that."""
        while not self._node.account.is_known(device) and device in self._node.host.connected():
            changed = self.changed
            for account in self.access.accounts_of(device):
                with contextlib.suppress(NotMet):
                    await self._node.meeting.ask(device, account)
            if self.access.is_partner(device):
                return
            with trio.move_on_after(MEET_EVERY):
                await changed.wait()

    def on_write_refused(self, device: DeviceId, folder: FolderId, author: DeviceId) -> None:
        """A device sent what its author may not write."""
        roster = self.shares.of(folder)
        if roster is not None:
            self._news.tell_of_refusal(roster, self.access.name_of(author), self.access.name_of(device))

    def account_changed(self) -> None:
        """This account's devices changed, or its folders."""
        self.shares.refresh()
        self.secrets.learn_all()
        self._due.set()
        self.follow()

    def _say(self, roster: FolderRoster, kind: Kind, says: list[Any]) -> None:
        self.shares.say(self._author, roster.root, kind, says, self._now_ms())

    def saved(self) -> None:
        """Write what was said, and have all go by it. Raises StoreFull."""
        self.shares.save()
        self.secrets.learn_all()
        self._due.set()
        self.follow()

    def follow(self) -> None:
        """Have all that goes on be as the shares say now."""
        node = self._node
        changed = {roster.folder for root, roster in self.shares.all.items() if self._followed.get(root) is not roster}
        self._news.tell()
        node.membership.trust()
        for runtime in list(node.folders.values()):
            folder = runtime.entry.id
            if not self._takes_part(runtime.entry):
                node.drop_folder(runtime)
                continue
            runtime.engine.set_read_only(not self.access.may_write(folder))
            if runtime.replica.keep_to_limits():
                node.events.add("log-cut", f"what {runtime.entry.name} may not have was taken out of it")
        node.holding.follow()
        node.subfolders.look()
        for device, session in list(node.sessions.items()):
            if not self.access.is_partner(device) and not node.account.is_known(device):
                session.end()
            else:
                session.tell_shares()
                session.admit(changed)
        self._followed = dict(self.shares.all)
        self.wake()
        node.back_up()

    def wake(self) -> None:
        """Wake who waits for `changed`."""
        self.changed.set()
        self.changed = trio.Event()
