"""What a folder's document knows of the past: who did what to which file, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import trio

from shoal.crdt.document import SHARDS
from shoal.crdt.history import Past, by_time
from shoal.crdt.model import ROOT, DeviceId, DirContent, Fact, FactId, FileContent, Location, NodeId, Version
from shoal.crdt.rewind import TOGETHER_MS
from shoal.crdt.tree import Tree, same_content
from shoal.node.replica import Replica

Act = Literal["created", "edited", "touched", "deleted", "moved", "restored"]


@dataclass(frozen=True, slots=True)
class Event:
    """One fact as a person sees it. `version`: the content from then on, None for a move; `path`: where the file is
    now, or was last; `was`: where it was before a move."""

    node: NodeId
    fact: FactId
    time_ms: int
    device: DeviceId
    act: Act
    path: str
    version: Version | None
    was: str = ""


class History:
    """Reads the past of one folder."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    @property
    def _tree(self) -> Tree:
        return self._replica.tree

    def nodes_at(self, path: str) -> list[NodeId]:
        """Return the nodes that are at a relative path, or were there last: those that live first, then by time."""
        nodes = [ROOT]
        for part in path.split("/") if path else ():
            nodes = [child for parent in nodes for child in self._named(parent, part)]
        return nodes

    def _named(self, parent: NodeId, name: str) -> list[NodeId]:
        shown = self._replica.child_named(parent, name)
        first = [shown.copy_of or shown.id] if shown is not None else []
        others = [node for node in self._tree.index.named(parent, name) if node not in first]
        return first + sorted(others, key=lambda node: (self._tree.view(node) is None, -self._latest(node)))

    def _latest(self, node: NodeId) -> int:
        record = self._tree.index.get(node)
        return max((head.lamport for head in record.heads), default=0) if record is not None else 0

    def path_of(self, node: NodeId) -> str:
        """Return where a node is, or was last; "" for the root."""
        parts: list[str] = []
        while node != ROOT and len(parts) < 4096:
            record = self._tree.index.get(node)
            if record is None or record.parent is None:
                break
            parts.append(record.shown or record.name)
            node = record.parent
        return "/".join(reversed(parts))

    def events(self, nodes: list[NodeId], now_ms: int) -> list[Event]:
        """Return what happened to some nodes, newest first."""
        found = [event for node in nodes for event in self._events_of(node, self._replica.facts_of(node), now_ms)]
        return sorted(found, key=lambda event: event.time_ms, reverse=True)

    async def events_inside(self, top: NodeId, now_ms: int) -> list[Event]:
        """Return what happened to a folder and all that is or was in it, newest first."""
        inside = self._inside(top)
        found: list[Event] = []
        async for node, facts in self.facts():
            if node in inside:
                found += self._events_of(node, facts, now_ms)
        return sorted(found, key=lambda event: event.time_ms, reverse=True)

    async def last_deletions(self, top: NodeId, now_ms: int) -> list[Event]:
        """Return what was deleted last, in one go, in a folder, and is gone still; parents before what is in them."""
        inside = self._inside(top)
        gone: list[Event] = []
        async for node, facts in self.facts():
            if node in inside and self._tree.view(node) is None:
                deletions = [e for e in self._events_of(node, facts, now_ms) if e.act == "deleted"]
                gone += [max(deletions, key=lambda event: event.time_ms)] if deletions else []
        gone.sort(key=lambda event: event.time_ms, reverse=True)
        group = gone[:1]
        for later, event in pairwise(gone):
            if later.time_ms - event.time_ms > TOGETHER_MS:
                break
            group += [event] if event.device == gone[0].device else []
        return sorted(group, key=lambda event: event.path.count("/"))

    async def tree_at(self, at_ms: int, now_ms: int) -> Tree:
        """Return the tree as it stood at a time."""
        past = Past(at_ms, now_ms)
        async for node, facts in self.facts():
            past.add(node, facts)
        return past.tree()

    async def facts(self) -> AsyncIterator[tuple[NodeId, list[Fact]]]:
        """Yield every node with all of its facts."""
        for shard in range(SHARDS):
            for node, facts in self._replica.facts_by_node(shard).items():
                yield node, facts
            await trio.lowlevel.checkpoint()

    def _inside(self, top: NodeId) -> set[NodeId]:
        found = {top}
        queue = [top]
        while queue:
            for node in self._tree.index.children(queue.pop()):
                if node not in found:
                    found.add(node)
                    queue.append(node)
        return found

    def _events_of(self, node: NodeId, facts: list[Fact], now_ms: int) -> list[Event]:
        events: list[Event] = []
        path = self.path_of(node)
        version: Version | None = None
        place: Location | None = None
        for time_ms, fact in by_time(facts, now_ms):
            if isinstance(fact, Version):
                act = _act(version, fact)
                if not (act == "touched" and isinstance(fact.content, DirContent)):
                    events.append(Event(node, fact.id, time_ms, fact.device, act, path, fact))
                version = fact
            else:
                if place is not None and (place.parent, place.name) != (fact.parent, fact.name):
                    was = "/".join(filter(None, (self.path_of(place.parent), place.name)))
                    events.append(Event(node, fact.id, time_ms, fact.device, "moved", path, None, was))
                place = fact
        return events


def _act(before: Version | None, now: Version) -> Act:
    if now.content is None:
        return "deleted"
    if before is None:
        return "created"
    if before.content is None:
        return "restored"
    return "touched" if same_content(before.content, now.content) else "edited"


def size_of(version: Version | None) -> int | None:
    """Return a version's size in bytes; None where it has none."""
    return version.content.size if version is not None and isinstance(version.content, FileContent) else None
