"""A folder that goes one way on this device: receive-only or send-only, each device's own choice.

receive-only: what changes on this disk is listed, by path, and told to nobody. What others change comes; a file that is
changed here waits as it is, for `revert`, which puts all back as the others have it and keeps what was here under
`.shoal/versions`. send-only: what others change is listed and not applied; `override` makes this device's state the
newest for everyone. Both lists are derived from disk, document and synced tree, so nothing of them is stored.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import trio

from shoal.crdt.ids import derived_node_id
from shoal.crdt.model import ROOT, NodeId
from shoal.node.errors import UserError
from shoal.node.folder.disk import Disk, Seen, kind_of
from shoal.node.folder.local import MAX_DEPTH, PRIVATE, LocalIndex, LocalNode
from shoal.node.folder.override import differing
from shoal.node.folder.planner import Wanted
from shoal.node.folder.record import Recorder
from shoal.node.folder.scan import Findings
from shoal.node.folder.selection import Selection
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica

Mode = Literal["both", "receive-only", "send-only"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class LocalChange:
    """What a receive-only device has at a path that the others do not. `node`: what of the document it is about."""

    kind: Literal["added", "changed", "deleted"]
    node: NodeId | None
    signature: Signature | None
    version: bytes | None  # of the document, when it was compared


class OneWay:
    """One folder's mode. `local`: changes by path that are not told; `aside`: nodes, with their bytes, that the
    document has otherwise and that stay on this disk as they are."""

    def __init__(self, disk: Disk, root: str, index: LocalIndex, replica: Replica, selection: Selection) -> None:
        self._disk = disk
        self._root = root
        self._index = index
        self._replica = replica
        self._selection = selection
        self._key = replica.folder + b"mode"
        saved = replica.staging.get("meta", self._key)
        self._chosen: Mode = next((mode for mode in MODES if mode.encode() == saved), "both")
        self.local: dict[str, LocalChange] = {}
        self.aside: dict[NodeId, int] = {}
        self._blocked: set[NodeId] = set()

    @property
    def mode(self) -> Mode:
        """Which way it goes: as was chosen, and only this way where this device may not write."""
        return "receive-only" if self._replica.read_only else self._chosen

    @property
    def has_a_say(self) -> bool:
        """Whether this device settles what others leave open: merges, twins, deletions that do not hold."""
        return self.mode == "both"

    def set_mode(self, mode: Mode) -> None:
        """Go another way from now on; durable when this returns. Raises UserError where this device may not write."""
        if self._replica.read_only and mode != "receive-only":
            raise UserError(
                "wrong-role", "you may read this folder, and not change it: it is receive-only", "ask one of its owners"
            )
        self._replica.staging.put("meta", self._key, mode.encode())
        self._replica.staging.commit(sync=True)
        self._chosen = mode
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was found, after the mode changed: it is looked for anew."""
        self.local.clear()
        self._blocked.clear()
        self.aside.clear()

    @property
    def aside_bytes(self) -> int:
        """The size of what is set aside."""
        return sum(self.aside.values())

    def apply_to(self, nodes: list[NodeId], document: Wanted, busy: Collection[NodeId]) -> list[NodeId]:
        """Return those of the nodes that this disk is to have as the document says; of the others, set aside what the
        document has otherwise."""
        if self.mode == "both" or not nodes:
            return nodes
        if self.mode == "receive-only":
            aside = {node for node in nodes if self.is_blocked(node)}
        else:
            aside = differing(nodes, document, self._index, busy)
            self._replica.clean(node for node in nodes if node not in aside)
        self.aside |= {node: self._replica.size_of(node) for node in aside}
        return [node for node in nodes if node not in aside] if self.mode == "receive-only" else []

    # -- receive-only ------------------------------------------------------------------------------------------------

    async def withhold(self, findings: Findings, looked_at: set[str] | None, recorder: Recorder) -> dict[str, float]:
        """Take note of what was found on disk, without telling anybody; what is as the document has it is synced by
        that. `looked_at`: the paths, None for all. Return paths to look at again, and after how many seconds."""
        before = self.local
        gone = {} if looked_at is None else self._without(before, looked_at, findings)
        self.local = gone
        busy: dict[str, float] = dict.fromkeys(findings.busy, 0.5)
        for seen in findings.appeared:  # parents first: what is in them is looked up by them
            if seen.signature is not None and kind_of(seen.signature) == "dir":
                await self._compare([(None, seen)], before, busy, recorder)
        files = [seen for seen in findings.appeared if seen.signature and kind_of(seen.signature) != "dir"]
        await self._compare([*findings.changed, *((None, seen) for seen in files)], before, busy, recorder)
        respelt = {node: old for node in findings.moved.values() if (old := self._index.path(node)) is not None}
        for node, path in [*findings.missing.items(), *findings.replaced.items(), *respelt.items()]:
            self._forget_left_out(node)
            if self._index.get(node) is not None:
                kind: Literal["changed", "deleted"] = "changed" if path in self.local else "deleted"
                self.local[path] = LocalChange(kind, node, None, None)
        self._index.commit()
        self._block()
        return busy

    def is_blocked(self, node: NodeId) -> bool:
        """Return whether something that was changed here is in the way of what the document says of the node."""
        for _ in range(MAX_DEPTH):
            if node in self._blocked:
                return True
            view = self._replica.view(node) if self._blocked else None
            if view is None or view.parent == ROOT:
                return False
            node = view.parent
        return False

    async def revert(self, keep_as: str) -> int:
        """Put what was changed here out of the way, into the folder `keep_as`, and have the engine bring what the
        others have; return how many changes that were."""
        changes = dict(self.local)
        self._move_back(changes)
        count = len(self.local)
        for number, path in enumerate(sorted(changes, key=lambda path: -path.count("/")), 1):
            with contextlib.suppress(OSError):  # what cannot be put away stays a local change
                self._put_away(path, changes[path], keep_as)
            if number % 50 == 0:
                self._index.commit()
                await trio.lowlevel.checkpoint()
        self._index.commit(sync=True)
        self._blocked.clear()
        self.aside.clear()
        return count

    async def _compare(
        self,
        found: list[tuple[NodeId | None, Seen]],
        before: dict[str, LocalChange],
        busy: dict[str, float],
        recorder: Recorder,
    ) -> None:
        to_read = []
        changes: dict[str, LocalChange] = {}
        for node, seen in found:
            parent = self._index.find_folder(seen.directory)
            view = self._replica.child_named(parent, seen.name) if parent is not None else None
            about = node or (view.id if view is not None else None)
            version = view.version.id if view is not None else None
            changes[seen.path] = LocalChange("changed" if about else "added", about, seen.signature, version)
            if about is not None and before.get(seen.path) != changes[seen.path]:
                to_read.append((node, seen))
        again, same = await recorder.adopt(to_read)
        busy |= again
        self.local |= {path: change for path, change in changes.items() if path not in same and path not in again}

    def _without(
        self, local: dict[str, LocalChange], looked_at: set[str], findings: Findings
    ) -> dict[str, LocalChange]:
        """Return the changes that a look at some paths said nothing of."""

        def is_covered(path: str) -> bool:
            if path in looked_at:
                return True
            while path := path.rpartition("/")[0]:
                if path in findings.walked or (path in looked_at and self._index.find_folder(path) is None):
                    return True
            return False

        return {path: change for path, change in local.items() if not is_covered(path)}

    def _forget_left_out(self, node: NodeId) -> None:
        for record in self._index.subtree(node):
            if not self._selection.wants(record.id):
                self._index.remove(record.id)

    def _block(self) -> None:
        self._blocked = {change.node for change in self.local.values() if change.node is not None}
        for path, change in self.local.items():
            above = path.rpartition("/")[0] if change.kind == "added" else ""
            while above:
                folder = self._index.find_folder(above)
                if folder is not None and self._replica.view(folder) is None:
                    self._blocked.add(folder)  # deleted elsewhere, and not empty here
                above = above.rpartition("/")[0]
        self.aside.clear()

    def _move_back(self, changes: dict[str, LocalChange]) -> None:
        """Give what was only renamed or moved its old place; take it, and what it explains, out of `changes`."""
        gone = {change.node: path for path, change in changes.items() if change.kind == "deleted"}
        for path, change in sorted(changes.items()):
            if change.kind != "added" or change.signature is None or path not in changes:
                continue
            node = self._index.by_inode(change.signature.device, change.signature.inode)
            record = self._index.get(node) if node is not None else None
            if record is None or record.id not in gone or not _is_moved(record, change.signature):
                continue
            source, target = os.path.join(self._root, path), os.path.join(self._root, gone[record.id])
            try:
                own = [source] if record.kind == "dir" else []
                with self._disk.writable(os.path.dirname(source), os.path.dirname(target), *own):
                    if self._index.fold(path) == self._index.fold(gone[record.id]):  # one name to the disk
                        between = os.path.join(self._root, PRIVATE, "tmp", record.id.hex())
                        self._disk.rename_new(source, between)
                        source = between
                    self._disk.rename_new(source, target)
            except OSError:
                continue
            for done in [each for each in changes if each in (path, gone[record.id]) or each.startswith(path + "/")]:
                del changes[done]

    def _put_away(self, path: str, change: LocalChange, keep_as: str) -> None:
        full = os.path.join(self._root, path)
        found = self._disk.look(full)
        record = self._index.get(change.node) if change.node is not None else None
        if found is not None and kind_of(found) == "dir":
            if record is not None and record.kind == "dir":
                self._disk.set_meta(full, record.content, found)
                self._index.put_signature(record, self._disk.look(full) or found)
                return
            with self._disk.writable(os.path.dirname(full)):
                self._disk.fs.rmdir(full)
        elif found is not None:
            version = record.version.hex() if record is not None and record.version is not None else "0"
            node = change.node or derived_node_id(ROOT, path, "file")
            kept = os.path.join(keep_as, f"{node.hex()}-{version}-{found.ctime_ns}")
            with self._disk.writable(os.path.dirname(full)):
                self._disk.rename_new(full, kept)
            if record is not None:  # most of its chunks may be those of before
                self._index.places.keep(os.path.basename(kept), record.content)
        if change.node is not None:
            for inside in self._index.subtree(change.node):
                self._index.remove(inside.id)
                self._replica.stage_dirty(inside.id)
            self._replica.stage_dirty(change.node)


def _is_moved(record: LocalNode, found: Signature) -> bool:
    if record.kind == "dir":
        return kind_of(found) == "dir"
    return (record.signature.size, record.signature.mtime_ns) == (found.size, found.mtime_ns)


def versions_of(root: str) -> str:
    """Return where a folder's replaced files are kept."""
    return os.path.join(root, PRIVATE, "versions")


def first(paths: Iterable[str], most: int = 1000) -> list[str]:
    """Return the first of the paths, in order."""
    return sorted(paths)[:most]
