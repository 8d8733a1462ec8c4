"""How many groups of files are placed side by side. Pure.

A group that nothing came for in a while, as its holders are slow or mute, gives its slot away, so that others do not
wait for it; it goes on, and has a slot again from when something comes.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

G = TypeVar("G", bound=Hashable)
SLOTS = 3
URGENT_SLOTS = 3  # beside those, for what a person waits for
STALLED = 10.0  # seconds without news
MOST_STALLED = 64  # groups


class Slots(Generic[G]):
    """Times are in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._news_at: dict[G, float] = {}  # of the groups that have a slot, the longest without news first
        self._stalled: set[G] = set()

    def free(self) -> int:
        """Return how many more groups may begin."""
        return max(0, SLOTS - len(self._news_at))

    def free_urgent(self) -> int:
        """Return how many more may begin of what is urgent."""
        return max(0, SLOTS + URGENT_SLOTS - len(self._news_at))

    def begin(self, group: G, now: float) -> None:
        """A group takes a slot."""
        self._news_at[group] = now

    def news(self, group: G, now: float) -> None:
        """Something came for a group that has begun."""
        self._stalled.discard(group)
        self._news_at.pop(group, None)
        self._news_at[group] = now

    def end(self, group: G) -> None:
        """A group is done."""
        self._stalled.discard(group)
        self._news_at.pop(group, None)

    def next_time(self) -> float:
        """Return when a slot may become free by itself."""
        if len(self._stalled) >= MOST_STALLED:
            return float("inf")
        return min(self._news_at.values(), default=float("inf")) + STALLED

    def clear(self) -> None:
        """None is under way."""
        self._news_at.clear()
        self._stalled.clear()

    def give_away(self, now: float) -> list[G]:
        """Take the slots of those that nothing came for; return these."""
        given: list[G] = []
        for group, at in list(self._news_at.items()):
            if at + STALLED > now or len(self._stalled) >= MOST_STALLED:
                break
            del self._news_at[group]
            self._stalled.add(group)
            given.append(group)
        return given
