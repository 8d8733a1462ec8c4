"""What was when, although clocks are wrong; and the way back to how a folder stood."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from replicas import Replica, all_views

from shoal.crdt.history import Past, by_time, times
from shoal.crdt.model import ROOT, DeviceId, FactId, FileContent, NodeId, Version
from shoal.crdt.rewind import Rewind, rewind
from shoal.crdt.tree import Tree

NOW = 10**12


def version(number: int, time_ms: int, *replaces: int) -> Version:
    device = DeviceId(bytes(32))
    return Version(fact(number), tuple(map(fact, replaces)), number, device, time_ms, FileContent(0, 0o644, 0, b""))


def fact(number: int) -> FactId:
    return FactId(number.to_bytes(12))


def test_a_time_in_the_future_counts_as_now() -> None:
    assert times([version(1, NOW + 10**9)], NOW) == {fact(1): NOW}


def test_nothing_is_older_than_what_it_replaces() -> None:
    found = times([version(1, 5000), version(2, 17, 1), version(3, 18, 2)], NOW)
    assert found == {fact(1): 5000, fact(2): 5000, fact(3): 5000}


def test_versions_of_one_time_stand_in_the_order_in_which_they_were_made() -> None:
    facts = [version(2, 17, 1), version(1, 5000), version(3, 6000, 2)]
    assert [each.id for _, each in by_time(facts, NOW)] == [fact(1), fact(2), fact(3)]


def shape(tree: Tree) -> set[tuple[str, object]]:
    """Return paths and contents."""
    paths: dict[NodeId, str] = {ROOT: ""}
    found: set[tuple[str, object]] = set()
    for view in sorted(all_views(tree), key=lambda view: depth(tree, view.id)):
        paths[view.id] = f"{paths[view.parent]}/{view.name}"
        found.add((paths[view.id], view.version.content if view.kind == "file" else "folder"))
    return found


def depth(tree: Tree, node: NodeId) -> int:
    view = tree.view(node)
    return 1 + depth(tree, view.parent) if view is not None else 0


def past_of(replica: Replica, at_ms: int) -> Tree:
    past = Past(at_ms, NOW)
    nodes = {node for node, _ in replica.facts.values()}
    for node in nodes:
        past.add(node, [each for owner, each in replica.facts.values() if owner == node])
    return past.tree()


def follow(replica: Replica, plan: Rewind) -> None:
    """Make the changes of a rewind, as a folder does."""
    author, tree = replica.author, replica.tree
    for back in plan.back:
        if back.content is not None:
            replica.write(author.edit(tree, back.node, back.content, back.base))
        if back.place is not None:
            replica.write(author.move(tree, back.node, *back.place)[1])
    for node in plan.newer:
        view = tree.view(node)
        if view is not None:
            replica.write(author.delete(tree, node, view.version.id))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 30), st.integers(0, 30))
def test_a_folder_goes_back_to_exactly_how_it_stood(seed: int, before: int, after: int) -> None:
    replica = Replica(1, random.Random(seed))
    for step in range(before):
        replica.now_ms = step
        replica.act()
    stood = shape(replica.tree)
    for step in range(after):
        replica.now_ms = 1000 + step
        replica.act()
    old = past_of(replica, 999)
    assert shape(old) == stood
    follow(replica, rewind(old, replica.tree, ROOT))
    assert shape(replica.tree) == stood
    assert rewind(old, replica.tree, ROOT) == Rewind((), ())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9))
def test_without_what_is_newer_nothing_goes(seed: int) -> None:
    replica = Replica(1, random.Random(seed))
    for step in range(40):
        replica.now_ms = step
        replica.act()
    there = {view.id for view in all_views(replica.tree)}
    plan = rewind(past_of(replica, 19), replica.tree, ROOT)
    follow(replica, Rewind(plan.back, ()))
    assert there <= {view.id for view in all_views(replica.tree)}
