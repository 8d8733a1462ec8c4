"""From document to disk: carries out what the planner decided; content goes to `placing`.

Each step looks at what it rests on before it changes anything; where the disk is not as the synced tree says, the step
is left, the path is looked at as a person's change, and the node is planned anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import trio

from shoal.crdt.model import ROOT, DirContent, FileContent, LinkContent, NodeId, NodeView
from shoal.node.changes import Committed
from shoal.node.folder.deletion import survivals
from shoal.node.folder.disk import Disk, is_same
from shoal.node.folder.ignore import IgnoreRules
from shoal.node.folder.local import PARKED, PARKING, LocalIndex, LocalNode
from shoal.node.folder.one_way import OneWay
from shoal.node.folder.placing import Placer
from shoal.node.folder.planner import (
    MakeFolder,
    Note,
    Park,
    Place,
    Remove,
    Rename,
    SetMeta,
    Step,
    Wait,
    owner_of,
    plan,
    refusal,
)
from shoal.node.folder.problems import Problems
from shoal.node.folder.selection import SelectedDocument
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica

REMOVALS_AT_ONCE = 400
STEPS_AT_ONCE = 100  # between two looks at whether anything else is to be done


@dataclass(slots=True)
class Steps:
    """What came of one round. `place`: files to be placed; `look`: paths to look at; `stuck`: nodes that something was
    in the way of; `waiting`: nodes that others have to go before."""

    place: list[NodeView] = field(default_factory=list)
    look: list[str] = field(default_factory=list)
    stuck: set[NodeId] = field(default_factory=set)
    waiting: list[NodeId] = field(default_factory=list)
    done: list[NodeId] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)  # folders: old path, new path


class Applier:
    """The document-to-disk half of one folder."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        index: LocalIndex,
        replica: Replica,
        placer: Placer,
        rules: IgnoreRules,
        problems: Problems,
        document: SelectedDocument,
        made_folder: Callable[[NodeId], None],
        one_way: OneWay,
    ) -> None:
        """`made_folder`: told of each folder that was made here, before that is committed."""
        self._disk = disk
        self._root = root
        self._index = index
        self._replica = replica
        self._document = document
        self._made_folder = made_folder
        self._one_way = one_way
        self._placer = placer
        self._rules = rules
        self._problems = problems
        self._asked: frozenset[NodeId] = frozenset()  # of which is known whether they stay, as of that generation
        self._kept = 0
        self._unsynced: dict[str, None] = {}  # folders to sync before the store may hear of what changed in them

    async def apply(self, nodes: Iterable[NodeId], busy: set[NodeId]) -> Steps:
        """Do for `nodes` what can be done at once; `busy` ones are being placed and are left alone."""
        with self._replica.dirty.marked_meanwhile() as marked:  # of those is not known here what is to be done
            steps = await self._apply([node for node in nodes if node not in busy], busy)
        if marked:
            steps.done = [node for node in steps.done if node not in marked]
        return steps

    async def _apply(self, asked: list[NodeId], busy: set[NodeId]) -> Steps:
        steps = Steps()
        self._keep_moved(record for node in asked if (record := self._index.get(node)) is not None)
        self._asked, self._kept = frozenset(asked), self._replica.generation
        todo = plan(asked, self._document, self._index, busy, self._index.fold)
        at = 0
        while at < len(todo):
            end = at + 1
            if _takes_a_file(todo[at]):  # many in a folder: it is looked up once, as no folder changes its name
                while end < len(todo) and end - at < REMOVALS_AT_ONCE and _takes_a_file(todo[end]):
                    end += 1
                with self._disk.fs.held():
                    for step in todo[at:end]:
                        self._do(step, steps)
            else:
                while end < len(todo) and end - at < STEPS_AT_ONCE and not _takes_a_file(todo[end]):
                    end += 1
                for step in todo[at:end]:
                    self._do(step, steps)
            at = end
            if at < len(todo):
                self._commit()  # another's commit may be rolled back meanwhile, and all that is staged with it
                await trio.lowlevel.checkpoint()
        steps.stuck |= {node for node in asked if self._owner(node) in steps.stuck}  # a copy is tried with its owner
        open_ones = {*steps.stuck, *steps.waiting, *(view.copy_of or view.id for view in steps.place)}
        steps.done = [node for node in asked if self._owner(node) not in open_ones]
        self._commit()
        return steps

    def _do(self, step: Step, steps: Steps) -> None:
        match step:
            case _ if owner_of(step) in steps.stuck:
                pass  # it rests on what could not be done; and while it is placed, it is not looked at
            case Rename(record, _) | Park(record) | Remove(record) if self._placer.is_filling(record.id):
                steps.waiting.append(owner_of(step))
            case Place(view):
                steps.place.append(view)
            case Wait(node):
                self._explain(node)
                steps.waiting.append(node)
            case _:
                self._try(step, steps)

    def _keep_moved(self, records: Iterable[LocalNode]) -> bool:
        """Say of what was deleted by who did not know where it is by now that it stays; return whether any does."""
        edits = list(survivals(self._replica, records)) if self._one_way.has_a_say else []

        def note(done: Sequence[Committed]) -> None:
            for edit, committed in zip(edits, done, strict=True):
                record = self._index.get(edit.node)
                if record is not None:
                    self._index.put(replace(record, version=committed.version))

        if edits:
            self._replica.commit(edits, note)
        return bool(edits)

    def _commit(self) -> None:
        """Write what was staged, once the disk has it for good: what a crash took back would be a person's act."""
        unsynced, self._unsynced = self._unsynced, {}
        self._disk.sync_directories(unsynced)
        self._index.commit()

    def _changed_in(self, *directories: str) -> None:
        self._unsynced.update(dict.fromkeys(directories))

    def _explain(self, node: NodeId) -> None:
        view = self._replica.view(node)
        reason = refusal(view, self._document) if view is not None else None
        if view is not None and reason is not None:
            self._problems.report(self.place(view) or view.name, OSError(reason), node)

    def _owner(self, node: NodeId) -> NodeId:
        view = self._replica.view(node)
        return view.copy_of or node if view is not None else node

    def _try(self, step: Step, steps: Steps) -> None:
        try:
            done = self._carry_out(step, steps)
        except OSError as error:
            self._problems.report(self._path_of(step), error, owner_of(step))
            done = False
        if not done:
            steps.stuck.add(owner_of(step))

    def _carry_out(self, step: Step, steps: Steps) -> bool:
        """Return whether the step is done; where the disk is not as expected, say where to look. Raises OSError."""
        match step:
            case MakeFolder(view):
                return self._make_folder(view, steps)
            case Rename(record, view):
                return self._rename(record, view, steps)
            case Park(record):
                return self._park(record, steps)
            case Remove(record):
                return self._remove(record, steps)
            case SetMeta(view):
                return self._set_meta(view, steps)
            case Note(view):
                noted = self._index.get(view.id)
                if noted is not None:
                    self._index.put(replace(noted, version=view.version.id))
        return True

    def _make_folder(self, view: NodeView, steps: Steps) -> bool:
        path = self._free_path(view)
        if path is None:
            return False
        full = os.path.join(self._root, path)
        content = view.version.content
        assert isinstance(content, DirContent)
        try:
            with self._disk.writable(os.path.dirname(full)):
                signature = self._disk.make_folder(full, content)
        except FileExistsError:
            steps.look.append(path)  # something that nobody has seen yet
            return False
        self._changed_in(os.path.dirname(full))
        self._index.put(
            LocalNode(view.id, view.parent, view.name, "dir", view.version.id, content, signature, view.copy_of)
        )
        self._made_folder(view.id)
        self._problems.clear(path)
        return True

    def _rename(self, record: LocalNode, view: NodeView, steps: Steps) -> bool:
        now, old, path = self._index.get(record.id), self._index.path(record.id), self._free_path(view)
        if now is None or old is None or path is None or (now.parent, now.name) != (record.parent, record.name):
            return False
        source, target = os.path.join(self._root, old), os.path.join(self._root, path)
        found = self._disk.look(source)
        if found is None and now.parent == PARKED:  # it is not where nobody but Shoal has been: it has to come anew
            for inside in self._index.subtree(now.id):
                self._index.remove(inside.id)
            return False
        # A crash right after it was parked leaves its record as it was before; nobody else touches it there.
        if not _is_expected(found, now) and not (now.parent == PARKED and is_same(found, now.signature)):
            steps.look.append(old)
            return False
        own = [source] if record.kind == "dir" else []  # its `..` changes
        try:
            with self._disk.writable(os.path.dirname(source), os.path.dirname(target), *own):
                self._disk.rename_new(source, target)
        except FileExistsError:
            steps.look.append(path)
            return False
        self._changed_in(os.path.dirname(target), os.path.dirname(source))
        moved = replace(now, parent=view.parent, name=view.name, copy_of=view.copy_of)
        self._index.put(replace(moved, signature=self._signature_at(path, now, steps)))
        if record.kind == "dir":
            steps.moved.append((old, path))
        self._commit()
        self._problems.clear(path)
        return True

    def _park(self, record: LocalNode, steps: Steps) -> bool:
        path = self._index.path(record.id)
        if path is None:
            return False
        source, target = os.path.join(self._root, path), os.path.join(self._root, PARKING, record.id.hex())
        if not _is_expected(self._disk.look(source), record):
            steps.look.append(path)
            return False
        # Recorded first: a crash right after finds it again by this record.
        parked = replace(record, parent=PARKED, name=record.id.hex())
        self._index.put(parked)
        self._index.commit(sync=True)
        with self._disk.writable(os.path.dirname(source), *([source] if record.kind == "dir" else [])):
            self._disk.rename_new(source, target)
        self._changed_in(os.path.dirname(target), os.path.dirname(source))
        self._index.put(replace(parked, signature=self._signature_at(PARKING + record.id.hex(), record, steps)))
        if record.kind == "dir":
            steps.moved.append((path, PARKING + record.id.hex()))
        return True

    def _remove(self, record: LocalNode, steps: Steps) -> bool:
        path = self._index.path(record.id)
        if path is None:
            return self._index.get(record.id) is None
        news = self._replica.generation != self._kept or record.id not in self._asked
        if news and self._keep_moved([record]):  # it was only in the way, and not asked for
            return False
        full = os.path.join(self._root, path)
        found = self._disk.look(full)
        if found is None or self._index.child(record.parent, record.name) != record.id:
            in_it = record.kind == "dir" and self._index.children(record.id)
            if in_it or (found is None and self._became_the_file(record)):
                steps.look.append(path)  # a person did that: it is for the scanner to find, and to tell
                return False
            self._index.remove(record.id)
            return True
        if not _is_expected(found, record):
            steps.look.append(path)
            return False
        if record.kind == "dir":
            return self._remove_folder(record, path, full, steps)
        kept = self._placer.kept_path(record)
        with self._disk.writable(os.path.dirname(full)):
            self._disk.fs.rename(full, kept)
            if not is_same(self._disk.look(kept), record.signature):  # someone saved it after we had looked
                with contextlib.suppress(FileExistsError):
                    self._disk.rename_new(kept, full)
                steps.look.append(path)
                return False
        self._changed_in(os.path.dirname(kept), os.path.dirname(full))
        self._index.places.keep(os.path.basename(kept), record.content)
        self._index.remove(record.id)
        self._problems.clear(path)
        return True

    def _became_the_file(self, copy: LocalNode) -> bool:
        owner = self._replica.view(copy.copy_of) if copy.copy_of is not None else None
        return owner is not None and copy.version in owner.heads

    def _remove_folder(self, record: LocalNode, path: str, full: str, steps: Steps) -> bool:
        if self._index.children(record.id):
            return False  # what was to leave it first could not
        try:
            with self._disk.writable(os.path.dirname(full)):
                self._disk.fs.rmdir(full)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            unseen = [f"{path}/{name}" for name, _ in self._disk.list_directory(full)]
            fresh = [inside for inside in unseen if not self._rules.ignores(inside, is_dir=False)]
            steps.look += fresh
            if not fresh:
                held = OSError("it was deleted elsewhere, but holds files that are ignored here")
                self._problems.report(path, held, record.id)
            return False
        self._changed_in(os.path.dirname(full))
        self._index.remove(record.id)
        self._problems.clear(path)
        return True

    def _set_meta(self, view: NodeView, steps: Steps) -> bool:
        record, path, content = self._index.get(view.id), self._index.path(view.id), view.version.content
        if record is None or path is None or content is None:
            return False
        full = os.path.join(self._root, path)
        if not _is_expected(self._disk.look(full), record):
            steps.look.append(path)
            return False
        if not self._disk.set_meta(full, content, record.signature):
            steps.look.append(path)
            return False
        was = record.signature
        if isinstance(content, FileContent | LinkContent):
            record = replace(record, signature=was._replace(mtime_ns=content.mtime_ns))
        self._changed_in(os.path.dirname(full))
        signature = self._signature_at(path, record, steps, mode_set=True)
        if isinstance(content, FileContent) and was.mtime_ns != content.mtime_ns:
            # Whoever wrote to it right before it got this time left no other sign: have it read.
            signature = signature._replace(ctime_ns=0)
            steps.look.append(path)
        self._index.put(replace(record, version=view.version.id, content=content, signature=signature))
        return True

    def _signature_at(self, path: str, record: LocalNode, steps: Steps, *, mode_set: bool = False) -> Signature:
        """Return the signature of what was just changed; one that has it read, where something else is by now.
        `mode_set`: its mode is what was asked for, whatever it is."""
        found = self._disk.look(os.path.join(self._root, path))
        if found is not None and is_same(found, record.signature):
            if mode_set or found.mode == record.signature.mode:
                return found
            found = found._replace(mode=record.signature.mode)  # a person set another: that is for the scanner to find
            steps.look.append(path)
            return found
        steps.look.append(path)
        return record.signature._replace(ctime_ns=0)

    def _free_path(self, view: NodeView) -> str | None:
        """Return the path of the view's place, None where its folder is not there or the place is taken."""
        path = self.place(view)
        return path if self._index.holder(view.parent, view.name) is None else None

    def place(self, view: NodeView) -> str | None:
        """Return the path that the view is to have, None where its folder is not on disk."""
        if view.parent == ROOT:
            return view.name
        parent = self._index.path(view.parent)
        return f"{parent}/{view.name}" if parent is not None else None

    def _path_of(self, step: Step) -> str:
        """Return the path that a problem with the step is shown under."""
        match step:
            case MakeFolder(view) | Rename(_, view) | SetMeta(view) | Note(view) | Place(view):
                return self.place(view) or view.name
            case Park(record) | Remove(record):
                return self._index.path(record.id) or record.name
            case Wait(node):
                return self._index.path(node) or node.hex()


def _takes_a_file(step: Step) -> bool:
    return isinstance(step, Remove) and step.record.kind != "dir"


def _is_expected(found: Signature | None, record: LocalNode) -> bool:
    return is_same(found, record.signature) if record.kind == "dir" else found == record.signature
