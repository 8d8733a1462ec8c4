"""Files that changed names among themselves: each has another's inode, and all are still there.

A name whose file has another inode is an edit, as most editors save; unless the inode is one that another name had,
whose file has a third one's, and so on round to the first: then nothing was edited, and every one of them moved.
Conflict copies are names of one file: only a ring of such alone is one (`exchange`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from shoal.crdt.model import NodeId
from shoal.node.folder.disk import Seen
from shoal.node.folder.local import LocalIndex, LocalNode

Swap = list[tuple[LocalNode, Seen]]  # what was moved, and where it is by now


def closed_swaps(changed: Sequence[tuple[NodeId, Seen]], index: LocalIndex) -> list[Swap]:
    """Return the rings of files among `changed` (nodes, each with what has its name now)."""
    now_at = dict(changed)
    movers = {node: _known_file(seen, index) for node, seen in now_at.items()}
    _eliminate(movers, index)
    swaps: list[Swap] = []
    met: set[NodeId] = set()
    for start in now_at:
        swap: Swap = []
        node: NodeId | None = start
        while node is not None and node in now_at and node not in met:
            met.add(node)
            mover = movers[node]
            if mover is None or mover.id == node:
                break
            swap.append((mover, now_at[node]))
            node = mover.id
        if swap and node == start and len(swap) > 1 and (not has_copies(swap) or _is_of_one_file(swap)):
            swaps.append(swap)
    return swaps


def _eliminate(movers: dict[NodeId, LocalNode | None], index: LocalIndex) -> None:
    """Where a file and its copies changed names, and one of them was saved before anybody looked, that one is what is
    left."""
    families: dict[NodeId, set[NodeId]] = defaultdict(set)
    for node in movers:
        if (record := index.get(node)) is not None:
            families[record.copy_of or node].add(node)
    for family in families.values():
        unknown = [node for node in family if movers[node] is None]
        known = {mover.id for node in family if (mover := movers[node]) is not None and mover.id != node}
        if len(unknown) == 1 and known < family and len(known) == len(family) - 1 > 0:
            (left,) = family - known
            if left != unknown[0]:
                movers[unknown[0]] = index.get(left)


def has_copies(swap: Swap) -> bool:
    """Return whether conflict copies are among those that moved."""
    return any(record.copy_of is not None for record, _ in swap)


def _is_of_one_file(swap: Swap) -> bool:
    return len({record.copy_of or record.id for record, _ in swap}) == 1


def _known_file(seen: Seen, index: LocalIndex) -> LocalNode | None:
    """Return the file whose inode this is, unchanged."""
    found = seen.signature
    node = index.by_inode(found.device, found.inode) if found is not None else None
    record = index.get(node) if node is not None else None
    if found is None or record is None or record.kind == "dir":
        return None
    old = record.signature
    return record if (old.size, old.mtime_ns) == (found.size, found.mtime_ns) else None
