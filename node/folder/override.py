"""Send-only: what of the others' changes is not applied here, and making this device's state the newest for everyone.

Nothing is lost by it: what others had is replaced by a version that has seen it, and is kept by whoever replaces it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import trio

from shoal.crdt.model import NodeId
from shoal.node.changes import Committed, Delete, DocChange, Edit, Move
from shoal.node.folder.local import PARKED, LocalIndex, LocalNode
from shoal.node.folder.planner import Note, Wanted, owner_of, plan
from shoal.node.replica import Replica

ROUNDS = 10  # a change may bring another to light, as of a name that two have
AT_ONCE = 500


def differing(nodes: Sequence[NodeId], document: Wanted, index: LocalIndex, busy: Collection[NodeId]) -> set[NodeId]:
    """Return the nodes that the document has otherwise than this disk; of the others, note the version."""
    found: set[NodeId] = set()
    for step in plan(nodes, document, index, busy, index.fold):
        match step:
            case Note(view):
                record = index.get(view.id)
                if record is not None:
                    index.put(replace(record, version=view.version.id))
            case _:
                found.add(owner_of(step))
    return found.intersection(nodes)


async def override(replica: Replica, document: Wanted, index: LocalIndex) -> int:
    """Say of each node that the document has otherwise that this disk's state is the newest; return how many."""
    done: set[NodeId] = set()
    for _ in range(ROUNDS):
        nodes = differing(replica.dirty.all(), document, index, ())
        if not nodes:
            break
        done |= nodes
        deep_first = sorted(nodes, key=lambda node: -_depth(replica, node))
        for at in range(0, len(deep_first), AT_ONCE):
            changes = [change for node in deep_first[at : at + AT_ONCE] for change in _changes(replica, index, node)]
            replica.commit(changes, partial(_record, index, changes))
            await trio.lowlevel.checkpoint()
    return len(done)


def _changes(replica: Replica, index: LocalIndex, node: NodeId) -> list[DocChange]:
    record, view = index.get(node), replica.view(node)
    changes: list[DocChange] = [Delete(copy.id, copy.version.id) for copy in replica.tree.copies(node)]
    if record is None or record.parent == PARKED:
        return [*changes, Delete(node, view.version.id)] if view is not None else changes
    if view is None:
        return [*changes, Edit(node, record.content, None)]
    if (view.parent, view.name) != (record.parent, record.name):
        changes.append(Move(node, record.parent, record.name))
    if view.version.id != record.version or view.version.content != record.content:
        changes.append(Edit(node, record.content, view.version.id))
    return changes


def _record(index: LocalIndex, changes: Sequence[DocChange], done: Sequence[Committed]) -> None:
    for change, committed in zip(changes, done, strict=True):
        record: LocalNode | None = index.get(change.node) if isinstance(change, Edit) else None
        if record is not None:
            index.put(replace(record, version=committed.version))


def _depth(replica: Replica, node: NodeId) -> int:
    depth = 0
    view = replica.view(node)
    while view is not None:
        depth += 1
        view = replica.view(view.parent)
    return depth
