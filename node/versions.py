"""What a person can ask of the past, by path, version and time: history, restore, undo."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace

from shoal.crdt.model import ROOT, Content, FileContent, LinkContent, NodeId, NodeView, Version
from shoal.crdt.rewind import Rewind, rewind
from shoal.crdt.tree import Tree, same_content
from shoal.node.errors import UserError
from shoal.node.folder.local import PRIVATE
from shoal.node.history import Event, History
from shoal.node.restore import Restored, Restorer
from shoal.node.runtime import FolderRuntime

NONE_AT = "it was not there at that time"


class Versions:
    """The past of one folder that is kept here. Paths are relative to it. Every method raises UserError."""

    def __init__(self, folder: FolderRuntime, now_ms: Callable[[], int], has_peers: Callable[[], bool]) -> None:
        self._folder = folder
        self._replica = folder.replica
        self._now_ms = now_ms
        self._history = History(folder.replica)
        self._restorer = Restorer(folder.replica, folder.engine, folder.fetch, has_peers)

    async def history(self, path: str) -> list[Event]:
        """Return what happened to a file; to a folder and all that is or was in it; newest first."""
        nodes = self._nodes(path)
        if self._is_folder(nodes[0]):
            return await self._history.events_inside(nodes[0], self._now_ms())
        return self._history.events(nodes, self._now_ms())

    def is_here(self, version: Version) -> bool:
        """Return whether all bytes of a version should be on this disk."""
        if not isinstance(version.content, FileContent):
            return True
        sources = self._folder.engine.index.sources
        return all(next(sources(chunk), None) is not None for chunk, _ in version.content.refs())

    def is_current(self, event: Event) -> bool:
        """Return whether an event's version is what the file holds now."""
        view = self._replica.view(event.node)
        return view is not None and event.version is not None and view.version.id == event.version.id

    async def restore(
        self, path: str, version: str | None, at_ms: int | None, to: str | None, *, exact: bool = False
    ) -> Restored:
        """Bring back what was at `path`: the version whose id begins with `version`, or what was there at a time; with
        neither, what was deleted there. `to`: an absolute path to write it to, in place of where it was. `exact`: what
        came into the folder since then goes."""
        if to is not None:
            _check_target(to)
        if at_ms is not None and version is None:
            return await self._restore_time(path, at_ms, to, exact=exact)
        nodes = self._nodes(path)
        if self._is_folder(nodes[0]) and version is None and self._replica.view(nodes[0]) is None:
            return await self._restore_deleted_folder(nodes[0], to)
        files = [node for node in nodes if not self._is_folder(node)]
        if not files or (version is None and files[0] != nodes[0]):
            raise UserError("which-time", f"{path or 'it'} is a folder", "say which time is meant: --at TIME", 2, 400)
        found = self._chosen(path, files, version)
        assert found.content is not None
        if to is not None:
            return _whole(path, await self._restorer.write_out(found.content, to))
        return _whole(path, await self._restorer.put_back(files[0], found))

    async def undo(self, path: str, *, dry_run: bool = False) -> tuple[list[Event], Restored]:
        """Bring back what was deleted last in a folder, in one go; return what that was, and what came of it."""
        top = self._nodes(path)[0]
        gone = await self._history.last_deletions(top, self._now_ms())
        if not gone:
            raise UserError(
                "nothing-deleted", "nothing that was deleted there is gone still", "see: shoal history PATH"
            )
        if dry_run:
            return gone, Restored((), ())
        return gone, await self._restorer.revive(event.node for event in gone)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _nodes(self, path: str) -> list[NodeId]:
        nodes = self._history.nodes_at(path)
        if not nodes:
            hint = "see what there was: shoal history FOLDER"
            raise UserError("unknown-path", f"nothing is or was at {path!r} in {self._folder.entry.name!r}", hint)
        return nodes

    def _is_folder(self, node: NodeId) -> bool:
        record = self._replica.tree.index.get(node)
        return node == ROOT or (record is not None and record.kind == "dir")

    def _chosen(self, path: str, nodes: Iterable[NodeId], prefix: str | None) -> Version:
        nodes = list(nodes)
        versions = [fact for node in nodes for fact in self._replica.facts_of(node) if isinstance(fact, Version)]
        whole = [version for version in versions if isinstance(version.content, (FileContent, LinkContent))]
        if prefix is None and whole:
            if self._replica.view(nodes[0]) is not None:
                hint = "say which version: --version ID or --at TIME; see: shoal history PATH"
                raise UserError("which-version", f"{path} is there", hint, 2, 400)
            return max(whole, key=lambda version: (version.lamport, version.device, version.id))
        found = [version for version in whole if version.id.hex().startswith((prefix or "").lower())]
        if len(found) != 1:
            what = "no version" if not found else f"{len(found)} versions"
            raise UserError(
                "no-such-version", f"{path} has {what} {prefix or ''}".rstrip(), "see: shoal history PATH", 2, 404
            )
        return found[0]

    async def _restore_deleted_folder(self, node: NodeId, to: str | None) -> Restored:
        """Bring a deleted folder back with what was deleted along with it: as it was right before."""
        events = await self._history.events_inside(node, self._now_ms())
        deleted = max((e.time_ms for e in events if e.act == "deleted" and e.node == node), default=0)
        first = min((e.time_ms for e in events if e.act == "deleted" and deleted - e.time_ms < 60_000), default=deleted)
        return await self._restore_tree(node, first - 1, to, exact=False)

    async def _restore_time(self, path: str, at_ms: int, to: str | None, *, exact: bool) -> Restored:
        old = await self._history.tree_at(at_ms, self._now_ms())
        view = _view_at(old, path)
        top = view.id if view is not None else ROOT
        if view is None and path:
            top = next((node for node in self._history.nodes_at(path) if old.view(node) is not None), ROOT)
            view = old.view(top)
            if view is None:
                raise UserError("not-there-then", f"{path}: {NONE_AT}", "see: shoal history PATH", 1, 404)
        if view is None or view.kind == "dir":
            return await self._restore_with(old, top, to, exact=exact)
        assert view.version.content is not None
        if to is not None:
            return _whole(path, await self._restorer.write_out(view.version.content, to))
        # What is a folder by now stays one: the file comes back beside it.
        files = [node for node in self._history.nodes_at(path) if not self._is_folder(node)] or [top]
        now = self._replica.view(files[0])
        if now is not None and _is_same(now, view.version.content):
            return Restored((), ())
        return _whole(path, await self._restorer.put_back(files[0], view.version))

    async def _restore_tree(self, top: NodeId, at_ms: int, to: str | None, *, exact: bool) -> Restored:
        return await self._restore_with(await self._history.tree_at(at_ms, self._now_ms()), top, to, exact=exact)

    async def _restore_with(self, old: Tree, top: NodeId, to: str | None, *, exact: bool) -> Restored:
        if to is not None:
            return await self._restorer.write_out_tree(old, top, to)
        plan: Rewind = rewind(old, self._replica.tree, top)
        if not exact:
            plan = replace(plan, newer=())
        return await self._restorer.bring_back(plan, exact=exact)


