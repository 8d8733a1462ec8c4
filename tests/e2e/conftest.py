"""Two nodes that know nothing of each other yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Node, running


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    with running(one, other):
        yield one, other
