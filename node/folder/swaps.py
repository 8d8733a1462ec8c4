"""Files that changed names among themselves: each has another's inode, and all are still there.

A name whose file has another inode is an edit, as most editors save; unless the inode is one that another name had,
whose file has a third one's, and so on round to the first: then nothing was edited, and every one of them moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from shoal.crdt.model import NodeId
from shoal.node.folder.disk import Seen
from shoal.node.folder.local import LocalIndex, LocalNode

Swap = list[tuple[LocalNode, Seen]]  # what was moved, and where it is by now


def closed_swaps(changed: Sequence[tuple[NodeId, Seen]], index: LocalIndex) -> list[Swap]:
    """Return the rings of files among `changed` (nodes, each with what has its name now)."""
    now_at = dict(changed)
    swaps: list[Swap] = []
    met: set[NodeId] = set()
    for start in now_at:
        swap: Swap = []
        node: NodeId | None = start
        while node is not None and node in now_at and node not in met:
            met.add(node)
            mover = _known_file(now_at[node], index)
            if mover is None or mover.id == node:
                break
            swap.append((mover, now_at[node]))
            node = mover.id
        if swap and node == start and len(swap) > 1:
            swaps.append(swap)
    return swaps


def _known_file(seen: Seen, index: LocalIndex) -> LocalNode | None:
    """Return the file whose inode this is, unchanged."""
    found = seen.signature
    node = index.by_inode(found.device, found.inode) if found is not None else None
    record = index.get(node) if node is not None else None
    if found is None or record is None or record.kind == "dir" or record.copy_of is not None:
        return None
    old = record.signature
    return record if (old.size, old.mtime_ns) == (found.size, found.mtime_ns) else None
