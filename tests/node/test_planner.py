"""The planner alone: one random tree, changed twice to give what is wanted and what is there; its steps bring them
together, whole plans in order and without a miss, and any parts of plans in at most 200 rounds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt.ids import copy_id
from shoal.crdt.model import ROOT, DeviceId, DirContent, FactId, FileContent, NodeId, NodeView, Version
from shoal.node.folder.local import PARKED, LocalNode
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
    plan,
)
from shoal.node.folder.signature import Signature
from shoal.node.name_rules import same

NAMES = ["a", "b", "c", "d"]
TWINS = ["a", "A", "b", "B", "c"]
SIGNATURE = Signature(1, 1, 1, 1, 1, 1)


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(16))


def version(number: int, kind: str) -> Version:
    content = (
        DirContent(0o700 + number % 8) if kind == "dir" else FileContent(number, 0o644, 0, bytes([number % 256]) * 36)
    )
    return Version(FactId(number.to_bytes(12)), (), number, DeviceId(bytes(32)), 0, content)


class Wanted:
    """The document's tree, as a dict."""

    def __init__(self, views: dict[NodeId, NodeView]) -> None:
        self.views = views

    def view(self, node: NodeId) -> NodeView | None:
        return self.views.get(node)

    def is_waiting(self, node: NodeId) -> bool:
        return False

    def copies(self, view: NodeView) -> list[NodeView]:
        return [each for each in self.views.values() if each.copy_of == view.id]


class Disk:
    """The synced tree as dicts, and what each step does to it. `carry_out` says whether a step could be done. `fold`:
    names of which this is equal are one to the disk."""

    def __init__(self, records: dict[NodeId, LocalNode], fold: Callable[[str], str] = same) -> None:
        self.records = records
        self.fold = fold

    def get(self, node: NodeId) -> LocalNode | None:
        return self.records.get(node)

    def holder(self, parent: NodeId, name: str) -> NodeId | None:
        key = self.fold(name)
        return next((node for each, node in self.children(parent).items() if self.fold(each) == key), None)

    def children(self, parent: NodeId) -> dict[str, NodeId]:
        return {record.name: record.id for record in self.records.values() if record.parent == parent}

    def copies(self, owner: NodeId) -> list[NodeId]:
        return [record.id for record in self.records.values() if record.copy_of == owner]

    def has(self, folder: NodeId) -> bool:
        return folder == ROOT or folder in self.records

    def carry_out(self, step: Step) -> bool:
        match step:
            case MakeFolder(view) | Place(view) if view.id not in self.records:
                if not self.has(view.parent) or self.holder(view.parent, view.name) is not None:
                    return False
                self._put(view)
            case Place(view) | SetMeta(view) | Note(view):
                if view.id not in self.records:
                    return False
                record = self.records[view.id]
                if (record.parent, record.name) != (view.parent, view.name):
                    return False
                self._put(view)
            case Rename(record, view):
                now = self.records.get(record.id)
                if now is None or (now.parent, now.name) != (record.parent, record.name) or not self.has(view.parent):
                    return False
                if self.holder(view.parent, view.name) is not None or self._is_inside(view.parent, record.id):
                    return False
                self.records[record.id] = replace(now, parent=view.parent, name=view.name, copy_of=view.copy_of)
            case Park(record):
                self.records[record.id] = replace(record, parent=PARKED, name=record.id.hex())
            case Remove(record):
                if self.children(record.id):
                    return False
                self.records.pop(record.id, None)
            case Wait():
                return False
        return True

    def _put(self, view: NodeView) -> None:
        content = view.version.content
        assert content is not None
        self.records[view.id] = LocalNode(
            view.id, view.parent, view.name, view.kind, view.version.id, content, SIGNATURE, view.copy_of
        )

    def _is_inside(self, place: NodeId, folder: NodeId) -> bool:
        while place not in (ROOT, PARKED):
            if place == folder:
                return True
            place = self.records[place].parent
        return False


Entries = dict[NodeId, tuple[NodeId, str, str, int]]  # parent, name, kind, version
"""A tree as both sides are made from."""


def random_tree(chance: random.Random, size: int, fold: Callable[[str], str] = same) -> Entries:
    entries: Entries = {}
    for number in range(1, size + 1):
        add(chance, entries, node(number), number, fold)
    return entries


def folders(entries: Entries) -> list[NodeId]:
    return [ROOT, *(each for each, (_, _, kind, _) in entries.items() if kind == "dir")]


def free_place(
    chance: random.Random, entries: Entries, fold: Callable[[str], str], mover: NodeId | None = None
) -> tuple[NodeId, str] | None:
    """`mover`: what is to go there, and may have a name that is the same to the disk."""
    taken = {(parent, fold(name)) for each, (parent, name, _, _) in entries.items() if each != mover}
    names = NAMES if fold is same else TWINS
    free = [(parent, name) for parent in folders(entries) for name in names if (parent, fold(name)) not in taken]
    return chance.choice(free) if free else None


