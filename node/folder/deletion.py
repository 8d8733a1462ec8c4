"""Whether a deletion holds against a move that it has not seen. A rename is an edit of the place: it beats a delete.

A deletion names, beside the version that it replaces, the locations that its author had seen: the node's own, and those
of the folders that went along with it. Where one of these hangs elsewhere by now, and the author did not know, the
device that is to take the node off its disk keeps it, and says so: with a version that replaces the deletion. So the
rules of the tree stay what they are, and a deletion that names no location holds against everything.

A move names, beside the locations that it replaces, the deletions of the node that its author had seen. Whoever knew of
a device's deletion of a folder knew of what that device had deleted in it before: logs are read in order. So it was
moved without these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from shoal.crdt.model import FactId, Location, NodeId, Version
from shoal.crdt.tree_index import NodeRecord, TreeIndex
from shoal.node.changes import Edit
from shoal.node.folder.local import LocalNode
from shoal.node.replica import Replica


def places_seen(replica: Replica, gone: LocalNode, along: Mapping[NodeId, LocalNode]) -> tuple[FactId, ...]:
    """Return the ids of the locations that who deleted `gone` had seen; `along`: all that went with it."""
    seen: list[FactId] = []
    node: LocalNode | None = gone
    while node is not None:
        seen += _locations_seen(replica, node)
        node = along.get(node.parent)
    return tuple(dict.fromkeys(seen))


def survivals(replica: Replica, nodes: Iterable[LocalNode]) -> Iterator[Edit]:
    """Yield what is to be said of the deleted nodes, all on this disk, whose deletion does not hold."""
    for node in nodes:
        if node.copy_of is None and replica.view(node.id) is None:
            deletion = overruled(replica.tree.index, node.id)
            if deletion is not None:
                yield Edit(node.id, node.content, deletion)


def overruled(index: TreeIndex, node: NodeId) -> FactId | None:
    """Return a deletion of a dead node, when none that stands had seen where the node is by now."""
    record = index.get(node)
    deletions = record.heads if record is not None else ()
    if not deletions or any(head.content is not None for head in deletions):
        return None
    way = list(_way_up(index, node))
    return deletions[0].id if all(any(_missed(each, above) for above in way) for each in deletions) else None


def _missed(deletion: Version, record: NodeRecord) -> bool:
    """Return whether a deletion knew the node, and not a place that it has now."""
    knew = frozenset(deletion.replaces)
    known = {(place.parent, place.name) for place in record.locations if place.id in knew}
    return bool(known) and any(
        place.id not in knew and (place.parent, place.name) not in known and not _had_seen(place, deletion, record)
        for place in _heads(record)
    )


def _had_seen(place: Location, deletion: Version, record: NodeRecord) -> bool:
    """Return whether whoever moved the node had seen the deletion, as far as can be told."""
    named = (head for head in record.heads if head.id in place.replaces)
    return any(head.device == deletion.device and head.lamport >= deletion.lamport for head in named)


def _way_up(index: TreeIndex, node: NodeId) -> Iterator[NodeRecord]:
    met = set()
    record = index.get(node)
    while record is not None and record.id not in met:
        met.add(record.id)
        yield record
        record = index.get(record.parent) if record.parent is not None else None


def _locations_seen(replica: Replica, node: LocalNode) -> list[FactId]:
    record = replica.tree.index.get(node.id)
    if record is None:
        return []
    if record.parent != node.parent or not replica.may_show(record.shown, node.name, node.id):
        # It moved elsewhere, and not on this disk yet.
        seen = (place for place in record.locations if place.parent == node.parent)
        here = [place.id for place in seen if replica.may_show(place.name, node.name, node.id)]
        if here:
            return here
    return [place.id for place in _heads(record)]


def _heads(record: NodeRecord) -> list[Location]:
    replaced = {fact for place in record.locations for fact in place.replaces}
    return [place for place in record.locations if place.id not in replaced]
