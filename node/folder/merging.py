"""Conflicts that need no person: what `rivals` says has nothing to add is dropped, texts are merged where it is clean.

Two devices that do so at once write like content, which is no conflict. What cannot be decided here is left as it is:
another device may know more, and has the same rules.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

from shoal.crdt.model import Content, FactId, FileContent, NodeId, NodeView
from shoal.crdt.rivals import Mergeable, Stands, alike, judge, merged_meta
from shoal.crdt.tree import same_content, version_order
from shoal.node.changes import Committed, Resolve
from shoal.node.folder.contents import Contents
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.stash import Stash, Stashed
from shoal.node.merge3 import MAX_TEXT, is_text, merge
from shoal.node.replica import Replica

Outcome = Literal["merged", "dropped", "left"]
_Heads = tuple[tuple[FactId, ...], int]


class Merger:
    """Settles what it can of one folder's conflicts."""

    def __init__(self, turns: DiskTurns, index: LocalIndex, replica: Replica, contents: Contents, stash: Stash) -> None:
        self._turns = turns
        self._index = index
        self._replica = replica
        self._contents = contents
        self._stash = stash
        self._tried: dict[NodeId, _Heads] = {}

    def wants(self, node: NodeId) -> bool:
        """Return whether to try: there is a conflict, and other heads, or more of their bytes, than the last time."""
        if node not in self._replica.conflicted:
            self._tried.pop(node, None)
            return False
        return self._tried.get(node) != self._heads(node)

    async def settle(self, node: NodeId) -> Outcome:
        """Do one step towards one head, if any can be done. Raises OSError."""
        self._tried[node] = self._heads(node)
        view = self._replica.view(node)
        if view is None:
            return "left"
        for loser in view.conflicts:
            match judge(view.version, loser, partial(self._replica.version, node)):
                case Stands(_, dropped):
                    self._resolve(node, alike(dropped.content, self._replica.heads(node)), None, None)
                    return "dropped"
                case Mergeable() as pair if await self._merge(view, pair):
                    return "merged"
        return "left"

    def fold_twin(self, node: NodeId) -> bool:
        """Have a file that stands aside for another of its name and content be that one; return whether it was so.

        The other gets a version of its own, so that it outlives a deletion that knew nothing of the twin."""
        record = self._replica.tree.index.get(node)
        if record is None or record.kind != "file" or record.shown == record.name or record.parent is None:
            return False
        twin, first = self._replica.view(node), self._replica.child_named(record.parent, record.name)
        if twin is None or first is None or first.kind != "file" or first.copy_of is not None:
            return False
        content = first.version.content
        if {node, first.id} & self._replica.conflicted or not same_content(twin.version.content, content):
            return False
        here = [each for each in map(self._index.get, (first.id, node)) if each is not None]
        if content is None or not any(same_content(each.content, content) for each in here):
            return False  # nothing says that the bytes are anywhere

        def note(results: list[Committed]) -> None:
            for each in here:
                if each.id == first.id and same_content(each.content, content):
                    self._index.put(replace(each, version=results[0].version))

        heads = [tuple(head.id for head in self._replica.heads(each)) for each in (first.id, node)]
        one = Resolve(first.id, heads[0], content, chosen=False)
        self._replica.commit([one, Resolve(node, heads[1], None, chosen=False)], note)
        return True

    async def _merge(self, view: NodeView, pair: Mergeable) -> bool:
        versions = (pair.base, pair.one, pair.other)
        base, one, other = (version.content for version in versions)
        if not (isinstance(base, FileContent) and isinstance(one, FileContent) and isinstance(other, FileContent)):
            return False
        if max(base.size, one.size, other.size) > MAX_TEXT:
            return False
        texts = [text for text in await self._contents.whole((base, one, other)) if text is not None and is_text(text)]
        if len(texts) < 3:
            return False
        merged = await self._turns.apart(merge, *texts)
        if merged is None or not is_text(merged):
            return False
        stashed = await self._turns.apart(self._stash.keep, view.id, merged)
        heads = self._replica.heads(view.id)
        if not {pair.one.id, pair.other.id} <= {head.id for head in heads}:  # somebody was quicker
            await self._turns.apart(self._stash.drop, stashed)
            return False
        mode, mtime_ns = merged_meta(base, one, other)
        first = one if version_order(pair.one) > version_order(pair.other) else other
        content = replace(first, size=stashed.content.size, chunks=stashed.content.chunks, mode=mode, mtime_ns=mtime_ns)
        self._resolve(view.id, (*alike(one, heads), *alike(other, heads)), content, stashed)
        return True

    def _resolve(
        self, node: NodeId, replaces: tuple[FactId, ...], content: Content | None, stashed: Stashed | None
    ) -> None:
        def record(results: list[Committed]) -> None:
            if stashed is not None:
                self._index.places.keep(stashed.name, stashed.content)

        self._replica.commit([Resolve(node, replaces, content, chosen=False)], record)

    def _heads(self, node: NodeId) -> _Heads:
        return tuple(sorted(head.id for head in self._replica.heads(node))), len(self._index.copies(node))
