"""A deletion holds against the places that its author had seen, and against no other."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt.frontier import missing
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.model import ROOT, DirContent, FileContent, FolderId, NodeId
from shoal.node.changes import Create, Delete, Edit, Move
from shoal.node.folder.deletion import overruled
from shoal.node.replica import Replica
from shoal.node.store import MemoryStore

BYTES = FileContent(1, 0o644, 0, bytes(32) + bytes([0, 0, 0, 1]))


def replica(number: int, seed: int = 0) -> Replica:
    key = DeviceKey(bytes([number]) * 32)
    entropy = random.Random(seed * 10 + number).randbytes
    return Replica(
        MemoryStore(),
        FolderId(b"f" * 16),
        FolderKeys.from_secret(b"s" * 32),
        key,
        lambda device: True,
        lambda: 0,
        entropy,
    )


def meet(one: Replica, other: Replica) -> None:
    for source, target in ((one, other), (other, one)):
        for span in missing(source.frontier, target.frontier):
            assert target.receive_entries(source.read_entries(span)) is None


def places(of: Replica, *nodes: NodeId) -> tuple[bytes, ...]:
    records = [record for node in nodes if (record := of.tree.index.get(node)) is not None]
    return tuple(place.id for record in records for place in record.locations)


def delete(by: Replica, node: NodeId, *along: NodeId) -> None:
    view = by.view(node)
    assert view is not None
    by.commit([Delete(node, view.version.id, places(by, node, *along))])  # type: ignore[arg-type]


def pair_with_a_folder() -> tuple[Replica, Replica, NodeId, NodeId]:
    one, other = replica(1), replica(2)
    made = one.commit([Create(ROOT, "d", "dir", DirContent(0o755)), Create(0, "f", "file", BYTES)])
    meet(one, other)
    return one, other, made[0].node, made[1].node


def test_a_move_that_was_not_seen_overrules_the_deletion_on_both_devices() -> None:
    one, other, _, node = pair_with_a_folder()
    delete(one, node)
    other.commit([Move(node, ROOT, "elsewhere")])
    meet(one, other)
    for device in (one, other):
        assert device.view(node) is None
        assert overruled(device.tree.index, node) is not None


def test_a_move_that_was_seen_does_not() -> None:
    one, other, _, node = pair_with_a_folder()
    other.commit([Move(node, ROOT, "elsewhere")])
    meet(one, other)
    delete(one, node)
    meet(one, other)
    assert overruled(other.tree.index, node) is None


def test_a_moved_folder_keeps_what_went_with_it_and_not_what_was_deleted_alone() -> None:
    one, other, folder, node = pair_with_a_folder()
    alone = one.commit([Create(folder, "alone", "file", BYTES)])[0].node
    meet(one, other)
    delete(one, alone)
    delete(one, node, folder)
    delete(one, folder)
    other.commit([Move(folder, ROOT, "renamed")])
    meet(one, other)
    index = other.tree.index
    assert [overruled(index, each) is not None for each in (folder, node, alone)] == [True, True, False]


def test_a_deletion_that_names_no_place_as_older_ones_holds_against_every_move() -> None:
    one, other, _, node = pair_with_a_folder()
    view = one.view(node)
    assert view is not None
    one.commit([Delete(node, view.version.id)])
    other.commit([Move(node, ROOT, "elsewhere")])
    meet(one, other)
    assert overruled(other.tree.index, node) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(3, 25))
def test_all_devices_judge_alike_and_what_several_keep_at_once_is_no_conflict(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    devices = [replica(number, seed) for number in (1, 2, 3)]
    made = devices[0].commit(
        [Create(ROOT, name, "dir", DirContent(0o755)) for name in "de"] + [Create(0, "f", "file", BYTES)]
    )
    folder, second, node = (each.node for each in made)
    for device in devices[1:]:
        meet(devices[0], device)
    for _ in range(steps):
        device = rng.choice(devices)
        act = rng.choice(["move", "move folder", "delete", "delete folder", "meet"])
        if act == "meet":
            meet(device, rng.choice([other for other in devices if other is not device]))
        elif act == "move" and device.view(node) is not None:
            device.commit([Move(node, rng.choice([ROOT, folder, second]), rng.choice("fgh"))])
        elif act == "move folder" and device.view(folder) is not None:
            device.commit([Move(folder, rng.choice([ROOT, second]), rng.choice("dx"))])
        elif act.startswith("delete") and device.view(node) is not None:
            delete(device, node, *([folder] if act == "delete folder" else []))
    for _ in range(2):
        for device in devices[1:]:
            meet(devices[0], device)
    verdicts = {overruled(device.tree.index, node) is not None for device in devices}
    assert len(verdicts) == 1
    if verdicts == {True}:
        for device in devices:  # each keeps it before it hears of the others
            deletion = overruled(device.tree.index, node)
            device.commit([Edit(node, BYTES, deletion)])
        for _ in range(2):
            for device in devices[1:]:
                meet(devices[0], device)
        views = [device.view(node) for device in devices]
        assert views[0] is not None
        assert not views[0].conflicts
        assert views[0] == views[1] == views[2]
