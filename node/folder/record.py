"""From disk to document: what a look found is told to the document as a person's changes, and recorded as synced.

What the document already says is taken as done, not said again: so a crash between disk and store mends itself. Moves
are `record_moves`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import trio

from shoal.crdt.model import Content, DirContent, FactId, FileContent, Kind, NodeId, NodeView
from shoal.crdt.naming import MARK
from shoal.crdt.tree import same_content
from shoal.node.changes import Committed, Create, Delete, DocChange, Edit
from shoal.node.folder.chunk_places import PACKED
from shoal.node.folder.content_moves import alike, match, of_a_size
from shoal.node.folder.deletion import places_seen
from shoal.node.folder.disk import Disk, Seen, kind_of
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.freshness import Freshness
from shoal.node.folder.kept import kept_path
from shoal.node.folder.large_files import ASK_AGAIN, LargeFiles, Read
from shoal.node.folder.local import PARKED, LocalIndex, LocalNode
from shoal.node.folder.problems import Problems
from shoal.node.folder.record_moves import MoveRecorder
from shoal.node.folder.scan import Findings
from shoal.node.folder.selection import Selection
from shoal.node.replica import Replica
from shoal.transfer.chunking import FileChanged

GROUP_FILES = 1000
GROUP_GONE = 250  # of what is gone: nothing is read for it, so others wait for the whole of it
TURNS = 12  # of all other tasks, in which a session seals and sends what was just written
GROUP_BYTES = 64 * 1024 * 1024
LOOK_AGAIN = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class _Note:
    """What to record of a node once the changes are committed. `change`: the place of its own among them, if any;
    `parent` as in `Create`."""

    node: LocalNode
    parent: NodeId | int
    change: int | None


@dataclass(frozen=True, slots=True)
class _New:
    """What to record of the node that change number `change` makes; `parent` as in `Create`."""

    seen: Seen
    kind: Kind
    content: Content
    parent: NodeId | int
    change: int


class Recorder:
    """Tells one folder's document what was found."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        problems: Problems,
        freshness: Freshness,
        selection: Selection,
        large: LargeFiles,
    ) -> None:
        self._large = large
        self._disk = disk
        self._root = root
        self._inside = root.rstrip("/") + "/"
        self._index = index
        self._replica = replica
        self._problems = problems
        self._turns = turns
        self._freshness = freshness
        self._selection = selection
        self._moves = MoveRecorder(disk, root, index, replica, selection, self._make_parents)

    async def commit(self, findings: Findings, *, more: bool = False) -> dict[str, float]:
        """Tell the document of the findings; return the paths to look at again, and after how many seconds: they were
        being written to. `more`: others follow, in which what is missing may turn up, so that is left."""
        busy = dict.fromkeys(findings.busy, LOOK_AGAIN)
        moved = self._moves.find(findings) if not findings.new else {}
        while taken := self._moves.taken_names(findings, moved):
            # The node of that name went elsewhere: what has its name now is another one.
            findings.changed = [(node, seen) for node, seen in findings.changed if (node, seen) not in taken]
            findings.appeared += [seen for _, seen in taken]
            findings.appeared.sort(key=lambda seen: seen.path.split("/"))
            moved = self._moves.find(findings)
        for record in moved.values():
            findings.missing.pop(record.id, None)
            findings.replaced.pop(record.id, None)
        kept = {record.id for record in moved.values()}
        await self._commit_missing(findings.replaced, kept)  # first: a folder may have the name now, and hold the moved
        busy |= dict.fromkeys(self._moves.commit(moved, findings), LOOK_AGAIN)
        self._moves.commit_swaps(findings)  # after: their folders are where they were seen by now
        pending: list[tuple[NodeId | None, Seen]] = list(findings.changed)
        pending += [(None, seen) for seen in findings.appeared if seen.path not in moved]
        at = 0
        while at < len(pending):
            group: list[tuple[NodeId | None, Seen]] = []
            size = 0
            while at < len(pending) and len(group) < GROUP_FILES and size < GROUP_BYTES:
                group.append(pending[at])
                size += _size((pending[at][1], None))
                at += 1
            busy |= await self._commit_group(group)
        if not more:
            missing = findings.missing
            if any(record.kind == "dir" for record in moved.values()):
                # Another folder had the name of one that moved: what that lacks is where its folder is now.
                missing = {node: path for node, path in missing.items() if self._moves.is_gone(node)}
            await self._commit_missing(missing)
        return busy

    async def find_by_content(self, findings: Findings) -> None:
        """Tell which of the names that appeared are files that are missing elsewhere, with another inode now."""
        if not findings.appeared:
            return
        by_inode = self._moves.find(findings)
        findings.new = not by_inode
        if not (by_inode or findings.missing or findings.waiting or findings.replaced):
            return
        findings.new = False  # others are at work while this one reads
        known = {record.id for record in by_inode.values()}
        gone = (
            record
            for top in {**findings.missing, **findings.waiting, **findings.replaced}
            for record in self._index.subtree(top)
            if record.id not in known and record.copy_of is None
        )
        new = [seen for seen in findings.appeared if self._is_new(seen)]
        doubtful = alike(by_inode)
        fresh, lost = of_a_size([seen for seen in new if seen.path not in by_inode], gone)
        fresh += [seen for seen in new if seen.path in doubtful]
        results = await self._turns.run(self._read_all, [(seen, None) for seen in fresh], _size)
        read: list[tuple[Seen, FileContent]] = []
        for seen, content in zip(fresh, results, strict=True):
            record = by_inode.get(seen.path)
            if isinstance(content, FileContent) and (record is None or not same_content(content, record.content)):
                read.append((seen, content))
                if record is not None:
                    findings.strangers.add(seen.path)
                    lost.append(record)
        findings.moved |= {path: record.id for path, record in match(read, lost).items()}

    def _is_new(self, seen: Seen) -> bool:
        """Return whether the document knows nothing at this place."""
        parent = self._moves.parent_of(seen)
        return parent is None or self._known_view(parent, seen.name, "file") is None

    async def adopt(self, found: Sequence[tuple[NodeId | None, Seen]]) -> tuple[dict[str, float], set[str]]:
        """Record as synced what is as the document has it, and tell the document nothing of the rest; return the paths
        to look at again, and after how many seconds, and those that were recorded."""
        busy: dict[str, float] = {}
        for at in range(0, len(found), GROUP_FILES):
            busy |= await self._commit_group(found[at : at + GROUP_FILES], tell=False)
        return busy, {seen.path for _, seen in found if self._stands(seen)}

    def _stands(self, seen: Seen) -> bool:
        node = self._index.find(seen.path)
        record = self._index.get(node) if node is not None else None
        return record is not None and record.signature == seen.signature

    def moved(self, findings: Findings) -> set[NodeId]:
        """Return the nodes that are not where they were, but elsewhere."""
        return {record.id for record in self._moves.find(findings).values()}

    def _make_parents(self, seen: Seen) -> None:
        path = ""
        for part in seen.directory.split("/"):
            parent = self._index.find_folder(path)
            if parent is None:
                return
            above, path = path, f"{path}/{part}" if path else part
            if self._index.child(parent, part) is None:
                signature = self._disk.look(self._absolute(path))
                if signature is not None:
                    self._note(
                        [
                            (
                                None,
                                Seen(above, part, signature),
                                self._disk.read_content(self._absolute(path), self._replica.content_key, signature),
                            )
                        ]
                    )

    async def _commit_group(
        self, found: Sequence[tuple[NodeId | None, Seen]], *, tell: bool = True
    ) -> dict[str, float]:
        busy = {seen.path: wait for _, seen in found if (wait := self._freshness.wait(seen))}
        group = [(node, seen) for node, seen in found if seen.path not in busy]
        read: list[tuple[NodeId | None, Seen, Content]] = []
        large = {
            seen.path: self._large.take(seen, self._base(node)) for node, seen in group if self._large.is_large(seen)
        }
        busy |= {path: ASK_AGAIN for path, content in large.items() if content is None}  # it is told when it was read
        group = [(node, seen) for node, seen in group if seen.path not in busy]
        small = [(node, seen) for node, seen in group if seen.path not in large]
        contents = await self._turns.run(self._read_all, [(seen, self._base(node)) for node, seen in small], _size)
        by_path = dict(zip((seen.path for _, seen in small), contents, strict=True))
        results: list[Read | None] = [by_path.get(seen.path) or large.get(seen.path) for _, seen in group]
        with self._disk.fs.held():
            for (node, seen), content in zip(group, results, strict=True):
                if isinstance(content, FileChanged):
                    busy[seen.path] = LOOK_AGAIN
                elif isinstance(content, OSError):
                    if not isinstance(content, FileNotFoundError):
                        self._problems.report(seen.path, content)
                elif self._disk.look_quietly(self._absolute(seen.path)) != seen.signature:
                    busy[seen.path] = LOOK_AGAIN  # replaced since it was read, perhaps by this node itself
                elif content is not None:
                    if not isinstance(content, DirContent):  # of which its mode says nothing of what is in it
                        self._problems.clear(seen.path)
                    read.append((node, seen, content))
        self._note(read, tell=tell)
        return busy

    def _base(self, node: NodeId | None) -> Content | None:
        record = self._index.get(node) if node is not None else None
        return record.content if record is not None else None

    def _read_all(self, group: Sequence[tuple[Seen, Content | None]]) -> list[Content | FileChanged | OSError]:
        results: list[Content | FileChanged | OSError] = []
        with self._disk.fs.held():
            for seen, base in group:
                assert seen.signature is not None
                path, key = self._absolute(seen.path), self._replica.content_key
                try:
                    results.append(self._disk.read_content(path, key, seen.signature, base))
                except (FileChanged, OSError) as error:
                    results.append(error)
        return results

    def _note(self, read: Sequence[tuple[NodeId | None, Seen, Content]], *, tell: bool = True) -> None:
        """Commit what was read, as one batch, and record it as synced."""
        changes: list[DocChange] = []
        made: dict[str, NodeId | int] = {}  # folder's path -> its node, or the place in `changes` of its Create
        notes: list[_Note | _New] = []
        homes = {directory: self._index.find_folder(directory) for directory in {seen.directory for _, seen, _ in read}}
        new = self._new_names([seen for node, seen, _ in read if node is None], homes)
        for node, seen, content in read:
            assert seen.signature is not None
            kind: Kind = "dir" if kind_of(seen.signature) == "dir" else "file"
            parked = self._index.get(node) if node is not None else None
            if parked is not None and parked.parent == PARKED:
                notes.append(self._noted_edit(parked, seen, content, changes))
                continue
            parent: NodeId | int | None = made.get(seen.directory)
            if parent is None:
                parent = homes[seen.directory]
            if parent is None:
                continue  # its folder vanished or could not be read
            if node is None and (isinstance(parent, int) or (parent, seen.name) in new):
                self._note_new(_New(seen, kind, content, parent, len(changes)), made, notes, changes)
                continue
            if node is None and not isinstance(parent, int):
                node = self._index.child(parent, seen.name)
            record = self._index.get(node) if node is not None else None
            if record is not None and record.kind == kind:
                notes.append(self._noted_edit(record, seen, content, changes))
                continue
            known = self._known_view(parent, seen.name, kind)
            if known is None:
                self._note_new(_New(seen, kind, content, parent, len(changes)), made, notes, changes)
                continue
            found = LocalNode(known.id, known.parent, seen.name, kind, None, content, seen.signature, known.copy_of)
            if kind == "dir":
                made[seen.path] = known.id
            if kind == "dir" or same_content(content, known.version.content):
                notes.append(_Note(replace(found, version=known.version.id), known.parent, None))
            else:  # both sides have something here, and neither has seen the other's
                changes.append(Edit(known.id, content, None))
                notes.append(_Note(found, known.parent, len(changes) - 1))
        if not tell:
            changes, notes = [], [note for note in notes if note.change is None]
        self._replica.commit(changes, partial(self._record, notes))
        # The document may want another mode or time.
        self._replica.mark_dirty([note.node.id for note in notes if isinstance(note, _Note) and note.change is None])

    def _note_new(
        self, new: _New, made: dict[str, NodeId | int], notes: list[_Note | _New], changes: list[DocChange]
    ) -> None:
        if new.kind == "dir":
            made[new.seen.path] = new.change
        notes.append(new)
        name = self._replica.own_name(new.seen.name, None)
        changes.append(Create(new.parent, name, new.kind, new.content))

    def _new_names(self, found: Sequence[Seen], homes: Mapping[str, NodeId | None]) -> set[tuple[NodeId, str]]:
        """Return the places where neither the synced tree nor the document ever had anything."""
        names: dict[NodeId, list[str]] = {}
        for seen in found:
            home = homes[seen.directory]
            if home is not None and MARK not in seen.name:
                names.setdefault(home, []).append(seen.name)
        new: set[tuple[NodeId, str]] = set()
        for home, inside in names.items():
            inside.sort(key=os.fsencode)
            known = self._index.names_between(home, inside[0], inside[-1], most=4 * len(inside))
            if known is None:
                continue
            taken = known | self._replica.taken_names(home, inside)
            new |= {(home, name) for name in inside if name not in taken}
        return new

    def _record(self, notes: Sequence[_Note | _New], done: Sequence[Committed]) -> None:
        added: list[LocalNode] = []
        for note in notes:
            home = done[note.parent].node if isinstance(note.parent, int) else note.parent
            if isinstance(note, _New):
                made, seen = done[note.change], note.seen
                assert seen.signature is not None
                added.append(
                    LocalNode(made.node, home, seen.name, note.kind, made.version, note.content, seen.signature)
                )
            elif note.change is None:
                self._index.put(replace(note.node, parent=home))
            else:
                self._index.put(replace(note.node, parent=home, version=done[note.change].version))
                owner = note.node.copy_of or note.node.id
                if self._index.copies(owner):  # one that is no other by now goes
                    self._replica.stage_dirty(owner)
        self._index.add(added)
        if self._selection.choices:
            for record in added:
                self._selection.keep(record.id)

    def _apart(self, record: LocalNode) -> tuple[FactId, ...]:
        """Return the versions of a file that are on this disk under its other names: its own, and those of copies."""
        if record.copy_of is None and not self._index.copies(record.id):
            return ()
        owner = record.copy_of or record.id
        family = (self._index.get(node) for node in (owner, *self._index.copies(owner)) if node != record.id)
        return tuple(each.version for each in family if each is not None and each.version is not None)

    def _noted_edit(self, record: LocalNode, seen: Seen, content: Content, changes: list[DocChange]) -> _Note:
        assert seen.signature is not None
        now = replace(record, content=content, signature=seen.signature)
        view = self._replica.view(record.id)
        if content == record.content:
            return _Note(now, record.parent, None)
        if view is not None and view.version.content == content:
            return _Note(replace(now, version=view.version.id), record.parent, None)
        changes.append(Edit(record.id, content, record.version, self._apart(record)))
        return _Note(now, record.parent, len(changes) - 1)

    def _known_view(self, parent: NodeId | int, name: str, kind: Kind) -> NodeView | None:
        """Return the node that the document shows at this place and that is not on this disk yet."""
        if isinstance(parent, int):
            return None
        view = self._replica.child_named(parent, name)
        if view is None or view.kind != kind or self._index.get(view.id) is not None:
            return None
        return view

    async def _commit_missing(self, missing: dict[NodeId, str], kept: Collection[NodeId] = ()) -> None:
        """Delete what is gone, what is in a folder before the folder; `kept`: what was in one, and is elsewhere now."""
        gone: list[LocalNode] = []
        covered: set[NodeId] = set()
        for node in sorted(missing, key=lambda node: missing[node].count("/")):
            if node not in covered:  # it was in a folder that is gone
                inside = self._index.subtree(node, kept)
                covered |= {record.id for record in inside}
                gone += inside
        along = {record.id: record for record in gone}
        for at in range(0, len(gone), GROUP_GONE):
            group = gone[at : at + GROUP_GONE]
            # What is left out is gone from this disk alone.
            wanted = [record for record in group if self._selection.wants(record.id)]
            deletions = [found for record in wanted if (found := self._deletion(record, along)) is not None]
            self._replica.commit(deletions, partial(self._forget, group))
            for _ in range(TURNS):  # peers hear of the first before the last is written
                await trio.lowlevel.checkpoint()

    def _deletion(self, record: LocalNode, along: Mapping[NodeId, LocalNode]) -> Delete | None:
        """Return what to tell of a record that is gone; None where the document does not have it any more."""
        if self._replica.view(record.id) is not None:
            seen = places_seen(self._replica, record, along)
            return Delete(record.id, record.version, seen, self._apart(record))
        owner = self._replica.view(record.copy_of) if record.copy_of is not None else None
        if owner is None or record.version not in owner.heads:
            return None
        # A conflict copy that became the file itself, by an edit. Unless it was on its way there, a person removed it.
        kept = kept_path(self._root, record)
        is_kept = any(self._disk.look_quietly(path) is not None for path in (kept, kept + PACKED))
        return Delete(owner.id, record.version, (), self._apart(record)) if not is_kept else None

    def _forget(self, group: Sequence[LocalNode], done: Sequence[Committed]) -> None:
        for record in group:
            self._index.remove(record.id)

    def _absolute(self, path: str) -> str:
        return self._inside + path if path else self._root


def _size(work: tuple[Seen, Content | None]) -> int:
    signature = work[0].signature
    return signature.size if signature is not None and kind_of(signature) == "file" else 0
