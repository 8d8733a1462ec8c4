"""What could not be done, by path: shown to people, tried again, never fatal to the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    def report(self, path: str, error: BaseException) -> None:
        """A path could not be read or written."""
        if len(self._standing) < MOST or path in self._standing:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._standing[path] = Problem(path, reason, self._now_ms())

    def clear(self, path: str) -> None:
        """The path is all right."""
        self._standing.pop(path, None)

    def all(self) -> list[Problem]:
        """Return the problems, oldest first."""
        return list(self._standing.values())
