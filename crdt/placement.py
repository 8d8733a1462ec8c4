"""Where nodes hang: the winner among a node's locations, and the breaking of cycles that concurrent moves make.

The winner is the head with the greatest (lamport, device, id). If winners form a cycle, then in each one the node whose
current location is the greatest falls back to its next-best location, at last to the root; repeated until there is
none. Cycles are disjoint, and what breaks one depends on its members alone, so the outcome is a function of the set
of facts, in whatever order they came and the cycles were met.
"""

from __future__ import annotations

from collections.abc import Iterable

from shoal.crdt.model import ROOT, DeviceId, FactId, Location, NodeId
from shoal.crdt.tree_index import NodeRecord, TreeIndex


def order(fact: Location) -> tuple[int, DeviceId, FactId]:
    """Return what competing facts are compared by."""
    return fact.lamport, fact.device, fact.id


def candidates(record: NodeRecord) -> list[Location]:
    """Return the places a node may have, best first; the last resort, the root, is not among them."""
    replaced = {fact for location in record.locations for fact in location.replaces}
    return sorted(record.locations, key=lambda place: (place.id not in replaced, *order(place)), reverse=True)


class Placement:
    """Settles the places of changed nodes over an index, without touching it: `places` is the outcome."""

    def __init__(self, index: TreeIndex, fresh: dict[NodeId, NodeRecord]) -> None:
        """`fresh`: records changed in this batch, which stand before those in the index."""
        self._index = index
        self._fresh = fresh
        self._rank: dict[NodeId, int] = {}
        self.places: dict[NodeId, tuple[NodeId, str]] = {}

    def settle(self, nodes: Iterable[NodeId]) -> set[NodeId]:
        """Place `nodes` (those with changed locations, and all displaced ones); return the displaced."""
        settled = [node for node in nodes if (record := self._record(node)) is not None and record.locations]
        for node in settled:
            self._rank[node] = 0
            self._place(node)
        for node in settled:
            while cycle := self._cycle_from(node):
                worst = max(cycle, key=self._current_order)
                self._rank[worst] = self._rank.get(worst, 0) + 1
                self._place(worst)
        return {node for node, rank in self._rank.items() if rank > 0}

    def _record(self, node: NodeId) -> NodeRecord | None:
        return self._fresh.get(node) or self._index.get(node)

    def _place(self, node: NodeId) -> None:
        record = self._record(node)
        assert record is not None
        places = candidates(record)
        rank = self._rank[node]
        self.places[node] = (places[rank].parent, places[rank].name) if rank < len(places) else (ROOT, places[0].name)

    def _parent(self, node: NodeId) -> NodeId | None:
        if node in self.places:
            return self.places[node][0]
        record = self._record(node)
        return record.parent if record is not None else None

    def _cycle_from(self, start: NodeId) -> list[NodeId]:
        path: list[NodeId] = []
        seen: dict[NodeId, int] = {}
        node: NodeId | None = start
        while node is not None and node != ROOT:
            if node in seen:
                return path[seen[node] :]
            seen[node] = len(path)
            path.append(node)
            node = self._parent(node)
        return []

    def _current_order(self, node: NodeId) -> tuple[int, DeviceId, FactId]:
        record = self._record(node)
        assert record is not None
        return order(candidates(record)[self._rank.get(node, 0)])
