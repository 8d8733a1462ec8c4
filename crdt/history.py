"""What was: a node's versions and places by time, and the tree as it stood at a moment.

Clocks are wrong, so a fact's time is what its author's clock said only as far as that can be: it is not in the future
of whoever asks, and not before the time of what it replaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shoal.crdt.model import Fact, FactId, NodeId
from shoal.crdt.tree import Tree
from shoal.crdt.tree_index import MemoryIndex


def times(facts: Iterable[Fact], now_ms: int) -> dict[FactId, int]:
    """Return when each of a node's facts came to be, Unix milliseconds."""
    known: dict[FactId, int] = {}
    for fact in sorted(facts, key=lambda fact: (fact.lamport, fact.device, fact.id)):
        seen = [known[replaced] for replaced in fact.replaces if replaced in known]
        known[fact.id] = max([min(fact.time_ms, now_ms), *seen])
    return known


def by_time(facts: Iterable[Fact], now_ms: int) -> list[tuple[int, Fact]]:
    """Return a node's facts with their times, oldest first."""
    facts = list(facts)
    when = times(facts, now_ms)
    return sorted(((when[fact.id], fact) for fact in facts), key=lambda each: (each[0], each[1].lamport, each[1].id))


class Past:
    """Gathers the facts of a folder that were there at `at_ms`; `tree` is what they meant."""

    def __init__(self, at_ms: int, now_ms: int) -> None:
        self._at_ms = at_ms
        self._now_ms = now_ms
        self._facts: list[tuple[NodeId, Fact]] = []

    def add(self, node: NodeId, facts: Sequence[Fact]) -> None:
        """Take all facts of a node."""
        when = times(facts, self._now_ms)
        self._facts += [(node, fact) for fact in facts if when[fact.id] <= self._at_ms]

    def tree(self) -> Tree:
        """Return the tree of that time."""
        tree = Tree(MemoryIndex())
        tree.apply(self._facts)
        return tree
