"""What of a folder this device has on its disk: choices by node id, of which the nearest one above a node decides.

A choice says of a node, and of all that is in it, that it is wanted on this disk or left out; a choice further down
says otherwise for its part. By id, so that what is renamed elsewhere stays left out, and what is moved out of it comes.
Without any choice all is wanted. A wish is a choice by path, for what the document does not show yet.

Keys after the folder's 16 bytes, in column `meta`:
    choice + node     01 wanted, 00 left out
    wish + path       likewise
    chosen            there once anything was chosen
    stray + node      empty; on disk and left out, perhaps outside of what a choice was made for: to leave
    mode              the folder's mode on this device, see `one_way`
    part + folder     the node that is kept as a folder of its own, see `node.subfolders`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from shoal.crdt.model import ROOT, FolderId, NodeId, NodeView
from shoal.node.folder.local import MAX_DEPTH, LocalIndex
from shoal.node.replica import Replica
from shoal.node.store import Staging, Store

PART = b"part"
PREFIXES = (b"choice", b"chosen", b"wish", b"mode", PART)


class Selection:
    """The choices of one folder. `epoch` changes with every choice: an answer got before it is worth nothing."""

    def __init__(self, staging: Staging, folder: FolderId, replica: Replica) -> None:
        self._staging = staging
        self._folder = folder
        self._replica = replica
        self.epoch = 0
        self.load()

    def load(self) -> None:
        """Take the store's word for everything: what was staged is gone."""
        choices = self._staging.scan("meta", self._folder + b"choice")
        wishes = self._staging.scan("meta", self._folder + b"wish")
        self.choices = {NodeId(key[22:]): value == b"\1" for key, value in choices}
        self.wishes = {key[20:].decode("utf-8", "surrogateescape"): value == b"\1" for key, value in wishes}
        self.strays = {NodeId(key[21:]) for key, _ in self._staging.scan("meta", self._folder + b"stray")}
        parts = self._staging.scan("meta", self._folder + PART)
        self.parts = {key[len(self._folder) :]: NodeId(node) for key, node in parts}
        self._used = self._staging.get("meta", self._folder + b"chosen") is not None
        self._ways: frozenset[NodeId] | None = None
        self.epoch += 1

    @property
    def is_used(self) -> bool:
        """Return whether anything was ever chosen that still counts."""
        return bool(self.choices or self.wishes)

    @property
    def was_used(self) -> bool:
        """Return whether anything was ever chosen: what is not on disk may be so by a choice that is void now."""
        return self._used or self.is_used

    def left_out(self) -> list[NodeId]:
        """Return the nodes that a choice leaves out."""
        return [node for node, wanted in self.choices.items() if not wanted]

    def wants(self, node: NodeId) -> bool:
        """Return whether the node is wanted on this disk; also where the document does not show it."""
        if not self.choices:
            return True
        for _ in range(MAX_DEPTH + 2):
            if node in self.choices:
                return self.choices[node]
            if node == ROOT:
                return True
            view = self._replica.view(node)
            if view is None:
                return True
            node = view.copy_of or view.parent
        return True

    def leads_on(self, node: NodeId) -> bool:
        """Return whether a folder is needed on this disk for something wanted that is in it."""
        if not self.choices:
            return False
        if self._ways is None:
            self._ways = frozenset(self._all_ways())
        return node in self._ways

    def document_changed(self) -> None:
        """Places may be others than before."""
        self._ways = None

    def choose(self, node: NodeId, wanted: bool) -> None:
        """Stage a choice; those inside of the node are void by it."""
        for other in list(self.choices):
            if other == node or self._is_in(other, node):
                del self.choices[other]
                self._staging.delete("meta", self._choice_key(other))
        if not self._used:
            self._used = True
            self._staging.put("meta", self._folder + b"chosen", b"")
        if self.wants(node) != wanted:
            self.choices[node] = wanted
            self._staging.put("meta", self._choice_key(node), bytes([wanted]))
        self._ways = None
        self.epoch += 1

    def wish(self, path: str, wanted: bool) -> None:
        """Stage a choice for a path that is not known yet."""
        self.wishes[path] = wanted
        self._staging.put("meta", self._wish_key(path), bytes([wanted]))
        self.epoch += 1

    def forget_wish(self, path: str) -> None:
        """Stage the end of a wish: it is a choice now, or is not wished any more."""
        if self.wishes.pop(path, None) is not None:
            self._staging.delete("meta", self._wish_key(path))

    def mark(self, key: bytes, node: NodeId) -> None:
        """Stage that a node is kept by another folder; what is on disk of it is none of this one's matter."""
        self.parts[key] = node
        self._staging.put("meta", self._folder + key, node)

    def unmark(self, key: bytes) -> None:
        """Stage the end of a mark."""
        self.parts.pop(key, None)
        self._staging.delete("meta", self._folder + key)

    def has_mark(self, key: bytes) -> bool:
        """Return whether there is a mark."""
        return key in self.parts

    def keep(self, node: NodeId) -> None:
        """Stage that a node stays here that a person just made, or moved to, in a folder that is left out."""
        if not self.wants(node):
            self.choose(node, True)

    def strayed(self, node: NodeId) -> None:
        """Stage that a node is on disk and left out: it was moved to where nothing is wanted."""
        if node not in self.strays:
            self.strays.add(node)
            self._staging.put("meta", self._folder + b"stray" + node, b"")

    def forget_strays(self, settled: Callable[[NodeId], bool]) -> None:
        """Stage the end of those that are gone from the disk, or wanted."""
        for node in [node for node in self.strays if settled(node)]:
            self.strays.discard(node)
            self._staging.delete("meta", self._folder + b"stray" + node)

    def _all_ways(self) -> Iterator[NodeId]:
        for node, wanted in self.choices.items():
            view = self._replica.view(node) if wanted else None
            for _ in range(MAX_DEPTH):
                if view is None or view.parent == ROOT:
                    break
                yield view.parent
                view = self._replica.view(view.parent)

    def _is_in(self, node: NodeId, folder: NodeId) -> bool:
        if folder == ROOT:
            return True
        view = self._replica.view(node)
        for _ in range(MAX_DEPTH):
            if view is None or view.parent == ROOT:
                return False
            if view.parent == folder:
                return True
            view = self._replica.view(view.parent)
        return False

    def _choice_key(self, node: NodeId) -> bytes:
        return self._folder + b"choice" + node

    def _wish_key(self, path: str) -> bytes:
        return self._folder + b"wish" + path.encode("utf-8", "surrogateescape")


