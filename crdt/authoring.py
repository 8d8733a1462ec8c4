"""Facts for what a person did on this device. Each names what it replaces: what the author had seen, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shoal.crdt.facts import MAX_REPLACES
from shoal.crdt.ids import derived_node_id
from shoal.crdt.model import (
    MAX_LAMPORT,
    Content,
    DeviceId,
    Fact,
    FactId,
    Kind,
    Location,
    NodeId,
    NodeView,
    Version,
)
from shoal.crdt.rivals import alike
from shoal.crdt.tree import Tree

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
        whether a node that the tree knows, and shows no more, is still something else on the device's disk."""
        node = derived_node_id(parent, name, kind)
        record = tree.index.get(node)
        if record is not None and (record.live or is_taken(node)):
            node, record = NodeId(self._entropy(16)), None
        old_places = _heads(record.locations) if record is not None else ()
        old_heads = tuple(head.id for head in record.heads) if record is not None else ()
        facts: Facts = [(node, self._version(old_heads, content))]
        if record is None or (record.parent, record.name) != (parent, name):
            facts.append((node, self._location(old_places, parent, name, kind)))
        return node, facts

    def edit(
        self, tree: Tree, node: NodeId, content: Content, base: FactId | None, apart: tuple[FactId, ...] = ()
    ) -> Facts:
        """A new version that replaces `base` (None: it replaces nothing), and the heads that are no conflict with it,
        but for `apart`, which its author has under other names. An edited copy stays a copy of its owner: it does not
        take the name from the version that holds it."""
        owner = self._owner(tree, node)
        version = self._version(self._seen(tree, owner, base, apart), content)
        holder = tree.view(owner) if owner != node else None
        if holder is not None and holder.version.id not in version.replaces:
            version = replace(version, lamport=min(version.lamport, max(holder.version.lamport - 1, 0)))
        return [(owner, version)]

    def resolve(
        self, tree: Tree, node: NodeId, replaces: tuple[FactId, ...], content: Content | None, *, chosen: bool
    ) -> Facts:
        """One version in place of several heads; `content` None drops them. `chosen`: by a person, whose word is a
        version of its own, so that it counts as an edit (`rivals`)."""
        version = self._version(replaces, content)
        if not chosen or content is None:
            return [(node, version)]
        return [(node, version), (node, self._version((version.id,), content))]

    def move(self, tree: Tree, node: NodeId, parent: NodeId, name: str) -> tuple[NodeId, Facts]:
        """A new place. A conflict copy that is moved becomes a file of its own; returns the node's id from then on."""
        record = tree.index.get(node)
        if record is not None:
            # Deletions that its author had seen: what was deleted along with a folder that still lives stays deleted.
            deleted = tuple(head.id for head in record.heads if head.content is None)
            return node, [(node, self._location(_heads(record.locations) + deleted, parent, name, record.kind))]
        copy = tree.view(node)
        if copy is None or copy.version.content is None:
            raise UnknownNode(f"no node {node.hex()}")
        moved, facts = self.create(tree, parent, name, "file", copy.version.content)
        return moved, facts + self._drop(tree, copy)

    def delete(
        self,
        tree: Tree,
        node: NodeId,
        base: FactId | None,
        seen: tuple[FactId, ...] = (),
        apart: tuple[FactId, ...] = (),
    ) -> Facts:
        """A deletion that replaces `base` alone, so an edit not seen here survives. A copy's settles the conflict.
        `seen`: locations that it names, too; what follows from them is not the tree's to decide. `apart`: as in
        `edit`."""
        if tree.index.get(node) is None:
            copy = tree.view(node)
            return self._drop(tree, copy, apart) if copy is not None else []
        return [(node, self._version(self._seen(tree, node, base, apart) + seen, None))]

    def _drop(self, tree: Tree, copy: NodeView, apart: tuple[FactId, ...] = ()) -> Facts:
        """A deletion of the head that `copy` shows. It says nothing of the others, whose content may be elsewhere
        alone, or changed there by now."""
        assert copy.copy_of is not None
        return [(copy.copy_of, self._version(self._seen(tree, copy.copy_of, copy.version.id, apart), None))]

    @staticmethod
    def _seen(tree: Tree, node: NodeId, base: FactId | None, apart: tuple[FactId, ...]) -> tuple[FactId, ...]:
        """Return what a change of `base` replaces: also the heads of like content, which were seen with it: the same
        edit on two devices is two heads that nobody can tell apart. Those of `apart` its author did tell apart."""
        if base is None:
            return ()
        record = tree.index.get(node)
        heads = record.heads if record is not None else ()
        head = next((head for head in heads if head.id == base), None)
        if head is None or head.content is None:
            return (base,)
        return (base, *(twin for twin in alike(head.content, heads) if twin != base and twin not in apart))

    def _owner(self, tree: Tree, node: NodeId) -> NodeId:
        if tree.index.get(node) is not None:
            return node
        owner = tree.index.owner(node)
        if owner is None:
            raise UnknownNode(f"no node {node.hex()}")
        return owner

    def _version(self, replaces: tuple[FactId, ...], content: Content | None) -> Version:
        fact = FactId(self._entropy(12))
        seen = replaces[:MAX_REPLACES]  # one that names more nobody reads: what is left over stays
        return Version(fact, seen, self._lamport.tick(), self._device, self._now_ms(), content)

    def _location(self, replaces: tuple[FactId, ...], parent: NodeId, name: str, kind: Kind) -> Location:
        fact = FactId(self._entropy(12))
        seen = replaces[:MAX_REPLACES]
        return Location(fact, seen, self._lamport.tick(), self._device, self._now_ms(), parent, name, kind)


def _heads(locations: tuple[Location, ...]) -> tuple[FactId, ...]:
    replaced = {fact for location in locations for fact in location.replaces}
    return tuple(location.id for location in locations if location.id not in replaced)
