"""The node steps back behind what a person does, unless it is told to be eager."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nodes import Node, running

pytestmark = pytest.mark.e2e


def nice_of_threads(pid: int) -> set[int]:
    stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    return {int(stat.rpartition(")")[2].split()[16]) for stat in stats}


def test_all_threads_of_a_node_give_way_to_other_programs(tmp_path: Path) -> None:
    node = Node(tmp_path / "one")
    with running(node):
        assert nice_of_threads(node.pid) == {max(9, os.nice(0))}


def test_an_eager_node_does_not(tmp_path: Path) -> None:
    node = Node(tmp_path / "one")
    node.up("--eager")
    try:
        assert nice_of_threads(node.pid) == {os.nice(0)}
    finally:
        node.down()
