"""A person's word on a conflict: a version that replaces all others; the engine's ordinary way does the rest.

No version names bytes that this disk does not hold for sure: what is chosen is what the file holds, or is first copied
to `.shoal/versions`. What goes is kept there by the engine, on every device.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import trio

from shoal.crdt.model import PERMISSIONS, Content, FileContent, NodeId, NodeView, Version
from shoal.crdt.tree import same_content
from shoal.node.changes import Committed, Create, DocChange, Resolve
from shoal.node.folder.disk import Disk, kind_of
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import LocalIndex, LocalNode
from shoal.node.folder.stash import Stash, Stashed
from shoal.node.replica import Replica

WAITS = 30.0  # seconds for the engine to be done with the file
CATCHES_UP = 5.0  # seconds for it to see what a person just saved


class Unresolved(Exception):
    """Nothing was changed; the message says why."""


class Resolver:
    """Settles conflicts of one folder. Its methods raise Unresolved, OSError and FileChanged."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        stash: Stash,
        busy: set[NodeId],
        look: Callable[[set[str]], None],
    ) -> None:
        """`busy`: the engine's; it leaves these nodes alone. `look`: has it look at paths."""
        self._disk = disk
        self._turns = turns
        self._root = root
        self._index = index
        self._replica = replica
        self._look = look
        self._stash = stash
        self._busy = busy

    async def catch_up(self, node: NodeId) -> None:
        """Have the engine see what a person just did to the file or its copies."""
        nodes = [node, *self._index.copies(node)]
        self._look({path for each in nodes if (path := self._index.path(each)) is not None})
        with trio.move_on_after(CATCHES_UP):
            while not all(self._is_as_known(each) for each in nodes):  # noqa: ASYNC110 - the engine does not say when
                await trio.sleep(0.02)

    def _is_as_known(self, node: NodeId) -> bool:
        record, path = self._index.get(node), self._index.path(node)
        if record is None or path is None:
            return True
        return self._disk.look_quietly(os.path.join(self._root, path)) == record.signature

    async def keep(self, node: NodeId, version: Version) -> None:
        """Have one of the competing versions be the file's."""
        async with self._held(node) as view:
            if version.id not in {head.id for head in self._replica.heads(node)} or version.content is None:
                raise Unresolved("the conflict changed meanwhile: look at it again")
            if self._is_in_place(view.id, version.content):
                self._commit(view, [], version.content, None)
            else:
                stashed = await self._stash_version(node, version)
                self._check_still(view)
                self._commit(view, [], version.content, stashed)

    async def keep_file(self, node: NodeId, path: str) -> None:
        """Have the content of any file on this disk be the file's."""
        async with self._held(node) as view:
            found = self._disk.look(path)
            if found is None or kind_of(found) != "file":
                raise Unresolved(f"{path} is no file")
            stashed = await self._turns.apart(self._stash.keep_file, node, path)
            self._check_still(view)
            was = view.version.content
            content = replace(stashed.content, mode=found.mode & PERMISSIONS)
            if isinstance(was, FileContent):
                content = replace(content, mode=was.mode, attributes=was.attributes)
            self._commit(view, [], content, stashed)

    async def keep_both(self, node: NodeId, name_of: Callable[[NodeView, set[str]], str]) -> list[str]:
        """Have every copy be a file of its own; return their names. `name_of`: a name for a copy that is not among
        the names there are."""
        async with self._held(node) as view:
            copies = self._replica.copies(node)
            if view.version.content is None or not self._is_in_place(node, view.version.content):
                raise Unresolved("the file is not all here yet: wait for it, or keep one version")
            for copy in copies:
                if copy.version.content is None or not self._is_in_place(copy.id, copy.version.content):
                    raise Unresolved(f"the copy {copy.name} is not here yet, or was just changed")
            taken = {child.name for child in self._replica.children(view.parent)}
            parent = self._index.path(view.parent)
            full = os.path.join(self._root, parent) if parent else self._root
            taken |= {name for name, _ in await self._turns.apart(self._disk.list_directory, full)}
            self._check_still(view)
            changes: list[DocChange] = []
            moved: list[LocalNode] = []
            for copy in copies:
                name = name_of(copy, taken)
                taken.add(name)
                record = self._index.get(copy.id)
                assert copy.version.content is not None
                assert record is not None
                changes.append(Create(view.parent, name, "file", copy.version.content))
                moved.append(record)
            self._commit(view, changes, view.version.content, None, moved)
            return [change.name for change in changes if isinstance(change, Create)]

    def _commit(
        self,
        view: NodeView,
        changes: list[DocChange],
        content: Content,
        stashed: Stashed | None,
        moved: Sequence[LocalNode] = (),
    ) -> None:
        """`moved`: the copies on disk that the first of the `changes` make files of their own."""
        heads = tuple(head.id for head in self._replica.heads(view.id))

        def record(results: list[Committed]) -> None:
            if stashed is not None:
                self._index.places.keep(stashed.name, stashed.content)
            for was, made in zip(moved, results, strict=False):  # what is on disk is the new file, to be renamed
                self._index.remove(was.id)
                self._index.put(replace(was, id=made.node, copy_of=None, version=made.version))
                self._replica.dirty.mark(made.node, 0)
            here = self._index.get(view.id)
            if here is not None and same_content(here.content, content):
                # The next change of it on disk is one of this version.
                self._index.put(replace(here, version=results[-1].version))

        self._replica.commit([*changes, Resolve(view.id, heads, content, chosen=True)], record)
        self._replica.changed()

    async def _stash_version(self, node: NodeId, version: Version) -> Stashed | None:
        """Keep a version's bytes, gathered from this disk, each chunk verified."""
        content = version.content
        if not isinstance(content, FileContent) or not content.size:
            return None
        for copy in self._replica.copies(node):
            if copy.version.id == version.id and self._is_in_place(copy.id, content):
                path = self._index.path(copy.id)
                assert path is not None
                stashed = await self._turns.apart(self._stash.keep_file, node, os.path.join(self._root, path))
                if stashed.content.chunks == content.chunks:
                    return stashed
                await self._turns.apart(self._stash.drop, stashed)
        raise Unresolved("that version is not here yet, or was just changed: wait for it, and try again")

    def _is_in_place(self, node: NodeId, content: Content) -> bool:
        """Return whether the node's file holds the content, as far as a look can tell."""
        record, path = self._index.get(node), self._index.path(node)
        if record is None or path is None or not same_content(record.content, content):
            return False
        return self._disk.look_quietly(os.path.join(self._root, path)) == record.signature

    def _check_still(self, view: NodeView) -> None:
        now = self._replica.view(view.id)
        if now is None or now.heads != view.heads:
            raise Unresolved("the conflict changed meanwhile: look at it again")

    @contextlib.asynccontextmanager
    async def _held(self, node: NodeId) -> AsyncIterator[NodeView]:
        """Have the engine leave the node alone in the block."""
        with trio.move_on_after(WAITS):
            while node in self._busy:  # noqa: ASYNC110 - the engine does not say when
                await trio.sleep(0.02)
        if node in self._busy:
            raise Unresolved("the file is being written just now: try again later")
        view = self._replica.view(node)
        if view is None or not view.conflicts:
            raise Unresolved("there is no conflict any more")
        self._busy.add(node)
        try:
            yield view
        finally:
            self._busy.discard(node)
            self._replica.changed()
