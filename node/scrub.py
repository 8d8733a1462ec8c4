"""Reads the whole store after the start and every day, so that damage is found now and not on the day it is needed.

RocksDB checks a block's checksum when it is read, and reads few blocks at the start. A small store is read through
before the node is up; the rest of a large one in the background, at a tenth of one core.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import trio

from shoal.node.store import COLUMNS, Store

ROWS = 500  # read at once
SHARE = 0.1  # of one core
DAY = 24 * 3600.0


class Scrub:
    """Passes over a store. Its methods raise StoreDamaged where the store is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._steps = self._pass(store)

    def begin(self, seconds: float) -> None:
        """Read for so long at the most."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and next(self._steps, None) is not None:
            pass

    async def run(self) -> None:
        """Read the rest, slowly, and all of it again every day, until cancelled."""
        while True:
            start = time.monotonic()
            for _ in self._steps:
                await trio.sleep((time.monotonic() - start) * (1 / SHARE - 1))
                start = time.monotonic()
            await trio.sleep(DAY)
            self._steps = self._pass(self._store)

    @staticmethod
    def _pass(store: Store) -> Iterator[bool]:
        for column in COLUMNS:
            after: bytes | None = b""
            while after is not None:
                after = store.check(column, after, ROWS)
                yield True
