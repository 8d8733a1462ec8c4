"""Looking at the disk: finds what differs from the synced tree.

A name that was there and is there is the same node, whatever its inode (editors save by replacing); a folder's inode
decides before its name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import trio

from shoal.crdt.model import ROOT, FolderId, NodeId
from shoal.node.folder.disk import Disk, Seen, kind_of
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.ignore import IgnoreRules
from shoal.node.folder.local import MAX_DEPTH, PARKED, PARKING, PRIVATE, LocalIndex, row_of
from shoal.node.folder.marker import marked_as
from shoal.node.folder.problems import Problems
from shoal.node.folder.selection import Selection
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica

Listed = dict[NodeId, dict[str, list[str]]]  # folder -> what is the same to the disk -> the names there are

AT_ONCE = 100  # names that are looked at before others have a turn
OTHER_ROOT = "not synced, as it is a synced folder of its own: it has .shoal/folder"
LEFT_OUT = "not synced, as the folder has something of this name that is left out here: rename this, or shoal get that"


@dataclass(slots=True)
class Findings:
    """What a look at the disk found to differ. `appeared` and `changed`: parents come before what is in them."""

    appeared: list[Seen] = field(default_factory=list)
    changed: list[tuple[NodeId, Seen]] = field(default_factory=list)
    missing: dict[NodeId, str] = field(default_factory=dict)  # node -> path
    replaced: dict[NodeId, str] = field(default_factory=dict)  # likewise, where something else has the name now
    waiting: dict[NodeId, str] = field(default_factory=dict)  # missing, but perhaps only for a moment
    moved: dict[str, NodeId] = field(default_factory=dict)  # path -> the node that it is, told by content or by name
    strangers: set[str] = field(default_factory=set)  # paths that have a known inode, and not its content
    walked: set[str] = field(default_factory=set)  # folders that are looked into as a whole
    busy: list[str] = field(default_factory=list)  # paths to look at again: this node is changing them now
    alike: set[tuple[NodeId, str]] = field(default_factory=set)  # what was looked at, where a disk folds names
    new: bool = False  # what appeared was just looked up: none of it has a known inode

    @property
    def empty(self) -> bool:
        return not (self.appeared or self.changed or self.missing or self.replaced)


@dataclass(slots=True)
class Walk:
    """A look at everything, that is taken in pieces. `findings`: since they were last told."""

    findings: Findings
    queue: list[tuple[str, NodeId | None]]
    pieces: int = 0

    @property
    def done(self) -> bool:
        return not self.queue


class Scanner:
    """Looks at one folder."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        rules: IgnoreRules,
        problems: Problems,
        busy: Set[NodeId],
        selection: Selection,
        nested: Set[FolderId] = frozenset(),
    ) -> None:
        """`busy`: the nodes that are being placed now; what is seen of them is left for later. `nested`: folders that
        are kept inside of this one, each by an engine of its own."""
        self._disk = disk
        self._turns = turns
        self._root = root
        self._index = index
        self._replica = replica
        self._rules = rules
        self._problems = problems
        self._busy = busy
        self._selection = selection
        self._nested = nested

    def begin_walk(self) -> Walk:
        """Begin to look at everything."""
        self._problems.looked_everywhere()
        return Walk(Findings(), [("", ROOT)])

    async def go_on(self, walk: Walk, until: float = math.inf, most: float = math.inf) -> None:
        """Walk on, until a time of trio's clock, or until `most` new or changed names are there to be told. Raises
        OSError when the root cannot be read."""
        findings = walk.findings
        walk.pieces += 1
        while walk.queue and len(findings.appeared) + len(findings.changed) < most:
            directory, node = walk.queue.pop()
            await self._look_in(directory, node, findings, walk.queue)
            if trio.current_time() >= until:
                break

    def still_missing(self, missing: dict[NodeId, str]) -> dict[NodeId, str]:
        """Return those that are still known to be where they were missed, and are not there."""
        return {
            node: path
            for node, path in missing.items()
            if self._index.path(node) == path and is_gone(self._disk, self._root, self._index, node)
        }

    async def look_at(self, paths: Iterable[str]) -> Findings:
        """Look at single names, and into those that are new folders."""
        findings = Findings()
        queue: list[tuple[str, NodeId | None]] = []
        listed: Listed = {}
        ordered = sorted(set(paths))
        for at in range(0, len(ordered), AT_ONCE):
            # Not in a thread: what was just touched answers from memory, quicker than a thread is woken.
            with self._disk.fs.held():
                for path in ordered[at : at + AT_ONCE]:
                    self._look_at_name(path, findings, queue, listed)
            await trio.lowlevel.checkpoint()
        while queue:
            directory, node = queue.pop()
            await self._look_in(directory, node, findings, queue)
        return findings

    def _look_at_name(
        self, path: str, findings: Findings, queue: list[tuple[str, NodeId | None]], listed: Listed
    ) -> None:
        directory, _, name = path.rpartition("/")
        if directory == PARKING.rstrip("/"):
            self._look_at_parked(Seen(directory, name, self._disk.look_quietly(self._absolute(path))), findings)
            return
        if findings.walked and any(above in findings.walked for above in folders_above(path)):
            return  # it is met when that folder is looked into
        parent = self._index.find_folder(directory)
        if not name or parent is None:
            return  # its folder is new itself, and is walked as such
        if self._index.folds:
            self._look_at_alike(parent, name, findings, queue, listed)
            return
        try:
            seen = Seen(directory, name, self._disk.look(self._absolute(path)))
        except OSError as error:  # what cannot be told is not gone
            self._problems.report(path, error)
            return
        self._compare(seen, self._index.child(parent, name), findings, queue, deep=False)

    def _look_at_alike(
        self,
        parent: NodeId,
        name: str,
        findings: Findings,
        queue: list[tuple[str, NodeId | None]],
        listed: Listed,
    ) -> None:
        """Look at what the disk takes for a name: only a list of the folder says what it is called."""
        key, directory = self._index.rules.key(name), self._index.path(parent)
        if directory is None or (parent, key) in findings.alike or self._is_queued(parent, queue):
            return
        findings.alike.add((parent, key))
        record = self._index.get(parent)
        if record is not None and is_gone(self._disk, self._root, self._index, parent):
            # What the disk takes for that name may be another folder by now.
            self._look_at_alike(record.parent, record.name, findings, queue, listed)
            return
        if parent not in listed:
            try:
                names = self._disk.fs.names(self._absolute(directory))
            except (FileNotFoundError, NotADirectoryError):
                names = []
            except OSError as error:  # what cannot be told is not gone
                self._problems.report(directory, error)
                return
            listed[parent] = {}
            for each in names:
                listed[parent].setdefault(self._index.rules.key(each), []).append(each)
        known = self._index.alike(parent, name)
        found: list[tuple[str, Signature]] = []
        for each in listed[parent].get(key, ()):
            path = f"{directory}/{each}" if directory else each
            try:
                signature = self._disk.look(self._absolute(path))
            except OSError as error:
                self._problems.report(path, error)
                return
            if signature is not None:
                found.append((each, signature))
        self._compare_all(directory, found, known, findings, queue, deep=False)

    def _is_queued(self, node: NodeId, queue: list[tuple[str, NodeId | None]]) -> bool:
        """Return whether a folder, or one that it is in, is to be looked into as a whole."""
        queued = {folder for _, folder in queue if folder != ROOT}
        while queued and node not in (ROOT, PARKED):
            record = self._index.get(node)
            if node in queued or record is None:
                return node in queued
            node = record.parent
        return False

    def _look_at_parked(self, seen: Seen, findings: Findings) -> None:
        """What waits under `.shoal/tmp` for its name may have been edited right before it went there."""
        node = self._index.child(PARKED, seen.name)
        record = self._index.get(node) if node is not None else None
        if record is None:
            return
        if seen.signature is None:
            findings.missing[record.id] = seen.path
        elif record.kind != "dir" and seen.signature != record.signature:
            findings.changed.append((record.id, seen))

    async def _look_in(
        self, directory: str, node: NodeId | None, findings: Findings, queue: list[tuple[str, NodeId | None]]
    ) -> None:
        path = self._absolute(directory)
        try:
            if len(queue) % 16 == 0:
                names = await self._turns.apart(self._disk.list_directory, path)
            else:
                names = self._disk.list_directory(path)
        except OSError as error:
            if directory == "":
                raise
            self._problems.report(directory, error)
            return  # unreadable is not empty: nothing in it counts as missing
        self._problems.readable(directory)
        known = self._index.rows(node) if node is not None else {}
        if self._index.folds:
            nodes = {name: NodeId(row[:16]) for name, row in known.items()}
            self._compare_all(directory, sorted(names), nodes, findings, queue, deep=True)
            return
        is_deep = directory.count("/") >= MAX_DEPTH - 1
        for name, signature in sorted(names):
            row = known.pop(name, None)
            if row is not None and row == row_of(NodeId(row[:16]), False, signature) and not is_deep:
                continue  # a file that is as it was: nearly all that there is to see
            known_as = NodeId(row[:16]) if row is not None else None
            self._compare(Seen(directory, name, signature), known_as, findings, queue, deep=True)
        for name, row in known.items():
            self._compare(Seen(directory, name, None), NodeId(row[:16]), findings, queue, deep=True)

    def _compare_all(
        self,
        directory: str,
        names: Sequence[tuple[str, Signature]],
        known: dict[str, NodeId],
        findings: Findings,
        queue: list[tuple[str, NodeId | None]],
        *,
        deep: bool,
    ) -> None:
        respelt = self._respelt([name for name, _ in names], known) if self._index.folds else {}
        for name, signature in names:
            seen = Seen(directory, name, signature)
            if name in respelt:
                self._compare_respelt(seen, known.pop(respelt[name]), findings, queue)
            else:
                self._compare(seen, known.pop(name, None), findings, queue, deep=deep)
        for name, child in known.items():
            self._compare(Seen(directory, name, None), child, findings, queue, deep=deep)

    def _respelt(self, names: Sequence[str], known: Mapping[str, NodeId]) -> dict[str, str]:
        """Return, of the names there are, those that are known by another that is the same to the disk: name now, name
        then."""
        new, gone = [name for name in names if name not in known], known.keys() - set(names)
        if not new or not gone:
            return {}
        then = {self._index.rules.key(name): name for name in sorted(gone)}
        now = {key: name for name in new if (key := self._index.rules.key(name)) in then}
        return {name: then[key] for key, name in now.items()}

    def _compare_respelt(
        self, seen: Seen, node: NodeId, findings: Findings, queue: list[tuple[str, NodeId | None]]
    ) -> None:
        """A name is spelt otherwise than it was: what has it was renamed, be it another file by now."""
        record, signature = self._index.get(node), seen.signature
        assert signature is not None
        if record is None:
            self._compare(seen, None, findings, queue, deep=True)
            return
        other = self._index.by_inode(signature.device, signature.inode) if kind_of(signature) == "dir" else None
        is_another = (record.kind == "dir") != (kind_of(signature) == "dir") or (other is not None and other != node)
        if is_another or (record.copy_of is not None and self._replica.view(node) is None):
            findings.replaced[node] = self._index.path(node) or seen.path
            self._compare(seen, None, findings, queue, deep=True)
        elif node in self._busy:
            findings.busy.append(seen.path)
        else:
            findings.moved[seen.path] = node
            findings.appeared.append(seen)
            if record.kind == "dir":
                findings.walked.add(seen.path)
                queue.append((seen.path, node))

    def _compare(
        self,
        seen: Seen,
        node: NodeId | None,
        findings: Findings,
        queue: list[tuple[str, NodeId | None]],
        *,
        deep: bool,
    ) -> None:
        """Hold one name against its record; queue the folder to look into: new ones, and with `deep` known ones."""
        path, signature = seen.path, seen.signature
        if path == PRIVATE or (not seen.directory and self._index.rules.key(path) == PRIVATE):
            return
        record = self._index.get(node) if node is not None else None
        if signature is None:
            self._problems.clear(path)
            if record is not None:
                findings.missing[record.id] = path
            return
        kind = kind_of(signature)
        if kind == "other":
            self._problems.report(path, OSError("a socket, pipe or device cannot be synced"))
            return
        if record is None and self._rules.ignores(path, is_dir=kind == "dir") and not self._is_known(seen):
            return  # what the folder has stays in it, as in git: rules are about what may come to it from here
        if len(seen.name) > 63 and len(os.fsencode(seen.name)) > 255:
            self._problems.report(path, OSError("the name is too long to be synced"))
            return
        if path.count("/") >= MAX_DEPTH:
            self._problems.report(path, OSError(f"it is more than {MAX_DEPTH} folders deep, and is not synced"))
            return
        if record is not None and (record.kind == "dir") != (kind == "dir"):
            findings.replaced[record.id] = path
            record = None
        if record is not None and kind == "dir" and record.signature.inode != signature.inode:
            other = self._index.by_inode(signature.device, signature.inode)
            if other is not None and other != record.id:  # another known folder took this name
                findings.replaced[record.id] = path
                record = None
        if record is not None and kind != "dir" and record.signature.inode != signature.inode:
            other = self._index.by_inode(signature.device, signature.inode)
            parked = self._index.get(other) if other is not None else None
            if (
                parked is not None
                and parked.parent == PARKED
                and is_gone(self._disk, self._root, self._index, parked.id)
            ):
                findings.replaced[record.id] = path  # it came to its name right before a crash
                record = None
        if record is None:
            other_root = marked_as(self._disk, self._absolute(path)) if kind == "dir" else None
            if other_root is not None:
                if other_root in self._nested:
                    self._problems.clear(path)
                else:
                    self._problems.report(path, OSError(OTHER_ROOT))
                return
            if self._is_left_out(seen, signature):
                self._problems.report(path, OSError(LEFT_OUT))
                return
            if self._is_placing(seen):
                findings.busy.append(path)
                return
            called = None if deep else self._known_as(seen)
            if called is not None:
                self._problems.report(path, OSError(f"the folder that it is in does not tell it from {called!r}"))
                return
            findings.appeared.append(seen)
            if kind == "dir":
                findings.walked.add(path)
                queue.append((path, self._mover(signature)))
        elif kind == "dir":
            if signature.mode != record.signature.mode or signature.inode != record.signature.inode:
                findings.changed.append((record.id, seen))
            if deep or signature.inode != record.signature.inode:  # another folder: nobody watched it fill
                findings.walked.add(path)
                queue.append((path, record.id))
        elif signature != record.signature:
            if record.id in self._busy or record.copy_of in self._busy:  # names of one file are looked at together
                findings.busy.append(path)
            else:
                findings.changed.append((record.id, seen))

    def _known_as(self, seen: Seen) -> str | None:
        """Return the name that what was found is known by, in the same folder, where that is the only one it has: the
        folder takes names for one that the rest of the disk tells apart."""
        assert seen.signature is not None
        node = self._index.by_inode(seen.signature.device, seen.signature.inode)
        record = self._index.get(node) if node is not None else None
        if record is None or record.parent != self._index.find_folder(seen.directory):
            return None
        try:
            names = self._disk.fs.names(self._absolute(seen.directory))
        except OSError:
            return None
        return record.name if record.name in names and seen.name not in names else None

    def _is_left_out(self, seen: Seen, signature: Signature) -> bool:
        """Return whether something has the name, unknown till now, of what the folder has and this disk is not to."""
        if not self._selection.choices:
            return False
        parent = self._index.find_folder(seen.directory)
        view = self._replica.child_named(parent, seen.name) if parent is not None else None
        if view is None or self._selection.wants(view.id) or self._selection.leads_on(view.id):
            return False
        return self._index.by_inode(signature.device, signature.inode) is None  # else it was moved there

    def _is_known(self, seen: Seen) -> bool:
        parent = self._index.find_folder(seen.directory)
        return parent is not None and self._replica.child_named(parent, seen.name) is not None

    def _mover(self, signature: Signature) -> NodeId | None:
        """Return the known folder that this is, gone from where it was."""
        node = self._index.by_inode(signature.device, signature.inode)
        return node if node is not None and is_gone(self._disk, self._root, self._index, node) else None

    def _is_placing(self, seen: Seen) -> bool:
        parent = self._index.find_folder(seen.directory) if self._busy else None
        view = self._replica.child_named(parent, seen.name) if parent is not None else None
        return view is not None and view.id in self._busy

    def count_missing(self, missing: Iterable[NodeId], moved: Set[NodeId] = frozenset()) -> int:
        """Return how many nodes are gone with these, what was in them included, but for those that `moved`; what is
        left out is no loss."""
        gone = {record.id for node in missing for record in self._index.subtree(node, moved)}
        return sum(self._selection.wants(node) for node in gone)

    def paths_of(self, missing: Iterable[NodeId]) -> set[str]:
        """Return the paths of these nodes, and of what was in them."""
        records = (record for node in missing for record in self._index.subtree(node))
        return {path for record in records if (path := self._index.path(record.id)) is not None}

    def _absolute(self, path: str) -> str:
        return os.path.join(self._root, path) if path else self._root


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders that a relative path is in, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def is_gone(disk: Disk, root: str, index: LocalIndex, node: NodeId) -> bool:
    """Return whether the node is not where it was known to be."""
    record, path = index.get(node), index.path(node)
    if record is None or path is None:
        return False
    try:
        now = disk.look(os.path.join(root, path))
    except OSError:  # it cannot be told
        return False
    return now is None or now.inode != record.signature.inode