def _view_at(tree: Tree, path: str) -> NodeView | None:
    parent, view = ROOT, None
    for part in path.split("/") if path else ():
        view = next((child for child in tree.children(parent) if child.name == part), None)
        if view is None:
            return None
        parent = view.id
    return view


def _is_same(view: NodeView, content: Content) -> bool:
    return same_content(view.version.content, content)


def _whole(path: str, restored: Restored) -> Restored:
    if restored.lacking:
        raise UserError(
            "bytes-lacking",
            f"no device that is connected has the bytes of that version of {path}",
            "connect the others, or choose another version: shoal history PATH",
        )
    return restored


def _check_target(path: str) -> None:
    hint = "give a free path: --to PATH"
    try:
        fits = b"\0" not in os.fsencode(path) and os.path.isabs(path)
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise UserError("bad-path", f"{path!r} is no absolute path", hint, 2, 400)
    if PRIVATE in os.path.realpath(path).split("/"):
        raise UserError("bad-path", f"{path} is inside a folder's {PRIVATE}, which is Shoal's own", hint, 2, 400)


def locate(folders: Iterable[FolderRuntime], path: str) -> tuple[FolderRuntime, str]:
    """Return the folder that an absolute path is in, and the path in it. Raises UserError."""
    try:
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        whole = os.path.realpath(path)
    except ValueError:
        raise UserError("bad-path", f"{path!r} cannot be a path", "give the path of a file", 2, 400) from None
    for folder in folders:
        root = folder.engine.root
        if whole == root:
            return folder, ""
        if real.startswith(root + "/"):
            return folder, real.removeprefix(root + "/")
    raise UserError("not-in-a-folder", f"{path} is in no folder that is kept here", "see: shoal folder list", 1, 404)
