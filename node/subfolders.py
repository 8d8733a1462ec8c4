"""Parts of a folder that became folders of their own, so that they can be shared without the rest.

Such a part stays where it is on every device of the account: the folder around it leaves it out, and leaves what is on
disk of it alone; the new folder is kept in its place. The others learn of it by the account's catalog. Whom the part is
shared with gets a folder like any other, and nothing of the one around it: neither its name nor its keys.

Key after the outer folder's 16 bytes, in column `meta`: `part` + id of the inner folder, there once it was left out.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import trio

from shoal.crdt.catalog import FolderEntry
from shoal.crdt.model import ROOT, FolderId, NodeId, NodeView
from shoal.node.changes import Delete
from shoal.node.errors import UserError
from shoal.node.folder.choosing import NothingThere
from shoal.node.folder.selection import PART
from shoal.node.replica import Replica
from shoal.node.runtime import FolderRuntime
from shoal.node.store import StoreFull

if TYPE_CHECKING:
    from shoal.node.daemon import Node

EMPTIED_AT_ONCE, ROUNDS = 1000, 10_000  # nodes at once, and how often
FULL_WAITS = 30.0  # seconds until the disk is tried again
LOOK_EVERY = 1.0  # seconds, while a part waits for its place
QUIET_WITHIN = 30.0  # seconds in which a folder is done with what it does


class SubFolders:
    """The parts, for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting = trio.Event()
        self._told: set[FolderId] = set()  # of those that cannot be kept in their place

    async def run(self) -> None:
        """Keep parts where they belong as soon as there is a place, until cancelled."""
        while True:
            await self._waiting.wait()
            self._waiting = trio.Event()
            try:
                self._take_up()
                while not self._settle():
                    with trio.move_on_after(LOOK_EVERY):
                        await self._waiting.wait()
                await self._empty_all()
            except StoreFull:
                await trio.sleep(FULL_WAITS)
                self._waiting.set()

    def look(self) -> None:
        """There may be new parts, or new folders around them."""
        for runtime in self._node.folders.values():
            self.leave_out(runtime)
        self._waiting.set()

    async def split(self, name: str, path: str) -> FolderEntry:
        """Make a folder of the account out of what a folder has at a path; return it, or the one that it is already.
        Raises UserError."""
        node = self._node
        runtime = node.folder_named(name)
        outer = runtime.entry
        is_shared = node.account.is_shared(outer)
        if is_shared:
            node.sharing.owned(outer.id)
        part = self._find(runtime, path)
        for entry in node.account.folders().values():
            if entry.within == (outer.id, part):
                return entry
        patience = trio.current_time() + QUIET_WITHIN
        while not runtime.engine.is_idle() and trio.current_time() < patience:  # noqa: ASYNC110
            await trio.sleep(0.1)
        if not runtime.engine.is_idle():
            raise UserError("folder-busy", f"{name!r} is being synced", "try again when it is in sync: shoal status")
        made = node.account.add_folder(self._free_name(name, path), within=(outer.id, part))
        self.leave_out(runtime)
        self._settle(fresh=made)
        if is_shared:
            node.sharing.pass_on(outer.id, made)
        self._waiting.set()
        return made

    def _take_up(self) -> None:
        """Have this account take part in the parts of what is shared with it."""
        node = self._node
        offers = {roster.folder: roster for roster in node.sharing.shares.offers()}
        for entry in list(node.account.folders().values()) if offers else ():
            roster = node.sharing.shares.of(entry.id)
            for part, inner in roster.parts.items() if roster is not None else ():
                offer = offers.pop(inner, None)
                if roster is not None and offer is not None and roster.role(offer.founder) == "owner":
                    with contextlib.suppress(UserError):  # its keys are yet to come
                        node.sharing.accept(offer, None, (entry.id, part))

    async def _empty_all(self) -> None:
        """Empty the parts, in the folders around them, that all who have those have as folders of their own."""
        node, shares = self._node, self._node.sharing.shares
        for entry in list(node.account.folders().values()):
            runtime = node.folders.get(entry.within[0]) if entry.within is not None else None
            if runtime is None or entry.within is None or entry.id not in node.folders or runtime.replica.read_only:
                continue
            outer, inner = shares.of(entry.within[0]), shares.of(entry.id)
            others = outer.accepted - {node.account.id} if outer is not None else set()
            if others <= (inner.accepted if inner is not None else set()):
                await self._empty(runtime, entry.within[1])

    async def _empty(self, runtime: FolderRuntime, part: NodeId) -> None:
        """Have the outer folder say nothing any more of what was in a part, but that it is there: who is let into the
        whole later would wait for bytes that nobody has by its ids."""
        replica = runtime.replica
        for _ in range(ROUNDS):
            inside = _below(replica, part, EMPTIED_AT_ONCE)
            if not inside:
                return
            replica.commit([Delete(view.id, view.version.id) for view in inside])
            await trio.lowlevel.checkpoint()

    def leave_out(self, runtime: FolderRuntime) -> None:
        """Have a folder leave out the parts of it that are folders of their own; to be called before its engine has
        run, too."""
        outer, chooser = runtime.entry.id, runtime.engine.chooser
        for entry in self._node.account.folders().values():
            if entry.within is not None and entry.within[0] == outer:
                runtime.engine.nested.add(entry.id)
                if runtime.engine.selection.wants(entry.within[1]):
                    chooser.give_up(entry.within[1], PART + entry.id)

    def part_at(self, runtime: FolderRuntime, part: NodeId) -> FolderEntry | None:
        """Return the folder of its own that a node of a folder is."""
        for entry in self._node.account.folders().values():
            if entry.within == (runtime.entry.id, part):
                return entry
        return None

    def left_out_paths(self, runtime: FolderRuntime) -> set[str]:
        """Return what a person left out of a folder: not what is kept in its place as a folder of its own."""
        chooser = runtime.engine.chooser
        parts = {entry.within[1] for entry in self._node.account.folders().values() if entry.within is not None}
        return set(chooser.left_out_paths()) - {chooser.path(part) or "" for part in parts}

    def removed(self, entry: FolderEntry) -> None:
        """A person keeps a part no more on this device."""
        outer = self._node.folders.get(entry.within[0]) if entry.within is not None else None
        if outer is not None:
            outer.engine.chooser.forget_mark(PART + entry.id)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _settle(self, fresh: FolderEntry | None = None) -> bool:
        """Keep the parts that have a place; return whether none waits for one. `fresh`: one that was just made."""
        node, settled = self._node, True
        for entry in list(node.account.folders().values()):
            runtime = node.folders.get(entry.within[0]) if entry.within is not None else None
            if runtime is None or entry.within is None or entry.id in node.folders:
                continue
            if not runtime.engine.chooser.has_mark(PART + entry.id):
                continue
            place = self._place(runtime, entry.within[1])
            if place is None:
                settled = False
                continue
            try:
                os.makedirs(place, exist_ok=True)
                node.keep_at(entry, place, new=entry == fresh)
            except (OSError, UserError) as error:
                settled = False
                if entry.id not in self._told:
                    self._told.add(entry.id)
                    why = error.message if isinstance(error, UserError) else error.strerror
                    node.events.add("part-waits", f"{entry.name} cannot be kept at {place} yet: {why}")
        return settled

    def _place(self, runtime: FolderRuntime, part: NodeId) -> str | None:
        path = runtime.engine.chooser.path(part)
        if not path:
            return None
        place = os.path.join(runtime.engine.root, path)
        above = os.path.dirname(place)
        real = os.path.realpath(place)
        return place if os.path.isdir(above) and real == place else None

    def _find(self, runtime: FolderRuntime, path: str) -> NodeId:
        try:
            part = runtime.engine.chooser.find(path)
        except NothingThere as error:
            raise UserError(
                "no-such-path", f"{runtime.entry.name} has nothing at {error}", "see: shoal ls", status=404
            ) from error
        view = runtime.replica.view(part) if part != ROOT else None
        if view is None or view.kind != "dir":
            raise UserError("not-a-folder", f"{path!r} is not a folder", "share the folder that it is in", status=400)
        return part

    def _free_name(self, outer: str, path: str) -> str:
        names = {entry.name for entry in self._node.account.folders().values()}
        last = path.rpartition("/")[2]
        choices = (last, f"{outer} {last}", f"{outer} {path.replace('/', ' ')}")
        return next((name for name in choices if name not in names), choices[-1])


def _below(replica: Replica, folder: NodeId, most: int) -> list[NodeView]:
    """Return nodes in a folder, those deepest down first, conflict copies not: they show once what they are copies of
    is gone."""
    found: list[NodeView] = []
    queue = [folder]
    while queue and len(found) < most:
        for view in replica.children(queue.pop()):
            if view.copy_of is None:
                found.append(view)
                if view.kind == "dir":
                    queue.append(view.id)
    files = [view for view in found if view.kind != "dir"]
    return files if files and len(found) >= most else found[::-1]  # a folder goes after all that is in it
