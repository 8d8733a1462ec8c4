"""Marks of nodes that the engine must look at: the same whether they are few or many, and after a restart."""

from __future__ import annotations

import random

import pytest

from shoal.crdt.model import FolderId, NodeId
from shoal.node import dirty
from shoal.node.dirty import DirtyNodes
from shoal.node.store import MemoryStore, Staging

FOLDER = FolderId(b"f" * 16)


def test_marks_are_the_same_in_memory_and_in_the_store_as_they_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "KEPT", 200)
    rng = random.Random(1)
    staging = Staging(MemoryStore())
    marks = DirtyNodes(staging, FOLDER)
    nodes = [NodeId(rng.randbytes(16)) for _ in range(600)]
    expected: dict[NodeId, int] = {}
    for share in (0.9, 0.1, 0.6, 0.0, 0.2):  # of them marked, round by round: few and many in turn
        for node in nodes:
            if rng.random() < share:
                expected[node] = rng.randrange(100)
                marks.mark(node, expected[node])
            else:
                expected.pop(node, None)
                marks.clean(node)
        staging.commit()
        skip = set(nodes[:100])
        for found in (marks, DirtyNodes(staging, FOLDER)):
            assert (found.count, found.bytes) == (len(expected), sum(expected.values()))
            assert found.all() == sorted(expected)
            assert {node for node in nodes if found.is_marked(node)} == expected.keys()
            left = expected.keys() - skip
            first = found.first(7, skip)
            assert set(first) <= left
            assert len(set(first)) == len(first)
            assert bool(first) == bool(left)
            assert set(found.first(600)) == expected.keys() or len(expected) > dirty.KEPT


def test_what_was_marked_first_is_seen_to_first_and_anew_is_last() -> None:
    staging = Staging(MemoryStore())
    marks = DirtyNodes(staging, FOLDER)
    nodes = [NodeId(bytes([byte]) * 16) for byte in (5, 3, 9, 1)]
    for node in nodes:
        marks.mark(node, 1)
    assert marks.first(2) == nodes[:2]
    assert marks.first(9, {nodes[0]}) == nodes[1:]
    marks.mark(nodes[0], 2)
    assert marks.first(9) == [*nodes[1:], nodes[0]]


def test_where_all_that_are_in_memory_are_skipped_others_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "KEPT", 3)
    staging = Staging(MemoryStore())
    marks = DirtyNodes(staging, FOLDER)
    nodes = [NodeId(bytes([byte]) * 16) for byte in range(1, 9)]
    for node in nodes:
        marks.mark(node, 1)
    staging.commit()
    assert set(marks.first(9, nodes[:7])) == {nodes[7]}
    assert marks.first(9, nodes) == []
