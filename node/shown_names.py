"""Names as this device's disk can hold them, where it cannot hold all: see `name_rules`.

Of live siblings whose names are one to the disk, one keeps its name: what can be spelt as it is before what cannot, a
folder before a file, then who came first. The others are shown as conflict twins are, `name (conflict ID)`. So it
follows from the document alone, and is the same on all disks of a kind; the document's names stay as they are.

Keys after the folder's 16 bytes:
    column `index`: g + parent + key + NUL + node   empty; the live children of a parent, by what is one to the disk
    column `meta`: names                            the sign of the rules for that; none where all is told apart
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from shoal.crdt.model import ROOT, FolderId, NodeId, NodeView
from shoal.crdt.naming import MARK, MAX_BYTES, conflict_name
from shoal.crdt.placement import candidates, order
from shoal.crdt.tree_index import NodeRecord
from shoal.node.folder.local import PRIVATE
from shoal.node.name_rules import PLAIN, NameRules
from shoal.node.store import Staging
from shoal.node.tree_store import StoredIndex

_Group = tuple[NodeId, str]


class ShownNames:
    """The names of one folder on a disk of some kind."""

    def __init__(self, staging: Staging, folder: FolderId, index: StoredIndex) -> None:
        self._staging = staging
        self._folder = folder
        self._index = index
        self.rules = PLAIN
        self._touched: set[_Group] = set()

    def hold(self, rules: NameRules) -> None:
        """Stage what is needed for a disk of this kind."""
        before, after = self._staging.get("meta", self._folder + b"names"), None if rules.plain else rules.sign()
        self.rules = rules
        self._index.on_put = None if rules.plain else self._put
        if before == after:
            return
        for key, _ in list(self._staging.scan("index", self._folder + b"g")):
            self._staging.delete("index", key)
        if after is None:
            self._staging.delete("meta", self._folder + b"names")
            return
        for record in list(self._index.records()):
            place = self._place(record)
            if place is not None:
                self._staging.put("index", self._row(place) + record.id, b"")
        self._staging.put("meta", self._folder + b"names", after)

    def view(self, view: NodeView) -> NodeView:
        """Return the view as it is shown on the disk."""
        name = self._name(view)
        return view if name == view.name else replace(view, name=name)

    def named(self, parent: NodeId, name: str) -> list[NodeId]:
        """Return the live children that may be shown under a name; conflict copies and those that stand aside are not
        among them."""
        return self._group((parent, self.rules.key(name)))

    def settle(self, changed: set[NodeId]) -> set[NodeId]:
        """Return the nodes that may be named otherwise now than before the tree changed; of `changed` ones, those that
        have twins."""
        touched, self._touched = self._touched, set()
        found: set[NodeId] = set()
        for parent, key in touched:
            group = self._group((parent, key))
            found.update(node for node in group if len(group) > 1 or node not in changed)
        # Somebody's own name may be what another was shown by.
        for parent in {parent for parent, key in touched if MARK in key}:
            found |= self._odd_ones(parent) | {
                node for node in self._index.children(parent) if len(getattr(self._index.get(node), "heads", ())) > 1
            }
        return found

    def forget(self) -> None:
        """What was staged is gone."""
        self._touched.clear()

    def own_name(self, shown: str, node: NodeId) -> str | None:
        """Return the node's own name where `shown` is what the disk shows it by; None where it is another name."""
        record = self._index.get(node)
        return record.name if record is not None and self.may_show(record.name, shown, node) else None

    def may_show(self, name: str, shown: str, node: NodeId) -> bool:
        """Return whether a node of that name is shown as `shown`: with a twin, or without one."""
        spelt = self.rules.spell(name)
        tag = shown.rpartition(MARK)[2].partition(")")[0]
        aside = self.rules.spell(conflict_name(spelt, tag)) if tag and node.hex().startswith(tag) else spelt
        return shown in (spelt, aside)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _name(self, view: NodeView) -> str:
        if view.parent == ROOT and view.name == PRIVATE:
            return view.name  # no disk has it
        spelt = self.rules.spell(view.name)
        if len(spelt.encode("utf-8", "surrogateescape")) > MAX_BYTES:
            return self._aside(view, spelt)
        key = self.rules.key(spelt)
        if view.parent == ROOT and key == PRIVATE:
            return self._aside(view, spelt)
        group = self._group((view.parent, key))
        if view.copy_of is None and len(group) > 1:
            return spelt if self._first(group) == view.id else self._aside(view, spelt)
        return spelt if view.copy_of is None or not group else self._aside(view, spelt)

    def _aside(self, view: NodeView, spelt: str) -> str:
        tag = view.id.hex()
        for length in range(12, len(tag) + 1):
            name = self.rules.spell(conflict_name(spelt, tag[:length]))
            if not self._group((view.parent, self.rules.key(name))):
                return name
        return name

    def _first(self, group: Iterable[NodeId]) -> NodeId:
        records = [record for node in group if (record := self._index.get(node)) is not None]
        return min(records, key=self._rank).id

    def _rank(self, record: NodeRecord) -> tuple[object, ...]:
        respelt = self.rules.spell(record.shown) != record.shown
        return respelt, record.kind != "dir", order(candidates(record)[0])

    def _group(self, place: _Group) -> list[NodeId]:
        return [NodeId(key[-16:]) for key, _ in self._staging.scan("index", self._row(place))]

    def _row(self, place: _Group) -> bytes:
        parent, key = place
        return self._folder + b"g" + parent + key.encode("utf-8", "surrogateescape") + b"\0"

    def _place(self, record: NodeRecord | None) -> _Group | None:
        if record is None or record.parent is None or not record.live:
            return None
        return record.parent, self.rules.key(self.rules.spell(record.shown))

    def _put(self, old: NodeRecord | None, record: NodeRecord) -> None:
        """A record takes the place of another."""
        before, after = self._place(old), self._place(record)
        if before != after:
            if before is not None:
                self._staging.delete("index", self._row(before) + record.id)
            if after is not None:
                self._staging.put("index", self._row(after) + record.id, b"")
        elif old is not None and (old.locations, old.kind) == (record.locations, record.kind):
            return
        self._touched.update(place for place in (before, after) if place is not None)

    def _odd_ones(self, parent: NodeId | None = None) -> set[NodeId]:
        """Return the nodes that have twins, or names that the disk does not hold; of one folder, or all."""
        found: set[NodeId] = set()
        last: tuple[bytes, NodeId] | None = None
        prefix = self._folder + b"g" + (parent or b"")
        for row, _ in self._staging.scan("index", prefix):
            place, node = row[:-16], NodeId(row[-16:])
            if last is not None and last[0] == place:
                found |= {last[1], node}
            last = place, node
            record = self._index.get(node)
            if record is not None and self.rules.spell(record.shown) != record.shown:
                found.add(node)
        return found
