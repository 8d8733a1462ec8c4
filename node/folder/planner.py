"""The pure planner: from what the document wants and what the disk is known to hold, to steps that bring them together.

It looks at no disk and changes nothing: it works on an overlay of the synced tree, as if each step succeeded. The steps
of one plan are in an order that works; each checks again, when it is carried out, what it rests on (`apply`), and what
did not work is planned anew from what is then known. So any part of a plan may be carried out, and the next continues.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

from shoal.crdt.model import ROOT, DirContent, NodeId, NodeView
from shoal.crdt.tree import same_content
from shoal.node.folder.local import MAX_DEPTH, PARKED, PRIVATE, LocalNode
from shoal.node.folder.signature import Signature
from shoal.node.name_rules import same

MAX_CHAIN = 100  # nodes that are in each other's way and are settled in one go; in a longer chain, one steps aside


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """Make a folder that is not on disk."""

    view: NodeView


@dataclass(frozen=True, slots=True)
class Rename:
    """Bring what is on disk to its place; the place is free by then."""

    record: LocalNode
    view: NodeView


@dataclass(frozen=True, slots=True)
class Park:
    """Move it out of the way of what is to have its name: its own place is not free yet."""

    record: LocalNode


@dataclass(frozen=True, slots=True)
class Remove:
    """Take it off the disk; a folder is empty by then."""

    record: LocalNode


@dataclass(frozen=True, slots=True)
class SetMeta:
    """Set mode and time: the bytes are right."""

    view: NodeView


@dataclass(frozen=True, slots=True)
class Note:
    """Nothing to do on disk: the content there is the version that is wanted."""

    view: NodeView


@dataclass(frozen=True, slots=True)
class Place:
    """Fetch the content and put it in its place, which is free, or holds the version to replace."""

    view: NodeView


@dataclass(frozen=True, slots=True)
class Wait:
    """Something else must happen before anything can be done for this node."""

    node: NodeId


Step = MakeFolder | Rename | Park | Remove | SetMeta | Note | Place | Wait


class Wanted(Protocol):
    """The document's tree."""

    def view(self, node: NodeId) -> NodeView | None:
        """Return the node as it is to be shown, None when it is not to be."""
        ...

    def is_waiting(self, node: NodeId) -> bool:
        """Return whether the node lives, and its place is not known yet."""
        ...

    def copies(self, view: NodeView) -> list[NodeView]:
        """Return the conflict copies that are shown beside the node."""
        ...


