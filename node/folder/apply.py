"""From document to disk: makes, moves and removes what the document's dirty nodes ask for; content goes to `placing`.

Each step looks at what it is about to replace; where the disk is not as the synced tree says, the step is left, the
path is looked at as a person's change, and the node stays dirty.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import trio

from shoal.crdt.model import ROOT, DirContent, NodeId, NodeView
from shoal.crdt.tree import same_content
from shoal.node.folder import disk
from shoal.node.folder.ignore import IgnoreRules
from shoal.node.folder.local import PARKED, LocalIndex, LocalNode, Signature
from shoal.node.folder.placing import Placer
from shoal.node.folder.problems import Problems
from shoal.node.replica import Replica


@dataclass(slots=True)
class Steps:
    """What came of one round. `place`: files to be placed; `look`: paths to look at; `stuck`: nodes to try later."""

    place: list[NodeView] = field(default_factory=list)
    look: list[str] = field(default_factory=list)
    stuck: list[NodeId] = field(default_factory=list)
    done: list[NodeId] = field(default_factory=list)


class Applier:
    """The document-to-disk half of one folder."""

    def __init__(
        self, root: str, index: LocalIndex, replica: Replica, placer: Placer, rules: IgnoreRules, problems: Problems
    ) -> None:
        self._root = root
        self._index = index
        self._replica = replica
        self._placer = placer
        self._rules = rules
        self._problems = problems
        self._settling: set[NodeId] = set()
        self._checked: set[str] = set()  # folders found to be no links, until the next await

    async def apply(self, nodes: Iterable[NodeId], busy: set[NodeId]) -> Steps:
        """Do for `nodes` what can be done at once; `busy` ones are being placed and are left alone."""
        steps = Steps()
        removals: list[LocalNode] = []
        for count, node in enumerate(nodes):
            if count % 200 == 199:
                await trio.lowlevel.checkpoint()
            if node in busy:
                continue
            before = len(steps.look), len(steps.stuck), len(steps.place)
            for view, record in self._wishes(node):
                if view is None:
                    assert record is not None
                    removals.append(record)
                elif view.id not in busy:
                    self._guard(view, lambda v=view: self._settle(v, steps), steps)
            if before == (len(steps.look), len(steps.stuck), len(steps.place)):
                steps.done.append(node)
        await self._remove(removals, steps)
        unsettled = set(steps.stuck)
        steps.done = [node for node in steps.done if node not in unsettled]
        self._index.commit()
        return steps

    def _wishes(self, node: NodeId) -> list[tuple[NodeView | None, LocalNode | None]]:
        """Return what should be on disk for a node and its conflict copies, beside what is."""
        view = self._replica.view(node)
        record = self._index.get(node)
        if view is not None and view.copy_of is not None:
            return self._wishes(view.copy_of)
        if view is None and self._replica.is_waiting(node):
            return []
        copies = self._replica.tree.copies(node) if view is not None and view.conflicts else []
        kept = {copy.id for copy in copies}
        wishes: list[tuple[NodeView | None, LocalNode | None]] = []
        if view is not None or record is not None:
            wishes.append((view, record))
        wishes += [(copy, self._index.get(copy.id)) for copy in copies]
        stale = [self._index.get(copy) for copy in self._index.copies(node) if copy not in kept]
        return wishes + [(None, old) for old in stale if old is not None]

    def _guard(self, view: NodeView, step: object, steps: Steps) -> None:
        try:
            step()  # type: ignore[operator]
        except OSError as error:
            self._problems.report(self._path(view) or view.name, error, view.copy_of or view.id)
            steps.stuck.append(view.copy_of or view.id)

    def _settle(self, view: NodeView, steps: Steps) -> bool:
        """Bring one node to its place; return whether its place is right now."""
        if view.id in self._settling:
            return False
        self._settling.add(view.id)
        try:
            return self._settle_once(view, steps)
        finally:
            self._settling.discard(view.id)

    def _settle_once(self, view: NodeView, steps: Steps) -> bool:
        owner = view.copy_of or view.id
        if not self._have_parent(view.parent, steps):
            steps.stuck.append(owner)
            return False
        record = self._index.get(view.id)
        if record is None or (record.parent, record.name) != (view.parent, view.name):
            if record is not None and self._is_inside(view.parent, view.id):
                steps.stuck.append(owner)  # its new parent is still in it, and moves out first
                return False
            if not self._vacate(view, steps, check_disk=record is not None or view.kind == "dir"):
                steps.stuck.append(owner)
                return False
            if record is not None:
                record = self._move(record, view, steps)
                if record is None:
                    return False
        path = self._path(view)
        assert path is not None
        if record is None:
            if view.kind == "dir":
                return self._make_directory(view, path, steps)
            steps.place.append(view)
            return True
        self._settle_content(view, record, path, steps)
        return True

    def _settle_content(self, view: NodeView, record: LocalNode, path: str, steps: Steps) -> None:
        content = view.version.content
        if content is None or content == record.content:
            if record.version != view.version.id:
                self._index.put(replace(record, version=view.version.id))
            return
        if not (isinstance(content, DirContent) or same_content(content, record.content)):
            steps.place.append(view)
            return
        full = os.path.join(self._root, path)
        if not self._as_expected(full, record):
            steps.look.append(path)
            return
        disk.set_meta(full, content)
        signature = disk.look(full)
        assert signature is not None
        self._index.put(replace(record, version=view.version.id, content=content, signature=signature))

    def _is_inside(self, node: NodeId, folder: NodeId) -> bool:
        while node not in (ROOT, PARKED):
            if node == folder:
                return True
            record = self._index.get(node)
            if record is None:
                return False
            node = record.parent
        return False

    def _have_parent(self, parent: NodeId, steps: Steps) -> bool:
        if parent == ROOT or self._index.path(parent) is not None:
            return True
        view = self._replica.view(parent)
        return view is not None and view.kind == "dir" and self._settle(view, steps)

    def _vacate(self, view: NodeView, steps: Steps, *, check_disk: bool) -> bool:
        """Free the name that `view` is to have: its holder goes where it belongs, or is parked.

        With `check_disk` the name must also be free of what nobody has seen yet; placing a file sees to that itself.
        """
        path = self._path(view)
        assert path is not None
        holder = self._index.child(view.parent, view.name)
        if holder is not None and holder != view.id:
            record = self._index.get(holder)
            assert record is not None
            belongs = self._replica.view(holder)
            if belongs is None:
                self._remove_one(record, steps)
            elif (belongs.parent, belongs.name) == (view.parent, view.name):
                return False
            elif not self._settle(belongs, steps) and self._index.child(view.parent, view.name) == holder:
                self._park(record, steps)
            if self._index.child(view.parent, view.name) is not None:
                return False
        if check_disk and disk.look(os.path.join(self._root, path)) is not None:
            steps.look.append(path)  # something that nobody has seen yet
            return False
        return True

    def _move(self, record: LocalNode, view: NodeView, steps: Steps) -> LocalNode | None:
        path = self._path(view)
        assert path is not None
        old = self._index.path(record.id)
        if old is None:
            return None
        source = os.path.join(self._root, old)
        if not self._as_expected(source, record):
            steps.look.append(old)
            return None
        target = os.path.join(self._root, path)
        disk.guarded(self._root, [os.path.dirname(path)])
        disk.rename_new(source, target)
        disk.sync_directories({os.path.dirname(source), os.path.dirname(target)})
        signature = disk.look(target)
        assert signature is not None
        moved = replace(record, parent=view.parent, name=view.name, signature=signature, copy_of=view.copy_of)
        self._index.put(moved)
        self._index.commit()
        self._problems.clear(path)
        return moved

    def _park(self, record: LocalNode, steps: Steps) -> None:
        path = self._index.path(record.id)
        if path is None:
            return
        source = os.path.join(self._root, path)
        if not self._as_expected(source, record):
            steps.look.append(path)
            return
        # Recorded first: a crash right after finds it again by this record.
        parked = replace(record, parent=PARKED, name=record.id.hex())
        self._index.put(parked)
        self._index.commit(sync=True)
        disk.rename_new(source, self._parking(record))
        signature = disk.look(self._parking(record))
        if signature is not None:
            self._index.put(replace(parked, signature=signature))
        steps.stuck.append(record.id)

    def _parking(self, record: LocalNode) -> str:
        return os.path.join(self._root, disk.PRIVATE, "tmp", record.id.hex())

    def _make_directory(self, view: NodeView, path: str, steps: Steps) -> bool:
        full = os.path.join(self._root, path)
        disk.guarded(self._root, [os.path.dirname(path)])
        os.mkdir(full)
        content = view.version.content if isinstance(view.version.content, DirContent) else DirContent(0o755)
        os.chmod(full, content.mode)
        signature = disk.look(full)
        assert signature is not None
        self._index.put(
            LocalNode(view.id, view.parent, view.name, "dir", view.version.id, content, signature, view.copy_of)
        )
        self._problems.clear(path)
        return True

    async def _remove(self, removals: list[LocalNode], steps: Steps) -> None:
        files = [record for record in removals if record.kind == "file"]
        folders = [record for record in removals if record.kind == "dir"]
        for at in range(0, len(files), 100):
            group = files[at : at + 100]
            parents = {self._index.path(record.parent) for record in group} - {None}
            self._checked = {parent for parent in parents if parent is not None and self._is_real(parent)}
            for record in group:
                self._remove_one(record, steps)
            self._checked = set()
            await trio.lowlevel.checkpoint()
        depth = {record.id: (self._index.path(record.id) or "").count("/") for record in folders}
        for record in sorted(folders, key=lambda folder: depth[folder.id], reverse=True):
            self._remove_one(record, steps)

    def _remove_one(self, record: LocalNode, steps: Steps) -> None:
        if self._index.get(record.id) is None:
            return
        owner = record.copy_of or record.id
        path = self._index.path(record.id)
        if path is None:
            steps.stuck.append(owner)
            return
        full = os.path.join(self._root, path)
        try:
            found = disk.look(full)
            if found is None:
                self._index.remove(record.id)
                return
            if not _is_expected(found, record):
                steps.look.append(path)
                steps.stuck.append(owner)
                return
            if os.path.dirname(path) not in self._checked:
                disk.guarded(self._root, [os.path.dirname(path)])
            if record.kind == "dir":
                self._remove_directory(record, path, full, steps)
            else:
                os.rename(full, self._placer.kept_path(record))
                self._index.remove(record.id)
                self._problems.clear(path)
        except OSError as error:
            self._problems.report(path, error, owner)
            steps.stuck.append(owner)

    def _remove_directory(self, record: LocalNode, path: str, full: str, steps: Steps) -> None:
        if self._index.children(record.id):
            steps.stuck.append(record.id)  # what is in it goes, or moves, first
            return
        try:
            os.rmdir(full)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            unseen = [f"{path}/{name}" for name, _ in disk.list_directory(full)]
            fresh = [inside for inside in unseen if not self._rules.ignores(inside, is_dir=False)]
            if fresh:
                steps.look += fresh
            else:
                held = OSError("it was deleted elsewhere, but holds files that are ignored here")
                self._problems.report(path, held, record.id)
            steps.stuck.append(record.id)
            return
        self._index.remove(record.id)
        self._problems.clear(path)

    def _is_real(self, directory: str) -> bool:
        try:
            disk.guarded(self._root, [directory])
        except OSError:
            return False
        return True

    @staticmethod
    def _as_expected(full: str, record: LocalNode) -> bool:
        found = disk.look(full)
        return found is not None and _is_expected(found, record)

    def _path(self, view: NodeView) -> str | None:
        if view.parent == ROOT:
            return view.name
        parent = self._index.path(view.parent)
        return f"{parent}/{view.name}" if parent is not None else None


def _is_expected(found: Signature, record: LocalNode) -> bool:
    if record.kind == "dir":  # a folder's times change with what is in it
        return (found.device, found.inode) == (record.signature.device, record.signature.inode)
    return found == record.signature
