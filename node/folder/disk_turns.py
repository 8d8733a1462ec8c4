"""Where disk work runs: small pieces in this task, turn by turn, as long as the disk keeps up; all else in a thread.

Work in a thread must win the interpreter back after every system call, against a busy main thread: on two cores,
placing 10,000 small files that way took twice the CPU time that it takes here. But a disk that stalls (a sleeping
drive, a network mount) must not stall the node: after one slow turn everything goes to threads for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

T = TypeVar("T")
R = TypeVar("R")

TURN_ITEMS = 40
TURN_BYTES = 512 * 1024
THREAD_BYTES = 16 * 1024 * 1024
SLOW_TURN = 0.25  # seconds; a journal commit now and then is no sign of one
SLOW_FOR = 3.0  # seconds for which the disk then counts as slow


class DiskTurns:
    """Runs work on many small files. One for each disk, used from the trio thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slow_until = float("-inf")

    async def apart(self, work: Callable[..., R], *arguments: object) -> R:
        """Return the result of a call that may take its time."""
        return await trio.to_thread.run_sync(work, *arguments)

    async def run(
        self, work: Callable[[Sequence[T]], list[R]], items: Sequence[T], size_of: Callable[[T], int] | None = None
    ) -> list[R]:
        """Return the results of `work`, called with slices of `items` in order. `size_of`: bytes read or written."""
        results: list[R] = []
        at = 0
        while at < len(items):
            if self._clock() < self._slow_until:
                return results + await self.apart(work, items[at:])
            end, size = at, 0
            while end < len(items) and end - at < TURN_ITEMS and size < TURN_BYTES:
                size += size_of(items[end]) if size_of is not None else 0
                end += 1
            if size >= TURN_BYTES:
                while end < len(items) and size < THREAD_BYTES and size_of is not None:
                    size += size_of(items[end])
                    end += 1
                results += await self.apart(work, items[at:end])
            else:
                start = self._clock()
                results += work(items[at:end])
                now = self._clock()
                if now - start > SLOW_TURN:
                    self._slow_until = now + SLOW_FOR
                await trio.lowlevel.checkpoint()
            at = end
        return results