def stored(store: Store, folder: bytes) -> list[tuple[bytes, bytes]]:
    """Return the rows, of column `meta`, that hold what was chosen for a folder on this device."""
    return [row for prefix in PREFIXES for row in store.scan("meta", folder + prefix)]


class SelectedDocument:
    """A replica's tree as the planner is to see it: what is wanted here, and what is left out as far as it still is on
    this disk. The latter stays as it is until `leave` takes it away; where its place is here, it moves along."""

    def __init__(self, replica: Replica, selection: Selection, index: LocalIndex) -> None:
        self._replica = replica
        self._selection = selection
        self._index = index
        self.is_waiting = replica.is_waiting

    def view(self, node: NodeId) -> NodeView | None:
        """Return the node as this disk is to have it."""
        view = self._replica.view(node)
        if view is None or self._selection.wants(node) or self._selection.leads_on(node):
            return view
        record = self._index.get(node)
        if record is None:
            return None
        placed = view.parent == ROOT or self._index.get(view.parent) is not None
        parent, name = (view.parent, view.name) if placed else (record.parent, record.name)
        version = replace(view.version, id=record.version or view.version.id, content=record.content)
        return replace(view, parent=parent, name=name, kind=record.kind, version=version)

    def copies(self, view: NodeView) -> list[NodeView]:
        """Return the conflict copies that are shown beside the node."""
        shown = (self.view(copy.id) for copy in self._replica.copies(view.id))
        return [copy for copy in shown if copy is not None]
