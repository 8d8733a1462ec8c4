"""A file that changed names with a conflict copy of its own: the copy's version is to have the name.

That is one version more, which replaces the copy's head with the same content. Said as two edits, each would be made on
top of the other's content, as if somebody had overwritten both; and two people who do it at once would lose a version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shoal.crdt.ids import copy_id
from shoal.crdt.model import NodeId
from shoal.crdt.rivals import alike
from shoal.node.changes import Committed, Resolve
from shoal.node.folder.disk import Seen
from shoal.node.folder.local import LocalIndex, LocalNode
from shoal.node.folder.swaps import Swap
from shoal.node.replica import Replica


def tell_exchange(
    swap: Swap, parents: Sequence[NodeId], index: LocalIndex, replica: Replica
) -> list[tuple[NodeId, Seen]]:
    """Tell the document which version has the name now, and record where each is, in the folders `parents`, by order;
    what document and disk differ in then is for the engine to bring together. Return what is to be read; nothing where
    it is not known what is on disk, and nothing was told."""
    owner = swap[0][0].copy_of or swap[0][0].id
    was = index.get(owner)
    holder = next((record for record, seen in swap if was is not None and seen.path == index.path(owner)), None)
    heads = {head.id for head in replica.heads(owner)}
    if any(record.version is None or (record.id == owner and record.version not in heads) for record, _ in swap):
        return []
    seen_now: list[tuple[NodeId, Seen]] = []

    def record_all(done: Sequence[Committed]) -> None:
        made: list[LocalNode] = []
        for (record, seen), parent in zip(swap, parents, strict=True):
            assert seen.signature is not None
            now = replace(record, parent=parent, name=seen.name, signature=seen.signature._replace(ctime_ns=0))
            if record is holder:
                now = replace(now, id=owner, copy_of=None, version=done[0].version)
            elif record.id == owner:
                assert record.version is not None
                now = replace(now, id=copy_id(owner, record.version), copy_of=owner)
            made.append(now)
            seen_now.append((now.id, seen))
            index.remove(record.id)
        for now in made:
            index.put(now)
        replica.stage_dirty(owner)

    changes = []
    if holder is not None:
        changes.append(Resolve(owner, alike(holder.content, replica.heads(owner)), holder.content, chosen=False))
    replica.commit(changes, record_all)
    return seen_now
