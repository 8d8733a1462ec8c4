"""Giving memory back that a burst of work took and nobody uses any more."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable

import trio

EVERY = 5.0  # seconds between two looks
BUSY = 0.5  # CPU seconds in such a time from which on the process worked
KEPT = 8 * 1024 * 1024  # bytes that may be free and stay with the process: what is cut off is asked for again soon


class SpareMemory:
    """Says when memory is to be given back: once after each time of work, when that is over."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._worked = False

    def is_over(self, spent: float) -> bool:
        """Return whether a time of work ended since the last call. `spent`: CPU seconds of the process by now."""
        busy, self._spent = spent - self._spent > BUSY, spent
        over = self._worked and not busy
        self._worked = busy
        return over


async def give_back(spent: Callable[[], float]) -> None:
    """Give memory back after each time of work, for as long as the node runs. `spent`: the process's CPU clock."""
    spare = SpareMemory()
    while True:
        await trio.sleep(EVERY)
        if spare.is_over(spent()):
            gc.collect()
            with contextlib.suppress(AttributeError, OSError):  # not the GNU C library: it keeps what it has
                ctypes.CDLL(None).malloc_trim(KEPT)
