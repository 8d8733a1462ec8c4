"""Facts for what a person did on this device. Each names what it replaces: what the author had seen, and no more."""

from __future__ import annotations

from collections.abc import Callable

from shoal.crdt.ids import derived_node_id
from shoal.crdt.model import (
    MAX_LAMPORT,
    Content,
    DeviceId,
    DirContent,
    Fact,
    FactId,
    Kind,
    Location,
    NodeId,
    NodeView,
    Version,
)
from shoal.crdt.tree import Tree, same_content

Facts = list[tuple[NodeId, Fact]]


class UnknownNode(Exception):
    """The change is about a node that the tree does not hold."""


class Lamport:
    """A Lamport clock: greater than everything seen, until it stands still at `MAX_LAMPORT`."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def tick(self) -> int:
        """Advance and return the new value."""
        self.value = min(self.value + 1, MAX_LAMPORT)
        return self.value

    def observe(self, value: int) -> None:
        """Take note of a value seen in a fact."""
        self.value = min(max(self.value, value), MAX_LAMPORT)


class Author:
    """Makes this device's facts against a tree; applying them is the caller's."""

    def __init__(
        self, device: DeviceId, lamport: Lamport, entropy: Callable[[int], bytes], now_ms: Callable[[], int]
    ) -> None:
        self._device = device
        self._lamport = lamport
        self._entropy = entropy
        self._now_ms = now_ms

    def create(
        self,
        tree: Tree,
        parent: NodeId,
        name: str,
        kind: Kind,
        content: Content,
        is_taken: Callable[[NodeId], bool] = lambda node: False,
    ) -> tuple[NodeId, Facts]:
        """A new node. Its id is derived from its place where that id is free, so that equal places merge. `is_taken`:
        whether a node that the tree shows no more is still known to the device as another thing, elsewhere."""
        node = derived_node_id(parent, name, kind)
        record = tree.index.get(node)
        if (record is not None and record.live) or is_taken(node):
            node, record = NodeId(self._entropy(16)), None
        old_places = _heads(record.locations) if record is not None else ()
        old_heads = tuple(head.id for head in record.heads) if record is not None else ()
        facts: Facts = [(node, self._version(old_heads, content))]
        if record is None or (record.parent, record.name) != (parent, name):
            facts.append((node, self._location(old_places, parent, name, kind)))
        return node, facts

    def edit(self, tree: Tree, node: NodeId, content: Content, base: FactId | None) -> Facts:
        """A new version that replaces `base` (None: it replaces nothing). An edited copy stays a copy of its owner."""
        owner = self._owner(tree, node)
        return [(owner, self._version(_seen_with(tree, owner, base), content))]

    def move(self, tree: Tree, node: NodeId, parent: NodeId, name: str) -> tuple[NodeId, Facts]:
        """A new place. A conflict copy that is moved becomes a file of its own; returns the node's id from then on."""
        record = tree.index.get(node)
        if record is not None:
            return node, [(node, self._location(_heads(record.locations), parent, name, record.kind))]
        copy = tree.view(node)
        if copy is None or copy.version.content is None:
            raise UnknownNode(f"no node {node.hex()}")
        moved, facts = self.create(tree, parent, name, "file", copy.version.content)
        return moved, facts + self._drop(copy)

    def delete(self, tree: Tree, node: NodeId, base: FactId | None, seen: tuple[FactId, ...] = ()) -> Facts:
        """A deletion that replaces `base` alone, so an edit not seen here survives. A copy's settles the conflict.
        `seen`: locations that it names, too; what follows from them is not the tree's to decide."""
        if tree.index.get(node) is None:
            copy = tree.view(node)
            return self._drop(copy) if copy is not None else []
        return [(node, self._version(_seen_with(tree, node, base) + seen, None))]

    def _drop(self, copy: NodeView) -> Facts:
        """A deletion of the one head that `copy` shows. It says nothing of the others, whose content may be elsewhere
        alone, or changed there by now."""
        assert copy.copy_of is not None
        return [(copy.copy_of, self._version((copy.version.id,), None))]

    def _owner(self, tree: Tree, node: NodeId) -> NodeId:
        if tree.index.get(node) is not None:
            return node
        owner = tree.index.owner(node)
        if owner is None:
            raise UnknownNode(f"no node {node.hex()}")
        return owner

    def _version(self, replaces: tuple[FactId, ...], content: Content | None) -> Version:
        fact = FactId(self._entropy(12))
        return Version(fact, replaces, self._lamport.tick(), self._device, self._now_ms(), content)

    def _location(self, replaces: tuple[FactId, ...], parent: NodeId, name: str, kind: Kind) -> Location:
        fact = FactId(self._entropy(12))
        return Location(fact, replaces, self._lamport.tick(), self._device, self._now_ms(), parent, name, kind)


def _seen_with(tree: Tree, node: NodeId, base: FactId | None) -> tuple[FactId, ...]:
    """Return `base`, and the other heads that say the same: who saw the one has seen them all. Two devices that add the
    same file before they meet make two."""
    record = tree.index.get(node)
    heads = record.heads if record is not None else ()
    content = next((head.content for head in heads if head.id == base), None)
    if base is None or content is None:
        return (base,) if base is not None else ()
    same = (head.id for head in heads if head.id != base and _says_the_same(head.content, content))
    return base, *same


def _says_the_same(one: Content | None, other: Content) -> bool:
    if isinstance(other, DirContent):
        return isinstance(one, DirContent)  # folders never conflict
    return one is not None and same_content(one, other)


def _heads(locations: tuple[Location, ...]) -> tuple[FactId, ...]:
    replaced = {fact for location in locations for fact in location.replaces}
    return tuple(location.id for location in locations if location.id not in replaced)
