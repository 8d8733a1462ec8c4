"""Brings versions of the past back: into the folder, as changes that everyone follows, or into a place of their own.

The bytes come first: from kept versions on this disk, else from devices that kept them; they are on this disk before
anything is said of it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from shoal.crdt.model import (
    ROOT,
    Content,
    DirContent,
    FileContent,
    LinkContent,
    NodeId,
    Version,
)
from shoal.crdt.rewind import Back, Rewind, revival
from shoal.crdt.tree import Tree
from shoal.node.changes import Delete, DocChange, Edit, Move
from shoal.node.errors import UserError
from shoal.node.folder.arriving import Fetch, Landed
from shoal.node.folder.disk import Disk
from shoal.node.folder.engine import FolderEngine
from shoal.node.folder.linux import Linux
from shoal.node.history import History
from shoal.node.replica import Replica

GROUP = 500  # nodes brought back in one batch
GROUP_BYTES = 256 * 1024 * 1024
PATIENCE = 30.0  # seconds that a device may be silent before what it was asked for counts as lacking


@dataclass(frozen=True, slots=True)
class Restored:
    """`paths`: what came back; `lacking`: what did not, as no device that is connected has its bytes; `removed`: what
    was newer and went."""

    paths: tuple[str, ...]
    lacking: tuple[str, ...]
    removed: tuple[str, ...] = ()


class Restorer:
    """Restores in one folder. `has_peers`: whether any other device is connected."""

    def __init__(self, replica: Replica, engine: FolderEngine, fetch: Fetch, has_peers: Callable[[], bool]) -> None:
        self._replica = replica
        self._engine = engine
        self._fetch = fetch
        self._has_peers = has_peers
        self._history = History(replica)

    async def revive(self, nodes: Iterable[NodeId]) -> Restored:
        """Bring deleted nodes back, parents before what is in them."""
        backs: dict[NodeId, list[Back]] = {}
        for node in nodes:
            for each in [*self._dead_above(node), node]:
                if each not in backs:
                    backs[each] = self._revival(each)
        return await self.bring_back(Rewind(tuple(back for each in backs.values() for back in each), ()))

    async def put_back(self, node: NodeId, version: Version) -> Restored:
        """Have a file hold again what it held in a version; a deleted one is back then."""
        view, record = self._replica.view(node), self._replica.tree.index.get(node)
        assert record is not None
        assert (record.kind == "dir") == isinstance(version.content, DirContent)  # else it would be a deletion
        above = [back for each in self._dead_above(node) for back in self._revival(each)]
        heads = [view.version] if view is not None else list(record.heads)
        base = max(heads, key=lambda head: (head.lamport, head.device, head.id)).id
        return await self.bring_back(Rewind((*above, Back(node, version.content, base, None)), ()))

    async def bring_back(self, rewind: Rewind, *, exact: bool = False) -> Restored:
        """Carry a rewind out. `exact`: what is newer goes, too; its content is kept as that of any deleted file."""
        paths: list[str] = []
        lacking: list[str] = []
        group = [b for first in rewind.back[:1] for dead in self._dead_above(first.node) for b in self._revival(dead)]
        size = 0
        for back in rewind.back:
            group.append(back)
            size += back.content.size if isinstance(back.content, FileContent) else 0
            if len(group) >= GROUP or size >= GROUP_BYTES:
                await self._bring_group(group, paths, lacking)
                group, size = [], 0
        await self._bring_group(group, paths, lacking)
        removed = [self._history.path_of(node) for node in rewind.newer] if exact else []
        if exact and rewind.newer:
            views = [view for node in rewind.newer if (view := self._replica.view(node)) is not None]
            self._replica.commit_wanted([Delete(view.id, view.version.id) for view in views])
        return Restored(tuple(paths), tuple(lacking), tuple(removed))

    async def _bring_group(self, group: Sequence[Back], paths: list[str], lacking: list[str]) -> None:
        chunks = b"".join(back.content.chunks for back in group if isinstance(back.content, FileContent))
        gone = await self._gather(chunks)
        changes: list[DocChange] = []
        for back in group:
            path = self._history.path_of(back.node)
            if (
                gone
                and isinstance(back.content, FileContent)
                and any(chunk in gone for chunk, _ in back.content.refs())
            ):
                lacking.append(path)
                continue
            if back.content is not None:
                changes.append(Edit(back.node, back.content, back.base))
            if back.place is not None:
                changes.append(Move(back.node, *back.place))
            if paths[-1:] != [path]:  # of a conflict, both came back
                paths.append(path)
        if changes:
            self._replica.commit_wanted(changes)

    async def _gather(self, chunks: bytes) -> set[bytes]:
        """Have chunks on this disk; return those that are not to be had."""
        if not chunks:
            return set()
        name = f"{os.urandom(16).hex()}-restored"
        return set(await self._engine.keeper.gather(name, chunks, self._engine.read_chunks, self._fetch_patiently))

    async def _fetch_patiently(
        self, wants: Sequence[tuple[bytes, int]], sink: Callable[[Landed], Awaitable[None]], priority: int
    ) -> list[bytes]:
        if not self._has_peers():
            return [chunk for chunk, _ in wants]
        left = {chunk for chunk, _ in wants}

        async def landed(chunks: Landed) -> None:
            scope.deadline = float("inf")
            await sink(chunks)
            left.difference_update(chunk for chunk, _ in chunks)
            scope.deadline = trio.current_time() + PATIENCE

        with trio.move_on_after(PATIENCE) as scope:
            return await self._fetch(wants, landed, priority)
        return sorted(left)

    def _dead_above(self, node: NodeId) -> list[NodeId]:
        """Return the deleted folders that a node is in, outermost first."""
        found: list[NodeId] = []
        record = self._replica.tree.index.get(node)
        while record is not None and record.parent not in (None, ROOT) and record.parent not in found:
            assert record.parent is not None
            if self._replica.view(record.parent) is None:
                found.append(record.parent)
            record = self._replica.tree.index.get(record.parent)
        return found[::-1]

    def _revival(self, node: NodeId) -> list[Back]:
        versions = [fact for fact in self._replica.facts_of(node) if isinstance(fact, Version)]
        return revival(self._replica.tree, node, versions)

    # -- elsewhere ---------------------------------------------------------------------------------------------------

    async def write_out(self, content: Content, target: str) -> Restored:
        """Write a version to a path that is free. Raises UserError."""
        return await self._write_all([("", content)], target)

    async def write_out_tree(self, old: Tree, top: NodeId, target: str) -> Restored:
        """Write what was in a folder to a path that is free. Raises UserError."""
        view = old.view(top)
        found: list[tuple[str, Content]] = [
            ("", view.version.content or DirContent(0o755) if view else DirContent(0o755))
        ]
        queue = [(top, "")]
        while queue:
            node, path = queue.pop(0)
            for child in old.children(node):
                assert child.version.content is not None
                inside = f"{path}/{child.name}" if path else child.name
                found.append((inside, child.version.content))
                queue += [(child.id, inside)] if child.kind == "dir" else []
        return await self._write_all(found, target)

    async def _write_all(self, contents: Sequence[tuple[str, Content]], target: str) -> Restored:
        disk = Disk(Linux())
        if disk.look_quietly(target) is not None:
            raise UserError("target-exists", f"there is something at {target} already", "choose a path that is free")
        gone = await self._gather(b"".join(c.chunks for _, c in contents if isinstance(c, FileContent)))
        paths: list[str] = []
        lacking: list[str] = []
        try:
            for inside, content in contents:
                path = os.path.join(target, inside) if inside else target
                if isinstance(content, DirContent):
                    await trio.to_thread.run_sync(disk.make_folder, path, DirContent(content.mode | 0o700))
                elif isinstance(content, FileContent) and any(chunk in gone for chunk, _ in content.refs()):
                    lacking.append(inside or target)
                    continue
                else:
                    await self._write_one(disk, content, path)
                paths.append(inside or target)
        except OSError as error:
            raise UserError(
                "cannot-write", f"cannot write {target}: {error.strerror}", "choose another place"
            ) from error
        return Restored(tuple(paths), tuple(lacking))

    async def _write_one(self, disk: Disk, content: FileContent | LinkContent, path: str) -> None:
        temporary = f"{path}.{os.urandom(4).hex()}.part"
        try:
            refs = list(content.refs()) if isinstance(content, FileContent) else []
            at = 0
            while refs:
                pieces = await self._engine.read_chunks([chunk for chunk, _ in refs])
                for piece, (_, length) in zip(pieces, refs, strict=False):
                    if piece is None:
                        raise OSError(5, "its bytes were lost in this very moment")
                    await trio.to_thread.run_sync(disk.write_piece, temporary, at, piece)
                    at += length
                del refs[: len(pieces)]
            await trio.to_thread.run_sync(disk.finish_temporary, temporary, content)
            await trio.to_thread.run_sync(partial(disk.fs.sync_all, os.path.dirname(temporary)))
            disk.rename_new(temporary, path)
        except BaseException:
            disk.remove_quietly(temporary)
            raise
