"""How fast pieces may be fetched."""

from __future__ import annotations

import math

import trio


class Budget:
    """How fast pieces may be fetched."""

    def __init__(self) -> None:
        self.rate = 0
        self._free_at = -math.inf

    async def wait(self, size: int) -> None:
        """Wait until so many bytes may be fetched."""
        now = trio.current_time()
        if not self.rate:
            return
        at = max(self._free_at, now)
        self._free_at = at + size / self.rate
        await trio.sleep(at - now)
