"""Choosing what of a folder this disk is to have, by path or by node, and finding what a path means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from shoal.crdt.model import ROOT, NodeId, NodeView
from shoal.node.folder.disk import Disk
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.selection import Selection
from shoal.node.replica import Replica


class NothingThere(Exception):
    """The document has nothing at that path; the message is the path's first part that is not there."""


class Chooser:
    """Changes one folder's selection, durably; `chosen` is called after each change."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        index: LocalIndex,
        replica: Replica,
        selection: Selection,
        chosen: Callable[[], None],
    ) -> None:
        self._disk = disk
        self._root = root
        self._index = index
        self._replica = replica
        self._selection = selection
        self._chosen = chosen

    def find(self, path: str) -> NodeId:
        """Return the node that the document shows at a relative path, ROOT for "". Names may be given as they are
        shown, with bytes that are not UTF-8 spelt out. Raises NothingThere."""
        node = ROOT
        done = ""
        for part in path.split("/") if path else ():
            done = f"{done}/{part}" if done else part
            view = self._replica.child_named(node, part) or self._spelt(node, part)
            if view is None:
                raise NothingThere(done)
            node = view.copy_of or view.id
        return node

    def choose(self, node: NodeId, wanted: bool) -> None:
        """Have a node and all that is in it on this disk, or leave it out; durable when this returns."""
        if wanted:
            self._forget_gone(node)
        self._selection.choose(node, wanted)
        if wanted:
            self._mark(node)
        self._write()

    def give_up(self, node: NodeId, mark: bytes) -> None:
        """Leave a node out, and what is on disk of it alone; durable when this returns, with the mark."""
        for record in self._index.subtree(node):
            self._index.remove(record.id)
        self._selection.choose(node, wanted=False)
        self._selection.mark(mark, node)
        self._write()

    def has_mark(self, mark: bytes) -> bool:
        """Return whether a node was given up with this mark."""
        return self._selection.has_mark(mark)

    def forget_mark(self, mark: bytes) -> None:
        """Have a mark be there no more."""
        self._selection.unmark(mark)
        self._write()

    def choose_path(self, path: str, wanted: bool) -> None:
        """Choose by path; one that the document does not show is a wish, until it does."""
        try:
            self.choose(self.find(path), wanted)
        except NothingThere:
            self._selection.wish(path, wanted)
            self._write()

    def end_wish(self, path: str) -> None:
        """Have a wish count no more."""
        self._selection.forget_wish(path)
        self._write()

    def resolve_wishes(self) -> None:
        """Make choices of the wishes for what the document shows by now."""
        for path, wanted in list(self._selection.wishes.items()):
            try:
                node = self.find(path)
            except NothingThere:
                continue
            self._selection.forget_wish(path)
            self.choose(node, wanted)

    def mark_children(self, folder: NodeId) -> None:
        """Stage that the engine looks at what is wanted in a folder that came to this disk, and is not on it: nobody
        told anything new of it."""
        if not self._selection.was_used:
            return
        for view in self._replica.children(folder):
            if view.copy_of is None and self._index.get(view.id) is None and self._is_wanted(view.id):
                self._replica.stage_dirty(view.id)

    def follow(self, nodes: Iterable[NodeId]) -> bool:
        """Follow what the document says anew of some nodes: a folder that was there already when it came to be wanted
        gets what is in it. Return whether something was moved to where nothing is wanted here: it is to leave."""
        strayed = False
        for node in nodes if self._selection.was_used else ():
            record = self._index.get(node)
            if record is not None and not self._selection.wants(node):
                self._selection.strayed(node)
                strayed = True
            elif record is not None and record.kind == "dir":
                self.mark_children(node)
        return strayed

    def _is_wanted(self, node: NodeId) -> bool:
        return self._selection.wants(node) or self._selection.leads_on(node)

    def _mark(self, node: NodeId) -> None:
        """Stage that the engine looks at a node, and at what is in it as far as the folders are on disk; into others
        it looks as they are made."""
        queue = [node]
        while queue:
            each = queue.pop()
            if each != ROOT:
                self._replica.stage_dirty(each)
                record = self._index.get(each)
                if record is None or record.kind != "dir":
                    continue
            queue += [view.id for view in self._replica.children(each) if view.copy_of is None]

    def _forget_gone(self, node: NodeId) -> None:
        """Stage that what is left out and gone is not on disk: once it is wanted, that would be a deletion."""
        for child in [node] if node != ROOT else list(self._index.children(ROOT).values()):
            for record in self._index.subtree(child):
                path = self._index.path(record.id)
                if path is None or self._selection.wants(record.id):
                    continue
                if self._disk.look_quietly(os.path.join(self._root, path)) is None:
                    self._index.remove(record.id)

    def _write(self) -> None:
        try:
            self._index.commit(sync=True)
        except BaseException:
            self._selection.load()
            self._replica.dirty.load()
            raise
        self._chosen()

    def _spelt(self, parent: NodeId, part: str) -> NodeView | None:
        if "\\x" not in part:
            return None
        return next((view for view in self._replica.children(parent) if spelt(view.name) == part), None)

    def left_out_paths(self) -> Iterator[str]:
        """Yield the paths that a choice leaves out, "" for all, with the wishes."""
        for node in self._selection.left_out():
            path = self.path(node)
            if path is not None:
                yield path
        yield from (path for path, wanted in self._selection.wishes.items() if not wanted)

    def path(self, node: NodeId) -> str | None:
        """Return where the document has a node, "" for ROOT, None where it does not show it."""
        parts: list[str] = []
        while node != ROOT:
            view = self._replica.view(node)
            if view is None:
                return None
            parts.append(view.name)
            node = view.parent
        return "/".join(reversed(parts))


def spelt(name: str) -> str:
    """Return a name with the bytes that are not UTF-8 spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
