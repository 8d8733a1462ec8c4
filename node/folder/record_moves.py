"""Moves, as the disk shows them, told to the document.

A new name whose inode is a known node's, gone from its old place, is that node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from shoal.crdt.model import NodeId
from shoal.crdt.naming import conflict_name
from shoal.node.changes import Committed, Move
from shoal.node.folder.disk import Disk, Seen, kind_of
from shoal.node.folder.exchange import tell_exchange, tell_moved_over
from shoal.node.folder.local import PARKED, LocalIndex, LocalNode
from shoal.node.folder.scan import Findings, is_gone
from shoal.node.folder.selection import Selection
from shoal.node.folder.swaps import closed_swaps, has_copies, known_file
from shoal.node.replica import Replica


class MoveRecorder:
    """Finds and tells one folder's moves. `make_parents`: records the new folders on the way to what was seen."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        index: LocalIndex,
        replica: Replica,
        selection: Selection,
        make_parents: Callable[[Seen], None],
    ) -> None:
        self._disk = disk
        self._root = root
        self._index = index
        self._replica = replica
        self._selection = selection
        self._make_parents = make_parents

    def find(self, findings: Findings) -> dict[str, LocalNode]:
        """Return path -> record for names that are known nodes, gone from where they were."""
        moves: dict[str, LocalNode] = {}
        taken: set[NodeId] = set()
        for seen in findings.appeared:
            assert seen.signature is not None
            if seen.path in findings.strangers:
                continue
            node = self._index.by_inode(seen.signature.device, seen.signature.inode)
            record = self._index.get(node) if node is not None else None
            if record is None or record.id in taken or not self._can_move(record):
                continue
            is_dir = kind_of(seen.signature) == "dir"
            same = is_dir or (
                record.signature.size == seen.signature.size and record.signature.mtime_ns == seen.signature.mtime_ns
            )
            if (
                is_dir == (record.kind == "dir")
                and same
                and (record.id in findings.missing or record.id in findings.replaced or self.is_gone(record.id))
            ):
                moves[seen.path] = record
                taken.add(record.id)
        for path, node in findings.moved.items():
            record = self._index.get(node)
            if record is not None and node not in taken and path not in moves:
                moves[path] = record
        return moves

    def is_gone(self, node: NodeId) -> bool:
        """Return whether the node is not where it was known to be."""
        return is_gone(self._disk, self._root, self._index, node)

    def _can_move(self, record: LocalNode) -> bool:
        """A conflict copy whose conflict was settled meanwhile is nothing that the document could move."""
        return record.copy_of is None or self._replica.view(record.id) is not None

    @staticmethod
    def taken_names(findings: Findings, moved: dict[str, LocalNode]) -> list[tuple[NodeId, Seen]]:
        """Return what has the name of a node that went elsewhere, and was taken for that."""
        gone = {record.id: path for path, record in moved.items()}
        return [(node, seen) for node, seen in findings.changed if node in gone and gone[node] != seen.path]

    def commit_swaps(self, findings: Findings) -> None:
        """Tell of files that changed names among themselves; what is to be read of them is in `findings.changed`."""
        self._commit_moved_over(findings)
        for swap in closed_swaps(findings.changed, self._index):
            here = {seen.path for _, seen in swap}
            kept = [(record, parent, seen) for record, seen in swap if (parent := self.parent_of(seen)) is not None]
            if len(kept) < len(swap):
                continue  # a folder on the way is gone: they are edits, of what is read
            if has_copies(swap):
                told = tell_exchange(swap, [parent for _, parent, _ in kept], self._index, self._replica)
                if told:
                    findings.changed = [each for each in findings.changed if each[1].path not in here] + told
                continue
            findings.changed = [(node, seen) for node, seen in findings.changed if seen.path not in here]
            changes = []
            for record, parent, seen in kept:
                view = self._replica.view(record.id)
                if view is None or (view.parent, view.name) != (parent, seen.name):
                    changes.append(Move(record.id, parent, self._replica.own_name(seen.name, record.id)))
            # All at once: nobody is to see two of them under one name.
            self._replica.commit(changes, partial(self._record_swap, kept, findings))

    def _commit_moved_over(self, findings: Findings) -> None:
        changed = dict(findings.changed)
        for node, seen in findings.changed:
            copy = self._index.get(node)
            if copy is None or copy.copy_of is None:
                continue
            mover, parent = known_file(seen, self._index), self.parent_of(seen)
            if mover is None or parent is None or mover.id in changed:
                continue
            if mover.id != node and copy.copy_of in (mover.id, mover.copy_of) and self.is_gone(mover.id):
                tell_moved_over(copy, mover, seen, parent, self._index, self._replica)
                findings.missing.pop(mover.id, None)
                del changed[node]
                changed[mover.id] = seen
        findings.changed = list(changed.items())

    def _record_swap(
        self, swap: Sequence[tuple[LocalNode, NodeId, Seen]], findings: Findings, done: Sequence[Committed]
    ) -> None:
        for record, parent, seen in swap:
            self._record_move(record, parent, seen, findings, self._selection.wants(record.id), ())

    def commit(self, moves: dict[str, LocalNode], findings: Findings) -> list[str]:
        """Tell of moves; return the paths to look at again: what they are in is gone by now, or what they were."""
        homeless = []
        # A folder that moved is where its children now are, so moves are committed one by one, parents first.
        for seen in findings.appeared:
            record = moves.get(seen.path)
            if record is None:
                continue
            if not self._can_move(record):  # what was just said settled its conflict: it is a file like any other then
                homeless.append(seen.path)
                continue
            parent = self.parent_of(seen)
            if parent is None:
                # Moved into a folder that is new, too: make that one first.
                self._make_parents(seen)
                parent = self.parent_of(seen)
            if parent is None or not self._can_move(record):  # its conflict may have been settled a moment ago
                homeless.append(seen.path)
                continue
            view = self._replica.view(record.id)
            stands = view is not None and (view.parent, view.name) == (parent, seen.name)
            # One that was to be parked, or to be shown beside its twin, when this device died was moved by nobody.
            nobody = record.parent == PARKED or self._is_twins_name(record.id, parent, seen.name)
            name = self._replica.own_name(seen.name, record.id)
            changes = [] if stands or nobody else [Move(record.id, parent, name)]
            if nobody:
                self._replica.stage_dirty(record.id)
            wanted = self._selection.wants(record.id)
            self._replica.commit(changes, partial(self._record_move, record, parent, seen, findings, wanted))
        return homeless

    def _is_twins_name(self, node: NodeId, parent: NodeId, name: str) -> bool:
        """Return whether a name is the one that Shoal shows a node by where its own is taken."""
        known = self._replica.tree.index.get(node)
        return known is not None and known.parent == parent and name == conflict_name(known.name, node.hex()[:12])

    def _record_move(
        self,
        record: LocalNode,
        parent: NodeId,
        seen: Seen,
        findings: Findings,
        wanted: bool,
        done: Sequence[Committed],
    ) -> None:
        assert seen.signature is not None
        moved = replace(record, parent=parent, name=seen.name, signature=seen.signature)
        if done and done[0].node != record.id:  # a conflict copy became a file of its own
            self._index.remove(record.id)
            moved = replace(moved, id=done[0].node, copy_of=None, version=done[0].version)
        if record.kind == "file" or record.signature.mode != seen.signature.mode:
            # Have it read: an inode that was freed is given to the next new file, which is no move at all.
            unread = seen.signature._replace(ctime_ns=0, mode=record.signature.mode)
            moved = replace(moved, signature=unread)
            findings.changed.append((moved.id, seen))
        self._index.put(moved)
        view = self._replica.view(moved.id) if not self._index.rules.plain else None
        if view is not None and view.name != seen.name:
            self._replica.stage_dirty(moved.id)  # the name was for the disk's sake alone, and another is now
        if wanted:
            self._selection.keep(moved.id)

    def parent_of(self, seen: Seen) -> NodeId | None:
        """Return the folder that a name was seen in."""
        return self._index.find_folder(seen.directory)
