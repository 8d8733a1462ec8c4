"""Nodes that begin in a batch of facts, where nothing else has to be settled: most of what a first scan or a new
device's replay brings.

Such a node's record follows from its two facts alone: its place is its one location's, it lives, and its name is its
own. That is so when its folder is alive and hangs under the root (then no cycle goes through it, and nobody has to be
revived), when no other node has the name, and no node waits for it as its folder. All else is `tree`'s to settle;
since the outcome is the same in whatever order facts are taken, these may be taken first.
"""

from __future__ import annotations

from collections.abc import Sequence

from shoal.crdt.model import ROOT, DirContent, Fact, FactId, Location, NodeId, Version
from shoal.crdt.naming import MARK
from shoal.crdt.tree_index import NodeRecord, TreeIndex

FEW = 4  # names that are looked up one by one

Facts = list[tuple[NodeId, Fact]]


def take_newborn(index: TreeIndex, facts: Facts) -> tuple[dict[NodeId, FactId], Facts]:
    """Put the records of such nodes; return the nodes, each with its version, and the facts that are left, in their
    order."""
    if len(facts) < 2:
        return {}, facts
    by_node: dict[NodeId, list[Fact]] = {}
    for node, fact in facts:
        by_node.setdefault(node, []).append(fact)
    candidates: dict[NodeId, tuple[Location, Version]] = {}
    names: dict[NodeId, list[str]] = {}
    for node, own in by_node.items():
        pair = _pair(own)
        if pair is not None and index.get(node) is None:
            candidates[node] = pair
            names.setdefault(pair[0].parent, []).append(pair[0].name)
    if not candidates or index.displaced():
        return {}, facts
    taken = {parent: taken_names(index, parent, inside) for parent, inside in names.items()}
    taken_by_us: dict[NodeId, set[str]] = {}
    anchored: dict[NodeId, bool] = {}
    born: dict[NodeId, FactId] = {}
    for node, (place, version) in candidates.items():
        parent, name = place.parent, place.name
        ours = taken_by_us.setdefault(parent, set())
        if name in taken[parent] or name in ours or MARK in name:
            continue
        if parent not in anchored:
            anchored[parent] = _is_anchored(index, parent)
        if not anchored[parent] or (place.kind == "dir" and any(True for _ in index.children(node))):
            continue
        ours.add(name)
        born[node] = version.id
        index.add(NodeRecord(node, (place,), (version,), frozenset(), parent, name, place.kind, True, name))
    if len(born) == len(by_node):
        return born, []
    return born, [(node, fact) for node, fact in facts if node not in born]


def _pair(facts: Sequence[Fact]) -> tuple[Location, Version] | None:
    if len(facts) != 2:
        return None
    place, version = facts if isinstance(facts[0], Location) else reversed(facts)
    if not isinstance(place, Location) or not isinstance(version, Version) or place.replaces or version.replaces:
        return None
    if version.content is None or isinstance(version.content, DirContent) != (place.kind == "dir"):
        return None
    return place, version


def _is_anchored(index: TreeIndex, folder: NodeId) -> bool:
    """Return whether it is a folder that lives, as do all that it is in, up to the root."""
    while folder != ROOT:
        record = index.get(folder)
        if record is None or not record.live or record.kind != "dir" or record.parent is None:
            return False
        folder = record.parent
    return True


def taken_names(index: TreeIndex, parent: NodeId, names: Sequence[str]) -> set[str]:
    """Return names of a folder's children, live or dead: at least those of `names` that one has already."""
    if len(names) > FEW:
        # What comes from a scan comes in order, so that little is between the first and the last of a batch.
        raw = sorted(name.encode("utf-8", "surrogateescape") for name in names)
        found = index.names_between(parent, raw[0], raw[-1], most=4 * len(names))
        if found is not None:
            return found
    return {name for name in names if any(True for _ in index.named(parent, name))}
