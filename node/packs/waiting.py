"""Chunks that wait to be packed: when each is due, and when there is enough for a pack. Pure; times are seconds.

A chunk is due at a time; one that could not be had is due later, a few times. What is due is taken when it fills a
pack, or nothing came for `QUIET`, or the first of it has waited for `LONGEST`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

QUIET = 3.0
LONGEST = 30.0
AGAIN = 20.0  # until a chunk that could not be had is tried again; twice as long each time
TRIES = 12  # the last after a day or so


class Waiting:
    """Of one folder. `full`: bytes that fill a pack."""

    def __init__(self, full: int) -> None:
        self._full = full
        self._sizes: dict[bytes, int] = {}
        self._later: list[tuple[float, bytes]] = []
        self._due: deque[bytes] = deque()
        self._due_size = 0
        self._tries: dict[bytes, int] = {}
        self._fresh_at = self._first_at = -math.inf

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, chunk: bytes) -> bool:
        return chunk in self._sizes

    def add(self, chunk: bytes, size: int, due: float, now: float) -> None:
        """Have a chunk wait; `size`: what it takes in a pack. One that waits already is not added again."""
        if chunk in self._sizes:
            return
        self._sizes[chunk] = size
        if due <= now:
            self._come_due(chunk, now)
        else:
            heapq.heappush(self._later, (due, chunk))

    def missed(self, chunk: bytes, size: int, now: float) -> None:
        """A chunk that was taken could not be had: have it wait again, unless that was so too often."""
        tries = self._tries.get(chunk, 0) + 1
        self._tries[chunk] = tries
        if tries >= TRIES:
            del self._tries[chunk]
            return
        self.add(chunk, size, now + AGAIN * 2 ** (tries - 1), now)

    def packed(self, chunk: bytes) -> None:
        """A chunk is in a pack."""
        self._tries.pop(chunk, None)

    def rest(self, now: float) -> float:
        """Return after how many seconds there is something to take; infinite where nothing waits."""
        self._look(now)
        if self._due_size >= self._full:
            return 0.0
        ready = min(self._fresh_at + QUIET, self._first_at + LONGEST) - now if self._due else math.inf
        later = self._later[0][0] - now if self._later else math.inf
        return max(0.0, min(ready, later))

    def take(self, now: float, most: int) -> list[tuple[bytes, int]]:
        """Take what fills a pack, `most` chunks at most, with sizes; nothing while there is not enough and more may
        come."""
        self._look(now)
        if not self._due or (self._due_size < self._full and self._ready_in(now) > 0):
            return []
        taken: list[tuple[bytes, int]] = []
        room = self._full
        while self._due and len(taken) < most:
            chunk = self._due[0]
            size = self._sizes[chunk]
            if taken and size > room:
                break
            room -= size
            self._due.popleft()
            self._due_size -= size
            del self._sizes[chunk]
            taken.append((chunk, size))
        self._first_at = now
        return taken

    def _ready_in(self, now: float) -> float:
        return min(self._fresh_at + QUIET, self._first_at + LONGEST) - now

    def _look(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            self._come_due(heapq.heappop(self._later)[1], now)

    def _come_due(self, chunk: bytes, now: float) -> None:
        if not self._due:
            self._first_at = now
        self._fresh_at = now
        self._due.append(chunk)
        self._due_size += self._sizes[chunk]
