"""A device of the account that was taken over writes facts that no honest one would: they harm nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from pycrdt import Doc, Map

from shoal.crdt.authoring import Author, Lamport
from shoal.crdt.document import Document, MemoryShards, shard_of
from shoal.crdt.facts import MalformedFact, decode_fact, encode_fact
from shoal.crdt.model import (
    MAX_LAMPORT,
    RESERVED,
    ROOT,
    DeviceId,
    DirContent,
    Fact,
    FactId,
    FileContent,
    Location,
    NodeId,
    Version,
)
from shoal.crdt.tree import Tree
from shoal.crdt.tree_index import MemoryIndex

FILE = FileContent(1, 0o644, 0, bytes(32) + bytes([0, 0, 0, 1]))


@pytest.fixture
def tree() -> Tree:
    return Tree(MemoryIndex())


@pytest.fixture
def author() -> Author:
    return Author(DeviceId(bytes([7]) * 32), Lamport(), random.Random(1).randbytes, lambda: 0)


def received(facts: list[tuple[NodeId, Fact]]) -> list[tuple[NodeId, Fact]]:
    """Return what another device's document takes of the facts."""
    return Document(2, MemoryShards()).apply(Document(1, MemoryShards()).add(facts))


def test_content_of_another_kind_than_the_node_counts_as_a_deletion(tree: Tree, author: Author) -> None:
    node, facts = author.create(tree, ROOT, "folder", "dir", DirContent(0o755))
    tree.apply(facts)
    tree.apply(author.edit(tree, node, FILE, tree.view(node).version.id))  # type: ignore[union-attr]
    assert tree.view(node) is None


def test_a_folder_with_such_content_and_something_in_it_is_still_a_folder(tree: Tree, author: Author) -> None:
    node, facts = author.create(tree, ROOT, "folder", "dir", DirContent(0o755))
    tree.apply(facts)
    tree.apply(author.create(tree, node, "file", "file", FILE)[1])
    tree.apply(author.edit(tree, node, FILE, None))
    view = tree.view(node)
    assert view is not None
    assert view.version.content == DirContent(0o755)


@pytest.mark.parametrize("node", sorted(RESERVED))
def test_an_id_that_no_node_has_is_not_taken(node: NodeId, tree: Tree, author: Author) -> None:
    _, facts = author.create(tree, ROOT, "file", "file", FILE)
    assert received([(node, fact) for _, fact in facts]) == []


def test_a_value_that_is_no_bytes_is_not_taken() -> None:
    node = NodeId(bytes(15) + b"n")
    doc: Doc[Any] = Doc()
    doc.get("facts", type=Map)[(node + bytes(12)).hex()] = 5
    assert Document(2, MemoryShards()).apply({shard_of(node): doc.get_update()}) == []


def test_a_clock_that_ran_to_its_end_stands_still_and_work_goes_on(tree: Tree) -> None:
    clock = Lamport()
    clock.observe(1 << 80)
    author = Author(DeviceId(bytes([7]) * 32), clock, random.Random(1).randbytes, lambda: 0)
    node, facts = author.create(tree, ROOT, "file", "file", FILE)
    assert [decode_fact(encode_fact(fact)) for _, fact in facts] == [fact for _, fact in facts]
    tree.apply(facts)
    edited = replace(FILE, size=1, mtime_ns=5)
    tree.apply(author.edit(tree, node, edited, tree.view(node).version.id))  # type: ignore[union-attr]
    assert tree.view(node).version.content == edited  # type: ignore[union-attr]


def test_a_fact_from_beyond_the_end_of_the_clock_is_refused() -> None:
    fact = Version(FactId(bytes(12)), (), MAX_LAMPORT + 1, DeviceId(bytes(32)), 0, FILE)
    with pytest.raises(MalformedFact):
        decode_fact(encode_fact(fact))


def test_a_tree_of_two_thousand_levels_is_taken(tree: Tree, author: Author) -> None:
    parent = ROOT
    nodes = []
    for _ in range(2000):
        parent, facts = author.create(tree, parent, "d", "dir", DirContent(0o755))
        nodes.append(parent)
        tree.apply(facts)
    moved: Fact = next(f for _, f in author.move(tree, nodes[0], ROOT, "e")[1])
    assert isinstance(moved, Location)
    tree.apply([(nodes[0], moved)])
    assert tree.view(nodes[-1]) is not None
