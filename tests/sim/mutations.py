"""Rules of the product, broken on purpose: the simulator must notice each.

`python -m tests.sim --mutation NAME --seeds FIRST COUNT` stops at the first seed that does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.sim.device import Device
from tests.sim.filesystem import SimFileSystem

from shoal.crdt import placement, tree
from shoal.crdt.authoring import Author
from shoal.crdt.model import FileContent
from shoal.crdt.tree import Tree
from shoal.node.folder import engine
from shoal.node.folder.apply import Applier
from shoal.node.folder.disk import Disk
from shoal.node.folder.freshness import Freshness
from shoal.node.folder.install import Installer
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.record_moves import MoveRecorder
from shoal.node.name_rules import PLAIN
from shoal.node.shown_names import ShownNames
from shoal.node.store import Staging


def replace_without_looking() -> None:
    """What is replaced is not looked at again: a file that a person saves at that moment is overwritten."""

    def replaces(self: Installer, target: Any, made: Any, expected: Any) -> bool:
        self._disk.fs.rename(target.temporary, target.path)
        return True

    Installer._replace = replaces  # type: ignore[method-assign]


def remove_without_looking() -> None:
    """What is removed is not looked at before: an edit of it that nobody has seen goes along."""
    real = Applier._remove

    def remove(self: Applier, record: Any, steps: Any) -> bool:
        path = self._index.path(record.id)
        found = self._disk.look(f"{self._root}/{path}") if path is not None else None
        return real(self, replace(record, signature=found) if found is not None else record, steps)

    Applier._remove = remove  # type: ignore[method-assign]


def order_by_mtime() -> None:
    """Of two concurrent edits the one with the later time of its file is the file, and the other is nothing."""

    def order(version: Any) -> Any:
        return getattr(version.content, "mtime_ns", 0), version.device, version.id

    tree.version_order = order
    Tree._losers = lambda self, record: []  # type: ignore[method-assign]


def place_without_sync() -> None:
    """Files take their names before their content is durable."""
    SimFileSystem.sync_all = lambda self, path: None  # type: ignore[method-assign]


def forget_before_durable() -> None:
    """The store hears of what was done to names before that is durable."""
    Disk.sync_directories = lambda self, paths: None  # type: ignore[method-assign]


def edit_replaces_the_unseen() -> None:
    """An edit replaces versions that its author's disk never held."""
    real = Author.edit

    def edit(self: Author, tree: Tree, node: Any, content: Any, base: Any) -> Any:
        ((owner, version),) = real(self, tree, node, content, base)
        record = tree.index.get(owner)
        heads = tuple(head.id for head in record.heads) if record is not None else ()
        return [(owner, replace(version, replaces=heads))]

    Author.edit = edit  # type: ignore[method-assign]


def delete_beats_edit() -> None:
    """A deletion deletes versions that its author's disk never held."""
    real = Author.delete

    def delete(self: Author, tree: Tree, node: Any, base: Any, seen: Any = ()) -> Any:
        record = tree.index.get(node)
        heads = tuple(head.id for head in record.heads) if record is not None else ()
        return [
            (owner, replace(fact, replaces=heads or fact.replaces))
            for owner, fact in real(self, tree, node, base, seen)
        ]

    Author.delete = delete  # type: ignore[method-assign]


def trust_inodes() -> None:
    """What looks like a moved file by its inode, size and time is not read."""
    real = MoveRecorder._record_move

    def record_move(
        self: MoveRecorder, record: Any, parent: Any, seen: Any, findings: Any, wanted: bool, done: Sequence[Any]
    ) -> None:
        known = list(findings.changed)
        real(self, record, parent, seen, findings, wanted, done)
        for node, _ in findings.changed[len(known) :]:
            moved = self._index.get(node)
            if moved is not None and isinstance(moved.content, FileContent):
                self._index.put(replace(moved, signature=seen.signature))
        findings.changed[:] = known

    MoveRecorder._record_move = record_move  # type: ignore[method-assign]


def read_too_soon() -> None:
    """A file is read while another edit would have the same times."""
    Freshness.wait = lambda self, seen: 0.0  # type: ignore[method-assign]


def store_without_sync() -> None:
    """The store's writes are not synced before others hear of them."""
    real = Staging.commit
    Staging.commit = lambda self, *, sync=True: real(self, sync=False)  # type: ignore[method-assign]


def no_intentions() -> None:
    """What is about to take a name is not written down."""
    LocalIndex.intend = lambda self, node: None  # type: ignore[method-assign]


def unknown_kept_files() -> None:
    """Kept files that a crash hid from the store stay unknown."""
    engine.find_unknown = lambda *arguments: []  # type: ignore[attr-defined]


def places_by_arrival() -> None:
    """Of concurrent moves the one that was heard of last holds."""

    def candidates(record: Any) -> list[Any]:
        replaced = {fact for location in record.locations for fact in location.replaces}
        return sorted(reversed(record.locations), key=lambda place: place.id in replaced)

    placement.candidates = candidates
    vars(tree)["candidates"] = candidates


def take_all_disks_for_ordinary() -> None:
    """What names a disk can hold is not found out."""
    Device._find_rules = lambda self, disk, root: PLAIN  # type: ignore[method-assign]


def forget_twins() -> None:
    """Nobody is looked at whose twin, to the disk, came or went."""
    ShownNames.settle = lambda self, changed: set()  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    rule.__name__.replace("_", "-"): rule
    for rule in (
        replace_without_looking,
        remove_without_looking,
        order_by_mtime,
        place_without_sync,
        forget_before_durable,
        edit_replaces_the_unseen,
        delete_beats_edit,
        trust_inodes,
        read_too_soon,
        store_without_sync,
        no_intentions,
        unknown_kept_files,
        places_by_arrival,
        take_all_disks_for_ordinary,
        forget_twins,
    )
}


def break_rule(name: str) -> None:
    """Have this process's Shoal break the rule."""
    MUTATIONS[name]()