class Synced(Protocol):
    """What the disk is known to hold."""

    def get(self, node: NodeId) -> LocalNode | None:
        """Return the node on disk."""
        ...

    def holder(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node on disk at this place, or at one that is the same to the disk."""
        ...

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        """Return the nodes on disk in a folder, by name."""
        ...

    def copies(self, owner: NodeId) -> list[NodeId]:
        """Return the conflict copies of `owner` on disk."""
        ...


def owner_of(step: Step) -> NodeId:
    """Return the node, of those that were asked about, that the step is for."""
    match step:
        case MakeFolder(view) | SetMeta(view) | Note(view) | Place(view):
            return view.copy_of or view.id
        case Rename(record, _) | Park(record) | Remove(record):
            return record.copy_of or record.id
        case Wait(node):
            return node


def plan(
    nodes: Iterable[NodeId],
    wanted: Wanted,
    synced: Synced,
    busy: Collection[NodeId] = (),
    fold: Callable[[str], str] = same,
) -> list[Step]:
    """Return the steps for these nodes, and for those that are in their way. `busy` ones are being placed now, and are
    left alone. `fold`: gives what is equal for names that are one to the disk; all that are wanted differ in it."""
    return _Plan(wanted, synced, busy, fold).make(nodes)


def refusal(view: NodeView, wanted: Wanted) -> str | None:
    """Return why no disk is to hold the node where the document has it, None when nothing is wrong with the place."""
    if _is_reserved(view):
        return "another device gave it a name that Shoal keeps for itself"
    depth, above = 1, view
    while above.parent != ROOT and depth <= MAX_DEPTH:
        found = wanted.view(above.parent)
        if found is None:
            return None
        depth, above = depth + 1, found
    return f"it is more than {MAX_DEPTH} folders deep" if depth > MAX_DEPTH else None


def _is_reserved(view: NodeView) -> bool:
    return view.parent == ROOT and view.name == PRIVATE


class _Overlay:
    """The synced tree as it will be after the steps so far."""

    def __init__(self, synced: Synced, fold: Callable[[str], str]) -> None:
        self._synced = synced
        self._fold = fold
        self._records: dict[NodeId, LocalNode | None] = {}
        self._names: dict[tuple[NodeId, str], NodeId | None] = {}
        self._moved_in: dict[NodeId, set[NodeId]] = {}

    def get(self, node: NodeId) -> LocalNode | None:
        return self._records[node] if node in self._records else self._synced.get(node)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        place = (parent, self._fold(name))
        return self._names[place] if place in self._names else self._synced.holder(parent, name)

    def is_empty(self, folder: NodeId) -> bool:
        inside = chain(self._synced.children(folder).values(), self._moved_in.get(folder, ()))
        return not any((record := self.get(node)) is not None and record.parent == folder for node in inside)

    def depth(self, folder: NodeId) -> int | None:
        """Return how many folders deep it is, from 0 for the root; None when it is not on disk."""
        depth = 0
        while folder not in (ROOT, PARKED):
            record = self.get(folder)
            if record is None:
                return None
            folder = record.parent
            depth += 1
        return depth

    def put(self, record: LocalNode) -> None:
        self._vacate(record.id)
        self._records[record.id] = record
        self._names[record.parent, self._fold(record.name)] = record.id
        self._moved_in.setdefault(record.parent, set()).add(record.id)

    def remove(self, node: NodeId) -> None:
        self._vacate(node)
        self._records[node] = None

    def _vacate(self, node: NodeId) -> None:
        old = self.get(node)
        if old is not None and self.child(old.parent, old.name) == node:
            self._names[old.parent, self._fold(old.name)] = None


class _Plan:
    def __init__(
        self, wanted: Wanted, synced: Synced, busy: Collection[NodeId], fold: Callable[[str], str] = same
    ) -> None:
        self._wanted = wanted
        self._synced = synced
        self._fold = fold
        self._disk = _Overlay(synced, fold)
        self._busy = busy
        self._settling: set[NodeId] = set()
        self._settled: set[NodeId] = set()
        self._steps: list[Step] = []

    def make(self, nodes: Iterable[NodeId]) -> list[Step]:
        unwanted: list[LocalNode] = []
        for node in nodes:
            if node in self._busy:
                continue
            for view, record in self._wishes(node):
                if view is not None and view.id not in self._busy:
                    self._settle(view)
                elif view is None and record is not None:
                    unwanted.append(record)
        self._remove(unwanted)
        return self._steps

    def _wishes(self, node: NodeId) -> list[tuple[NodeView | None, LocalNode | None]]:
        """Return what is wanted for a node and its conflict copies, beside what is there."""
        view = self._wanted.view(node)
        if view is not None and view.copy_of is not None:
            return self._wishes(view.copy_of)
        if view is None and self._wanted.is_waiting(node):
            return []
        copies = self._wanted.copies(view) if view is not None and view.conflicts else []
        kept = {copy.id for copy in copies}
        wishes = [(view, self._disk.get(node)), *((copy, self._disk.get(copy.id)) for copy in copies)]
        stale = [self._disk.get(copy) for copy in self._synced.copies(node) if copy not in kept]
        return [*wishes, *((None, record) for record in stale)]

    def _settle(self, view: NodeView) -> bool:
        """Plan for one node to come to its place; return whether it will be there."""
        if view.id in self._settled:
            return True
        if view.id in self._settling or len(self._settling) >= MAX_CHAIN:
            return False
        self._settling.add(view.id)
        try:
            settled = self._settle_once(view)
        finally:
            self._settling.discard(view.id)
        if settled:
            self._settled.add(view.id)
        return settled

    def _settle_once(self, view: NodeView) -> bool:
        if _is_reserved(view) or not self._have_folder(view.parent):
            return self._wait(view)
        record = self._disk.get(view.id)
        if record is not None and record.kind != view.kind:
            self._remove([record])
            record = self._disk.get(view.id)
            if record is not None:
                return self._wait(view)
        if record is None or (record.parent, record.name) != (view.parent, view.name):
            if record is not None and self._is_inside(view.parent, view.id):
                return self._wait(view)  # its new folder is still in it, and moves out first
            if not self._free_name(view):
                return self._wait(view)
            record = self._disk.get(view.id)  # it may have been moved out of the way meanwhile
            if record is not None and self._disk.child(view.parent, view.name) == view.id:
                # The same to the disk: some take such a rename for none, and none has a call that is sure to do it.
                record = self._park(record)
            if record is not None:
                self._steps.append(Rename(record, view))
                record = replace(record, parent=view.parent, name=view.name, copy_of=view.copy_of)
                self._disk.put(record)
        if record is not None:
            self._settle_content(view, record)
        elif view.kind == "dir":
            self._steps.append(MakeFolder(view))
            content = view.version.content
            assert content is not None
            self._disk.put(
                LocalNode(view.id, view.parent, view.name, "dir", view.version.id, content, _UNKNOWN, view.copy_of)
            )
        else:
            self._steps.append(Place(view))
        return True

    def _settle_content(self, view: NodeView, record: LocalNode) -> None:
        content = view.version.content
        if content == record.content:
            if record.version != view.version.id:
                self._steps.append(Note(view))
        elif isinstance(content, DirContent) or same_content(content, record.content):
            self._steps.append(SetMeta(view))
        else:
            self._steps.append(Place(view))

    def _wait(self, view: NodeView) -> bool:
        """Leave the node for later. In a folder that is to go it cannot wait: what it waits for may wait for that."""
        record = self._disk.get(view.id)
        if record is not None and self._is_in_leftover(record):
            self._park(record)
        self._steps.append(Wait(view.copy_of or view.id))
        return False

    def _park(self, record: LocalNode) -> LocalNode:
        self._steps.append(Park(record))
        parked = replace(record, parent=PARKED, name=record.id.hex())
        self._disk.put(parked)
        return parked

    def _is_in_leftover(self, record: LocalNode) -> bool:
        above: LocalNode | None = record
        while above is not None and above.parent not in (ROOT, PARKED):
            if self._wanted.view(above.parent) is None and not self._wanted.is_waiting(above.parent):
                return True
            above = self._disk.get(above.parent)
        return False

    def _have_folder(self, folder: NodeId) -> bool:
        """Have the folder made, and those that it is in; return whether it will be there, and not be too deep."""
        missing: list[NodeView] = []
        while (depth := self._disk.depth(folder)) is None:
            view = self._wanted.view(folder)
            if view is None or view.kind != "dir" or len(missing) >= MAX_DEPTH:
                return False
            missing.append(view)
            folder = view.parent
        return depth + len(missing) < MAX_DEPTH and all(self._settle(view) for view in reversed(missing))

    def _is_inside(self, node: NodeId, folder: NodeId) -> bool:
        while node not in (ROOT, PARKED):
            if node == folder:
                return True
            record = self._disk.get(node)
            if record is None:
                return False
            node = record.parent
        return False

    def _free_name(self, view: NodeView) -> bool:
        """Free the name that `view` is to have: its holder goes where it belongs, or out of the way."""
        holder = self._disk.child(view.parent, view.name)
        if holder is None or holder == view.id:
            return True
        record = self._disk.get(holder)
        assert record is not None
        if holder in self._busy:
            return False
        belongs = self._wanted.view(holder)
        if belongs is None:
            self._remove([record])
        elif (belongs.parent, self._fold(belongs.name)) == (view.parent, self._fold(view.name)):
            return False
        elif not self._settle(belongs) and self._disk.child(view.parent, view.name) == holder:
            self._park(record)
        return self._disk.child(view.parent, view.name) is None

    def _remove(self, records: list[LocalNode]) -> None:
        """Remove files, then folders from the depths up; one that is not empty waits."""
        for record in sorted(records, key=lambda each: (each.kind == "dir", -self._depth(each))):
            if self._disk.get(record.id) is None or record.id in self._busy:
                continue
            if record.kind == "dir" and not self._disk.is_empty(record.id):
                self._steps.append(Wait(record.id))
                continue
            self._steps.append(Remove(record))
            self._disk.remove(record.id)

    def _depth(self, record: LocalNode) -> int:
        depth = 0
        above: LocalNode | None = record
        while above is not None and above.parent not in (ROOT, PARKED):
            depth += 1
            above = self._disk.get(above.parent)
        return depth


_UNKNOWN = Signature(0, 0, 0, 0, 0, 0)