def add(chance: random.Random, entries: Entries, new: NodeId, stamp: int, fold: Callable[[str], str] = same) -> None:
    place = free_place(chance, entries, fold)
    if place is not None:
        entries[new] = (*place, chance.choice(["dir", "file"]), stamp)


def inside(entries: Entries, folder: NodeId) -> set[NodeId]:
    found = {folder}
    grown = True
    while grown:
        more = {each for each, (parent, _, _, _) in entries.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return found


def change(chance: random.Random, entries: Entries, stamp: int, fold: Callable[[str], str] = same) -> None:
    """Do one thing that a person does: make, remove, move, edit, swap, or put a folder into one that was in it."""
    if not entries:
        add(chance, entries, node(stamp), stamp, fold)
        return
    chosen = chance.choice(list(entries))
    parent, name, kind, _ = entries[chosen]
    match chance.randrange(6):
        case 0:
            add(chance, entries, node(stamp), stamp, fold)
        case 1:
            for gone in inside(entries, chosen):
                del entries[gone]
        case 2:
            place = free_place(chance, entries, fold, None if fold is same else chosen)
            if place is not None and place[0] not in inside(entries, chosen):
                entries[chosen] = (*place, *entries[chosen][2:])
        case 3:
            entries[chosen] = (parent, name, kind, stamp)
        case 4:
            other = chance.choice(list(entries))
            if other not in inside(entries, chosen) and chosen not in inside(entries, other):
                there = entries[other]
                entries[chosen] = (*there[:2], *entries[chosen][2:])
                entries[other] = (parent, name, *there[2:])
        case 5:
            within = [each for each, entry in entries.items() if entry[0] == chosen and entry[2] == "dir"]
            taken = {fold(entry[1]) for entry in entries.values() if entry[0] == (within or [ROOT])[0]}
            if within and fold(name) not in taken:  # a/b becomes b/a
                entries[within[0]] = (parent, name, *entries[within[0]][2:])
                entries[chosen] = (within[0], name, *entries[chosen][2:])


def wanted_of(chance: random.Random, entries: Entries) -> Wanted:
    views = {}
    for each, (parent, name, kind, stamp) in entries.items():
        made = NodeView(
            each, parent, name, "dir" if kind == "dir" else "file", version(stamp, kind), (), FactId(b"l" * 12)
        )
        if kind == "file" and chance.random() < 0.2:
            loser = version(stamp + 1000, kind)
            made = replace(made, conflicts=(loser,))
            copy = copy_id(each, loser.id)
            views[copy] = NodeView(copy, parent, f"{name} (conflict)", "file", loser, (), FactId(b"l" * 12), (), each)
        views[each] = made
    return Wanted(views)


def disk_of(chance: random.Random, entries: Entries, fold: Callable[[str], str]) -> Disk:
    records = {}
    for each, (parent, name, kind, stamp) in entries.items():
        said = version(stamp, kind)
        assert said.content is not None
        records[each] = LocalNode(
            each, parent, name, "dir" if kind == "dir" else "file", said.id, said.content, SIGNATURE
        )
        if kind == "file" and chance.random() < 0.2:
            copy = copy_id(each, FactId(b"old" * 4))
            records[copy] = LocalNode(copy, parent, f"{name} (old)", "file", None, said.content, SIGNATURE, each)
    return Disk(records, fold)


def two_sides(chance: random.Random, fold: Callable[[str], str] = same) -> tuple[Wanted, Disk]:
    base = random_tree(chance, chance.randrange(12), fold)
    sides = dict(base), dict(base)
    for number, side in enumerate(sides):
        for count in range(chance.randrange(12)):
            change(chance, side, 100 * (number + 1) + count, fold)
    return wanted_of(chance, sides[0]), disk_of(chance, sides[1], fold)


def agree(wanted: Wanted, disk: Disk) -> bool:
    shown = {
        (each.id, each.parent, each.name, each.kind, each.version.id, each.version.content)
        for each in wanted.views.values()
    }
    held = {(each.id, each.parent, each.name, each.kind, each.version, each.content) for each in disk.records.values()}
    return shown == held


def everything(chance: random.Random, wanted: Wanted, disk: Disk) -> list[NodeId]:
    nodes = sorted({*wanted.views, *disk.records, *(r.copy_of for r in disk.records.values() if r.copy_of)})
    chance.shuffle(nodes)
    return nodes


@pytest.mark.parametrize("fold", [same, str.lower], ids=["all names are told apart", "the case is not told"])
@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_whole_plans_work_in_their_order_and_end(fold: Callable[[str], str], seed: int) -> None:
    chance = random.Random(seed)
    wanted, disk = two_sides(chance, fold)
    for _ in range(20):
        steps = plan(everything(chance, wanted, disk), wanted, disk, fold=fold)
        for step in steps:
            if isinstance(step, Remove):
                assert step.record.id not in wanted.views, "what is wanted is never removed"
            assert disk.carry_out(step) or isinstance(step, Wait), step
        if agree(wanted, disk):
            assert plan(everything(chance, wanted, disk), wanted, disk, fold=fold) == []
            return
    raise AssertionError(f"not equal after 20 rounds: {plan(everything(chance, wanted, disk), wanted, disk)}")


@pytest.mark.parametrize("fold", [same, str.lower], ids=["all names are told apart", "the case is not told"])
@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_any_parts_of_plans_end_too(fold: Callable[[str], str], seed: int) -> None:
    chance = random.Random(seed)
    wanted, disk = two_sides(chance, fold)
    for _ in range(200):
        steps = plan(everything(chance, wanted, disk), wanted, disk, fold=fold)
        done = chance.random() < 0.3  # now and then all of it, in order; else some of it, in any order
        for step in steps if done else chance.sample(steps, chance.randrange(len(steps) + 1)):
            if isinstance(step, Remove):
                assert step.record.id not in wanted.views
            disk.carry_out(step)
        if agree(wanted, disk):
            return
    raise AssertionError("not equal after 200 rounds")


def one(number: int, parent: NodeId, name: str, kind: str = "file") -> NodeView:
    place = FactId(b"l" * 12)
    return NodeView(node(number), parent, name, "dir" if kind == "dir" else "file", version(number, kind), (), place)


def there(view: NodeView) -> LocalNode:
    assert view.version.content is not None
    return LocalNode(view.id, view.parent, view.name, view.kind, view.version.id, view.version.content, SIGNATURE)


def planned(
    views: list[NodeView],
    records: list[LocalNode],
    busy: set[NodeId] | None = None,
    fold: Callable[[str], str] = same,
) -> list[str]:
    """Return the steps as words."""
    wanted, disk = Wanted({view.id: view for view in views}), Disk({record.id: record for record in records}, fold)
    nodes = sorted({*wanted.views, *disk.records})
    words = []
    for step in plan(nodes, wanted, disk, busy or set(), fold):
        match step:
            case Rename(record, view):
                words.append(f"rename {record.name} {view.name}")
            case Park(record) | Remove(record):
                words.append(f"{type(step).__name__.lower()} {record.name}")
            case Wait():
                words.append("wait")
            case MakeFolder(view) | SetMeta(view) | Note(view) | Place(view):
                words.append(f"{type(step).__name__.lower()} {view.name}")
    return words


A, B = one(1, ROOT, "a"), one(2, ROOT, "b")
SWAPPED_A, SWAPPED_B = replace(A, name="b"), replace(B, name="a")
FOLDER, INNER = one(3, ROOT, "folder", "dir"), one(4, node(3), "inner")


@pytest.mark.parametrize(
    ("views", "records", "steps"),
    [
        ([A], [there(A)], []),
        ([A], [], ["place a"]),
        ([], [there(A)], ["remove a"]),
        ([replace(A, name="c")], [there(A)], ["rename a c"]),
        ([replace(A, version=version(9, "file"))], [there(A)], ["place a"]),
        ([replace(A, version=replace(A.version, id=FactId(b"n" * 12)))], [there(A)], ["note a"]),
        ([FOLDER, INNER], [], ["makefolder folder", "place inner"]),
        ([], [there(FOLDER), there(INNER)], ["remove inner", "remove folder"]),
        ([replace(INNER, parent=ROOT)], [there(FOLDER), there(INNER)], ["rename inner inner", "remove folder"]),
        ([SWAPPED_A, SWAPPED_B], [there(A), there(B)], ["park a", "rename b a", f"rename {A.id.hex()} b"]),
        ([replace(B, name="a")], [there(A), there(B)], ["remove a", "rename b a"]),
        ([replace(A, name="b"), replace(B, name="c")], [there(A), there(B)], ["rename b c", "rename a b"]),
    ],
    ids=[
        "nothing differs", "new", "gone", "renamed", "edited", "same bytes, other version", "new folder", "folder gone",
        "moved out of a folder that goes", "two swapped", "onto one that goes", "a chain",
    ],
)  # fmt: skip
def test_steps(views: list[NodeView], records: list[LocalNode], steps: list[str]) -> None:
    assert sorted(planned(views, records)) == sorted(steps)


def test_what_is_being_placed_is_left_alone() -> None:
    assert planned([replace(A, name="c")], [there(A)], {A.id}) == []
    assert planned([replace(B, name="a")], [there(A), there(B)], {A.id}) == ["wait"]


def test_a_name_that_is_the_same_to_the_disk_is_left_before_it_is_taken() -> None:
    assert planned([replace(A, name="A")], [there(A)]) == ["rename a A"]
    assert planned([replace(A, name="A")], [there(A)], fold=str.lower) == ["park a", f"rename {A.id.hex()} A"]


def test_who_has_a_name_that_is_the_same_to_the_disk_goes_first() -> None:
    views = [replace(A, name="c"), replace(B, name="A")]
    assert planned(views, [there(A), there(B)], fold=str.lower) == ["rename a c", "rename b A"]
    assert planned(views[1:], [there(A), there(B)], fold=str.lower) == ["remove a", "rename b A"]
