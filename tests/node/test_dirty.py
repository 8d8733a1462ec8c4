"""Marks of nodes that the engine must look at: the same whether they are few or many, and after a restart."""

from __future__ import annotations

import random

from shoal.crdt.model import FolderId, NodeId
from shoal.node import dirty
from shoal.node.dirty import DirtyNodes
from shoal.node.store import MemoryStore, Staging

FOLDER = FolderId(b"f" * 16)


def test_marks_are_the_same_in_memory_and_in_the_store_as_they_come_and_go() -> None:
    rng = random.Random(1)
    staging = Staging(MemoryStore())
    marks = DirtyNodes(staging, FOLDER)
    nodes = [NodeId(rng.randbytes(16)) for _ in range(3 * dirty.FEW)]
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
            assert found.first(len(nodes)) == sorted(expected)
            assert {node for node in nodes if found.is_marked(node)} == expected.keys()
            assert found.first(7, skip) == sorted(expected.keys() - skip)[:7]
