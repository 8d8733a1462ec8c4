"""The tree that a set of facts means. Every rule is a function of the set, so replicas with the same facts agree.

- Place: see `placement`. A node whose parent is not known yet is not shown until it is.
- Life: a node lives while a head that is no deletion stands, a folder also while a child lives.
- Content: of the heads that are no deletion the greatest (lamport, device, id) holds the name; others that differ
  from it in content are shown as conflict copies. Folders never conflict.
- Names: of live siblings with one name, folders come before files, then the earliest location keeps the name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from shoal.crdt.ids import copy_id
from shoal.crdt.model import (
    ROOT,
    Content,
    DeviceId,
    DirContent,
    Fact,
    FactId,
    FileContent,
    LinkContent,
    Location,
    NodeId,
    NodeView,
    Version,
)
from shoal.crdt.naming import MARK, conflict_name, copy_name
from shoal.crdt.newborn import Facts, take_newborn
from shoal.crdt.placement import Placement, candidates, order
from shoal.crdt.tree_index import NodeRecord, TreeIndex


def version_order(version: Version) -> tuple[int, DeviceId, FactId]:
    """Return what competing versions are compared by."""
    return version.lamport, version.device, version.id


def same_content(one: Content | None, other: Content | None) -> bool:
    """Return whether two contents are no conflict: equal, or different in mode or time alone."""
    if isinstance(one, FileContent) and isinstance(other, FileContent):
        return one.size == other.size and one.chunks == other.chunks
    if isinstance(one, LinkContent) and isinstance(other, LinkContent):
        return one.target == other.target
    return one == other


REVIVED = DirContent(0o700)  # the mode of a folder that was deleted where something lives in it: its owner's alone


class Tree:
    """The tree over an index. Cost follows what changed and the depth, not the size of the tree."""

    def __init__(self, index: TreeIndex) -> None:
        self.index = index

    def apply(self, facts: Iterable[tuple[NodeId, Fact]]) -> set[NodeId]:
        """Take facts, in any order and any number of times; return the nodes whose view may have changed."""
        born, changed = self.take(facts)
        return changed | born.keys()

    def take(self, facts: Iterable[tuple[NodeId, Fact]]) -> tuple[dict[NodeId, FactId], set[NodeId]]:
        """Likewise, but return apart the nodes that are new and shown with their one version, which is given."""
        born, left = take_newborn(self.index, list(facts))
        changed = self._settle(left) if left else set()
        for node in changed & born.keys():
            del born[node]
        return born, changed

    def _settle(self, facts: Facts) -> set[NodeId]:
        fresh: dict[NodeId, NodeRecord] = {}
        moved: set[NodeId] = set()
        for node, fact in facts:
            record = fresh.get(node) or self.index.get(node) or NodeRecord(node)
            if self._is_known(record, fact):
                continue
            if isinstance(fact, Location):
                fresh[node] = replace(record, locations=(*record.locations, fact), kind=fact.kind)
                moved.add(node)
            else:
                fresh[node] = now = _with_version(record, fact)
                for gone in {*record.heads, fact} - {*now.heads}:
                    self.index.set_replaced(node, gone.id)
        changed = set(fresh)
        was = {node: self.index.get(node) for node in fresh}
        groups = self._place(fresh, moved, was)
        changed |= {  # a cycle took another node from its place, or gave it back
            node for node, old in was.items() if old is not None and old.parent != fresh[node].parent
        }
        for record in fresh.values():
            self.index.put(record)
        for node in moved:
            if (old := was.get(node)) is None or old.parent is None:
                changed |= self._below(node)  # they waited for their parent
        parents = {place.parent for record in (*fresh.values(), *was.values()) if (place := record) and place.parent}
        changed |= self._revive({*fresh, *parents}, groups)
        changed |= self._rename(groups)
        for node in changed:
            if (shown := self.index.get(node)) is not None:
                for loser in self._losers(shown):
                    self.index.set_owner(copy_id(node, loser.id), node)
        return changed

    def view(self, node: NodeId) -> NodeView | None:
        """Return the node as it is shown; None when it is dead or has no known place."""
        record = self.index.get(node)
        if record is None:
            return self._copy_view(node)
        if not self._shown(record):
            return None
        return self._view(record)

    def has_conflict(self, node: NodeId) -> bool:
        """Return whether heads of the node differ, be it shown or in a folder that is not."""
        record = self.index.get(node)
        return record is not None and bool(self._losers(record))

    def stands_alone(self, node: NodeId, version: bytes | None) -> bool:
        """Return whether the node is shown with this version, and no other conflicts with it."""
        alone = self.index.get(node)
        if alone is not None and len(alone.heads) == 1:
            return alone.heads[0].id == version and bool(_standing(alone)) and self._shown(alone)
        view = self.view(node)
        return view is not None and view.version.id == version and not view.conflicts

    def copies(self, node: NodeId) -> list[NodeView]:
        """Return the conflict copies of a node, best first."""
        view = self.view(node)
        return [self._copy(view, loser) for loser in view.conflicts] if view is not None else []

    def children(self, parent: NodeId) -> list[NodeView]:
        """Return all live children of a folder, conflict copies included."""
        above = self.index.get(parent)
        if parent != ROOT and (above is None or not self._shown(above)):
            return []
        found = []
        for node in self.index.children(parent):
            record = self.index.get(node)
            if record is not None and record.live:
                view = self._view(record)
                found.append(view)
                found.extend(self._copy(view, loser) for loser in view.conflicts)
        return found

    def _is_known(self, record: NodeRecord, fact: Fact) -> bool:
        if isinstance(fact, Location):
            return any(place.id == fact.id for place in record.locations)
        return any(head.id == fact.id for head in record.heads) or (
            bool(record.locations or record.heads or record.unseen) and self.index.is_replaced(record.id, fact.id)
        )

    def _place(
        self, fresh: dict[NodeId, NodeRecord], moved: set[NodeId], was: dict[NodeId, NodeRecord | None]
    ) -> set[tuple[NodeId, str]]:
        groups: set[tuple[NodeId, str]] = set()
        if moved:
            displaced = self.index.displaced()
            placement = Placement(self.index, fresh)
            self.index.set_displaced(placement.settle([*moved, *displaced]))
            for node, (parent, name) in placement.places.items():
                record = fresh.get(node) or self.index.get(node)
                assert record is not None
                if node not in was:
                    was[node] = record
                groups.add((parent, name))  # also where only the location's order changed: it decides between twins
                if (record.parent, record.name) != (parent, name):
                    if record.parent is not None:
                        groups.add((record.parent, record.name))
                    record = replace(record, parent=parent, name=name)
                fresh[node] = replace(record, kind=candidates(record)[0].kind)
        return groups

    def _revive(self, nodes: set[NodeId], groups: set[tuple[NodeId, str]]) -> set[NodeId]:
        """Settle who lives, upwards from `nodes`; add the name groups it touches to `groups`."""
        changed = set()
        queue = list(nodes)
        queued = set(queue)
        while queue:
            node = queue.pop()
            queued.discard(node)
            record = self.index.get(node)
            if record is None:
                continue
            live = bool(_standing(record)) or (record.kind == "dir" and self._has_live_child(node))
            if live == record.live:
                continue
            changed.add(node)
            self.index.put(replace(record, live=live))
            if record.parent is not None:
                groups.add((record.parent, record.name))
                if record.parent not in queued:
                    queued.add(record.parent)
                    queue.insert(0, record.parent)
        return changed

    def _has_live_child(self, node: NodeId) -> bool:
        return any((child := self.index.get(kid)) is not None and child.live for kid in self.index.children(node))

    def _rename(self, groups: set[tuple[NodeId, str]]) -> set[NodeId]:
        changed = set()
        for parent in {parent for parent, name in groups if MARK in name}:
            changed |= self._owners_of_copies(parent)
            groups = groups | self._twin_groups(parent)
        for parent, name in groups:
            twins = [r for node in self.index.named(parent, name) if (r := self.index.get(node)) is not None and r.live]
            twins.sort(key=lambda twin: (twin.kind != "dir", order(candidates(twin)[0])))
            for place, twin in enumerate(twins):
                shown = name if place == 0 else self._free_name(parent, name, twin.id)
                if shown != twin.shown:
                    self.index.put(replace(twin, shown=shown))
                    changed.add(twin.id)
        return changed

    def _twin_groups(self, parent: NodeId) -> set[tuple[NodeId, str]]:
        """Return the names in a folder that several live nodes have as their own."""
        records = (self.index.get(node) for node in self.index.children(parent))
        names = Counter(record.name for record in records if record is not None and record.live)
        return {(parent, name) for name, count in names.items() if count > 1}

    def _free_name(self, parent: NodeId, name: str, node: NodeId) -> str:
        """Return the name that a node is shown by whose own is a twin's: one that no live sibling has as its own."""
        length = 12
        shown = conflict_name(name, node.hex()[:length])
        while self._is_own_name(parent, shown):
            length += 1
            shown = conflict_name(name if length <= 32 else shown, node.hex()[:length])
        return shown

    def _is_own_name(self, parent: NodeId, name: str) -> bool:
        records = (self.index.get(sibling) for sibling in self.index.named(parent, name))
        return any(record is not None and record.live for record in records)

    def _below(self, node: NodeId) -> set[NodeId]:
        found: set[NodeId] = set()
        queue = [node]
        while queue:
            for child in self.index.children(queue.pop()):
                if child not in found:
                    found.add(child)
                    queue.append(child)
        return found

    def _shown(self, record: NodeRecord) -> bool:
        above: NodeRecord | None = record
        while above is not None:
            if above.parent is None or not above.live:
                return False
            if above.parent == ROOT:
                return True
            above = self.index.get(above.parent)
            if above is not None and above.kind != "dir":
                return False
        return False

    def _losers(self, record: NodeRecord) -> list[Version]:
        if record.kind == "dir" or len(record.heads) < 2:
            return []
        standing = sorted(_standing(record), key=version_order, reverse=True)
        losers: list[Version] = []
        for head in standing:
            if not any(same_content(head.content, seen.content) for seen in (standing[0], *losers)):
                losers.append(head)
        return losers

    def _view(self, record: NodeRecord) -> NodeView:
        assert record.parent is not None
        standing = _standing(record)
        if standing:
            winner = max(standing, key=version_order)
        else:  # a folder that lives by its children alone: nothing that stands says its mode
            nothing = Version(FactId(bytes(12)), (), 0, DeviceId(bytes(32)), 0, None)
            fit = [head for head in record.heads if head.content is None]
            winner = replace(max(fit, key=version_order, default=nothing), content=REVIVED)
        heads = tuple(sorted(head.id for head in record.heads))
        place = candidates(record)[0].id
        conflicts = tuple(self._losers(record))
        return NodeView(record.id, record.parent, record.shown, record.kind, winner, heads, place, conflicts)

    def _copy(self, owner: NodeView, loser: Version) -> NodeView:
        """Return the conflict copy of a losing head; a node that has the copy's name as its own keeps it."""
        node = copy_id(owner.id, loser.id)
        name = copy_name(owner.name, loser.time_ms, node.hex()[:8])
        if self._is_own_name(owner.parent, name):
            name = self._free_name(owner.parent, name, node)
        return NodeView(node, owner.parent, name, "file", loser, (loser.id,), owner.location, (), owner.id)

    def _owners_of_copies(self, parent: NodeId) -> set[NodeId]:
        records = (self.index.get(node) for node in self.index.children(parent))
        return {record.id for record in records if record is not None and len(record.heads) > 1}

    def _copy_view(self, copy: NodeId) -> NodeView | None:
        owner = self.index.owner(copy)
        if owner is None:
            return None
        return next((view for view in self.copies(owner) if view.id == copy), None)


def _standing(record: NodeRecord) -> list[Version]:
    """Return the heads that are no deletion. Content of another kind than the node's, which no honest device writes,
    counts as one."""
    is_dir = record.kind == "dir"
    return [h for h in record.heads if h.content is not None and isinstance(h.content, DirContent) == is_dir]


def _with_version(record: NodeRecord, version: Version) -> NodeRecord:
    replaced = set(version.replaces)
    known = {head.id for head in record.heads}
    unseen = record.unseen | (replaced - known)
    heads = tuple(head for head in record.heads if head.id not in replaced)
    if version.id in unseen:
        unseen -= {version.id}
    else:
        heads = (*heads, version)
    return replace(record, heads=heads, unseen=frozenset(unseen))
