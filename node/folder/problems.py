"""What could not be done, by path: shown to people, tried again, never fatal to the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shoal.crdt.model import NodeId

MOST = 10_000


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that is not synced, and why."""

    path: str
    reason: str
    time_ms: int


class Problems:
    """The problems that stand; one a path."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._standing: dict[str, Problem] = {}
        self._of_node: dict[NodeId, str] = {}

    def report(self, path: str, error: BaseException, node: NodeId | None = None) -> None:
        """A path could not be read; or could not be written, as the document asks of `node`."""
        if node is not None:
            self.settled(node)
            self._of_node[node] = path
        if len(self._standing) < MOST or path in self._standing:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._standing[path] = Problem(path, reason, self._now_ms())

    def clear(self, path: str) -> None:
        """The path is all right."""
        self._standing.pop(path, None)

    def readable(self, path: str) -> None:
        """The folder can be looked into."""
        if path in self._standing and path not in self._of_node.values():
            self.clear(path)

    def settled(self, node: NodeId) -> None:
        """What the document asked of the node is done, or is not asked any more."""
        path = self._of_node.pop(node, None)
        if path is not None:
            self.clear(path)

    def looked_everywhere(self) -> None:
        """Whatever could not be read is reported anew by the scan that begins."""
        kept = set(self._of_node.values())
        self._standing = {path: problem for path, problem in self._standing.items() if path in kept}

    def all(self) -> list[Problem]:
        """Return the problems, oldest first."""
        return list(self._standing.values())
