"""Replicas that got the same facts, in whatever order, show the same tree; and nothing that stands is out of reach."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replicas import Replica, Update, all_views, below

from shoal.crdt.model import ROOT, DirContent, FileContent, NodeId, Version
from shoal.crdt.tree import Tree, same_content
from shoal.crdt.tree_index import MemoryIndex, decode_record, encode_record


def check_tree(replica: Replica) -> None:
    views = all_views(replica.tree)
    assert len({v.id for v in views}) == len(views), "a node is shown twice"
    assert len({(v.parent, v.name) for v in views}) == len(views), "two siblings share a name"
    for view in views:
        assert replica.tree.view(view.id) == view
    replaced = {old for _, fact in replica.facts.values() for old in fact.replaces}
    shown = [v.version for v in views]
    for node, fact in replica.facts.values():
        if isinstance(fact, Version) and fact.content is not None and fact.id not in replaced:
            standing = replica.tree.view(node)
            assert standing is not None, "a version that nothing replaced is out of reach"
            if isinstance(fact.content, FileContent):
                assert any(same_content(fact.content, version.content) for version in shown)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(3, 5), steps=st.integers(1, 60))
def test_replicas_converge_under_any_order_duplication_and_retry(seed: int, count: int, steps: int) -> None:
    rng = random.Random(seed)
    replicas = [Replica(number, random.Random(rng.random())) for number in range(count)]
    lost: list[tuple[Replica, Update]] = []
    for _ in range(steps):
        rng.choice(replicas).act()
        for sender in replicas:
            for update in sender.written:
                target = rng.choice(replicas)
                if target is not sender and rng.random() < 0.15:
                    (lost.append((target, update)) if rng.random() < 0.5 else target.receive(update))
    for target, update in lost:
        target.receive(update)
    everything = [update for replica in replicas for update in replica.written]
    for replica in replicas:
        rng.shuffle(everything)
        for update in everything:
            if update[0] != replica.number:
                replica.receive(update)
                if rng.random() < 0.2:
                    replica.receive(update)
    trees = [sorted(all_views(replica.tree), key=lambda v: v.id) for replica in replicas]
    assert all(tree == trees[0] for tree in trees)
    for replica in replicas:
        check_tree(replica)
        for node, _ in replica.facts.values():
            record = replica.tree.index.get(node)
            assert record is not None
            assert decode_record(node, encode_record(record)) == record


@pytest.fixture
def pair() -> tuple[Replica, Replica]:
    return Replica(1, random.Random(1)), Replica(2, random.Random(2))


def exchange(one: Replica, other: Replica) -> None:
    for source, target in ((one, other), (other, one)):
        for update in source.written:
            target.receive(update)


def file(mark: int) -> FileContent:
    return FileContent(1, 0o644, 0, bytes([mark]) * 32 + bytes([0, 0, 0, 1]))


def add(replica: Replica, name: str, parent: NodeId = ROOT, mark: int = 0) -> NodeId:
    content = file(mark) if mark else DirContent(0o755)
    node, facts = replica.author.create(replica.tree, parent, name, "file" if mark else "dir", content)
    replica.write(facts)
    return node


def test_the_same_path_added_on_two_devices_is_one_node(pair: tuple[Replica, Replica]) -> None:
    one, other = pair
    for replica in pair:
        add(replica, "f", add(replica, "d"), mark=7)
    exchange(one, other)
    assert [v.name for v in all_views(one.tree)] == ["d", "f"]


def test_different_content_at_one_path_is_a_conflict_with_both_kept(pair: tuple[Replica, Replica]) -> None:
    one, other = pair
    add(one, "f", mark=1)
    add(other, "f", mark=2)
    exchange(one, other)
    assert [v.version.content for v in all_views(one.tree)] == [file(2), file(1)]
    assert all_views(one.tree) == all_views(other.tree)


def test_deleting_the_conflict_copy_settles_the_conflict_everywhere(pair: tuple[Replica, Replica]) -> None:
    one, other = pair
    add(one, "f", mark=1)
    add(other, "f", mark=2)
    exchange(one, other)
    copy = all_views(one.tree)[1]
    before = len(one.written)
    one.write(one.author.delete(one.tree, copy.id, copy.version.id))
    other.receive(one.written[before])
    assert [v.version.content for v in all_views(other.tree)] == [file(2)]


def test_an_edit_beats_a_concurrent_delete_and_brings_its_folder_back(pair: tuple[Replica, Replica]) -> None:
    one, other = pair
    folder = add(one, "d")
    node = add(one, "f", folder, mark=1)
    exchange(one, other)
    written = len(one.written)
    for target in (node, folder):
        view = one.tree.view(target)
        assert view is not None
        one.write(one.author.delete(one.tree, target, view.version.id))
    view = other.tree.view(node)
    assert view is not None
    other.write(other.author.edit(other.tree, node, file(2), view.version.id))
    for update in one.written[written:]:
        other.receive(update)
    one.receive(other.written[-1])
    assert [v.name for v in all_views(one.tree)] == ["d", "f"]
    assert all_views(one.tree) == all_views(other.tree)


def test_two_folders_moved_into_each_other_both_stay_in_the_tree(pair: tuple[Replica, Replica]) -> None:
    one, other = pair
    a, b = add(one, "a"), add(one, "b")
    exchange(one, other)
    written = len(one.written)
    one.write(one.author.move(one.tree, a, b, "a")[1])
    other.write(other.author.move(other.tree, b, a, "b")[1])
    other.receive(one.written[written])
    one.receive(other.written[-1])
    assert {v.id for v in all_views(one.tree)} == {a, b}
    assert all_views(one.tree) == all_views(other.tree)


def test_ten_thousand_files_in_one_folder_are_one_quick_batch() -> None:
    replica = Replica(1, random.Random(1))
    folder = add(replica, "d")
    facts = [
        fact
        for at in range(10_000)
        for fact in replica.author.create(replica.tree, folder, f"f{at}", "file", file(1))[1]
    ]
    replica.write(facts)
    assert len(replica.tree.children(folder)) == 10_000
    gone = [
        fact
        for view in replica.tree.children(folder)
        for fact in replica.author.delete(replica.tree, view.id, view.version.id)
    ]
    replica.write(gone)
    assert replica.tree.children(folder) == []


def test_a_node_with_the_name_that_a_twin_would_be_shown_by_keeps_it(pair: tuple[Replica, Replica]) -> None:
    one, other = pair
    add(one, "a")
    add(other, "a", mark=2)
    add(other, "b", mark=3)
    node = next(view.id for view in other.tree.children(ROOT) if view.name == "b")
    exchange(one, other)
    (shown,) = {view.name for view in one.tree.children(ROOT)} - {"a", "b"}
    one.write(one.author.move(one.tree, node, ROOT, shown)[1])
    exchange(one, other)
    for replica in pair:
        check_tree(replica)
        assert replica.tree.view(node).name == shown  # type: ignore[union-attr]


@pytest.mark.parametrize("mark", [0, 7], ids=["folder", "file"])
def test_what_two_devices_added_alike_is_gone_when_one_deletes_it(pair: tuple[Replica, Replica], mark: int) -> None:
    one, other = pair
    for replica in pair:
        add(replica, "same", mark=mark)
    exchange(one, other)
    view = all_views(one.tree)[0]
    one.write(one.author.delete(one.tree, view.id, view.version.id))
    other.receive(one.written[-1])
    assert all_views(one.tree) == all_views(other.tree) == []


def test_the_edit_of_what_two_devices_added_alike_is_no_conflict(pair: tuple[Replica, Replica]) -> None:
    one, other = pair
    for replica in pair:
        add(replica, "same", mark=7)
    exchange(one, other)
    view = all_views(one.tree)[0]
    one.write(one.author.edit(one.tree, view.id, file(8), view.version.id))
    other.receive(one.written[-1])
    assert [v.version.content for v in all_views(other.tree)] == [file(8)]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 8))
def test_every_node_that_a_change_of_others_moves_is_told(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    first, *movers, reader = [Replica(number, random.Random(rng.random())) for number in range(4)]
    folders = [add(first, name) for name in "abc"]
    for replica in (*movers, reader):
        for update in first.written:
            replica.receive(update)
    for mover in movers:
        for _ in range(steps):
            node, parent = rng.sample(folders, 2)
            if parent not in below(mover.tree, node):
                mover.write(mover.author.move(mover.tree, node, parent, rng.choice("xyz"))[1])
    everything = [update for mover in movers for update in mover.written]
    rng.shuffle(everything)
    for update in everything:
        before = {view.id: view for view in all_views(reader.tree)}
        told = reader.tree.apply(reader.document.apply(update[2]))
        after = {view.id: view for view in all_views(reader.tree)}
        assert {node for node in before.keys() | after.keys() if before.get(node) != after.get(node)} <= told


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_the_tree_is_the_same_whether_facts_come_one_by_one_or_in_batches_once_or_twice(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    replicas = [Replica(number, random.Random(rng.random())) for number in range(3)]
    for _ in range(steps):
        rng.choice(replicas).act()
        source, target = rng.sample(replicas, 2)
        if source.written and rng.random() < 0.3:
            target.receive(rng.choice(source.written))
    facts = list({fact.id: (node, fact) for replica in replicas for node, fact in replica.facts.values()}.values())
    one_by_one, in_batches = Tree(MemoryIndex()), Tree(MemoryIndex())
    for fact in rng.sample(facts, len(facts)):
        one_by_one.apply([fact])
    mixed = rng.sample(facts, len(facts)) if rng.random() < 0.5 else facts  # as authors write them: new nodes whole
    while mixed:
        size = rng.randint(1, 12)
        in_batches.apply(mixed[:size])
        if rng.random() < 0.3:
            in_batches.apply(rng.sample(facts, min(len(facts), size)))
        mixed = mixed[size:]
    assert sorted(all_views(one_by_one), key=lambda v: v.id) == sorted(all_views(in_batches), key=lambda v: v.id)
    for node, _ in facts:
        one, other = one_by_one.index.get(node), in_batches.index.get(node)
        assert one is not None
        assert other is not None
        assert (one.parent, one.name, one.live) == (other.parent, other.name, other.live)
        assert not one.live or one.shown == other.shown
        assert {head.id for head in one.heads} == {head.id for head in other.heads}
