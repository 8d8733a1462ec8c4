"""What a folder has, as its document says, and what of it is on this disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shoal.crdt.model import ROOT, FileContent, LinkContent, NodeId, NodeView
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.selection import Selection
from shoal.node.replica import Replica

State = Literal["here", "coming", "remote", "partly", "leaving"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder. `path`: relative to the root, as on disk. `size` in bytes, 0 of folders and links.

    here: on this disk; coming: wanted, and not here yet; remote: left out here; partly: a folder of which a part is
    left out; leaving: left out, and here until another device is known to have it.
    """

    path: str
    kind: Literal["file", "dir", "link"]
    size: int
    mtime_ns: int
    state: State


@dataclass(frozen=True, slots=True)
class Share:
    """How much of what is wanted here is here."""

    files: int = 0
    bytes: int = 0
    here_files: int = 0
    here_bytes: int = 0

    def plus(self, size: int, is_here: bool) -> Share:
        """Return it with a file more, of `size` bytes."""
        here = self.here_files + is_here, self.here_bytes + size * is_here
        return Share(self.files + 1, self.bytes + size, *here)


class Lister:
    """Lists one folder."""

    def __init__(self, index: LocalIndex, replica: Replica, selection: Selection) -> None:
        self._index = index
        self._replica = replica
        self._selection = selection

    def entries(self, node: NodeId, path: str, *, deep: bool) -> Iterator[Entry]:
        """Yield what is in a folder whose path is `path`, by name, with `deep` also what is in its folders, each before
        what is in it; of a file, yield that file. The document may change in between."""
        parted = self._parted()
        for view, where in self._walk(node, path, deep=deep):
            yield self._entry(view, where, parted)

    def wanted(self, node: NodeId) -> Iterator[tuple[NodeView, bool]]:
        """Yield what is wanted here, of a file or of a folder and all in it, and whether each is here."""
        top = self._replica.view(node)
        if top is not None and top.kind == "dir":
            yield top, self._index.get(node) is not None
        for view, _ in self._walk(node, "", deep=True):
            if self._selection.wants(view.id):
                yield view, self._is_here(view)

    def _walk(self, node: NodeId, path: str, *, deep: bool) -> Iterator[tuple[NodeView, str]]:
        top = self._replica.view(node) if node != ROOT else None
        if top is not None and top.kind != "dir":
            yield from ((view, path) for view in [top, *self._replica.copies(node)])
            return
        queue = self._children(node, path)
        while queue:
            view, where = queue.pop()
            yield view, where
            if deep and view.kind == "dir":
                queue += self._children(view.id, where)

    def _children(self, node: NodeId, path: str) -> list[tuple[NodeView, str]]:
        views = sorted(self._replica.children(node), key=lambda view: view.name, reverse=True)
        return [(view, f"{path}/{view.name}" if path else view.name) for view in views]

    def _entry(self, view: NodeView, path: str, parted: set[NodeId]) -> Entry:
        content = view.version.content
        state = self._folder_state(view, parted) if view.kind == "dir" else self._file_state(view)
        if isinstance(content, FileContent):
            return Entry(path, "file", content.size, content.mtime_ns, state)
        if isinstance(content, LinkContent):
            return Entry(path, "link", 0, content.mtime_ns, state)
        return Entry(path, "dir", 0, 0, state)

    def _folder_state(self, view: NodeView, parted: set[NodeId]) -> State:
        is_here = self._index.get(view.id) is not None
        if not self._selection.wants(view.id):
            if self._selection.leads_on(view.id):
                return "partly"
            return "leaving" if is_here else "remote"
        if view.id in parted:
            return "partly"
        return "here" if is_here else "coming"

    def _file_state(self, view: NodeView) -> State:
        if not self._selection.wants(view.id):
            return "leaving" if self._index.get(view.id) is not None else "remote"
        return "here" if self._is_here(view) else "coming"

    def _is_here(self, view: NodeView) -> bool:
        record = self._index.get(view.id)
        return record is not None and (view.kind == "dir" or record.version == view.version.id)

    def _parted(self) -> set[NodeId]:
        """Return the folders that something is left out of."""
        found: set[NodeId] = set()
        for node in self._selection.left_out():
            view = self._replica.view(node)
            while view is not None and view.parent not in found:
                found.add(view.parent)
                view = self._replica.view(view.parent)
        return found
