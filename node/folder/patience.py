"""Which nodes are left alone for now, and until when."""

from __future__ import annotations

from collections import Counter

from shoal.crdt.model import NodeId

RETRY = 3.0  # seconds after which what failed is tried again
RETRY_MOST = 120.0  # reached by doubling
SOON = 0.05  # seconds until what may well work now is tried again
SOON_MOST = 3  # times in a row


class Patience:
    """`now` is any clock in seconds that does not go back."""

    def __init__(self) -> None:
        self._until: dict[NodeId, float] = {}
        self._tries: Counter[NodeId] = Counter()
        self._waiting: set[NodeId] = set()
        self._waiting_until = 0.0

    def failed(self, node: NodeId, now: float, *, soon: bool = False) -> None:
        """Something of the outside was in the way of this node; `soon`: it is being looked at."""
        self._tries[node] += 1
        tries = self._tries[node]
        if soon and tries <= SOON_MOST:
            self._until[node] = now + SOON
        else:
            self._until[node] = now + min(RETRY_MOST, RETRY * 2.0 ** min(20, max(0, tries - SOON_MOST)))

    def succeeded(self, node: NodeId) -> None:
        """It came to its place, or is not to come any more."""
        self._tries.pop(node, None)

    def waits(self, node: NodeId, now: float) -> None:
        """Other nodes have to go first."""
        if not self._waiting:
            self._waiting_until = now + RETRY
        self._waiting.add(node)

    def moved(self, now: float) -> None:
        """Some node came to its place or went: those that wait may go on."""
        self._waiting_until = min(self._waiting_until, now + SOON)

    def resting(self, now: float) -> set[NodeId]:
        """Return the nodes to leave alone."""
        self._until = {node: when for node, when in self._until.items() if when > now}
        if self._waiting_until <= now:
            self._waiting.clear()
        return self._waiting | set(self._until)

    def next_time(self) -> float:
        """Return when the next of them is to be tried."""
        times = list(self._until.values())
        if self._waiting:
            times.append(self._waiting_until)
        return min(times, default=float("inf"))

    def clear(self) -> None:
        """Leave none alone."""
        self._until.clear()
        self._tries.clear()
        self._waiting.clear()
