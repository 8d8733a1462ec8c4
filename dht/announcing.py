"""What this peer announces, over restarts: each key when it is new, and again every `AGAIN`, all that is due in one
sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from shoal.dht.keyspace import Key, PeerId
from shoal.dht.sweep import Batch, Sweep
from shoal.dht.table import Table

AGAIN = 22 * 3600.0  # seconds
LOOK_EVERY = 60.0
RETRY = 20.0  # seconds, at first; twice as long each time
RETRY_MOST = 1800.0
AT_ONCE = 10  # peers told at the same time


class Teller(Protocol):
    """What carries out what is to be announced."""

    async def nearest_to(self, key: Key) -> list[PeerId]:
        """Return the peers nearest to a key."""
        ...

    async def tell_of(self, peer: PeerId, keys: Sequence[Key]) -> bool:
        """Tell a peer of keys; return whether it took them all."""
        ...


class Announcing:
    """The keys of one peer. `told`: keys announced since the start; `left`: keys of the sweep that is under way."""

    def __init__(self, teller: Teller, table: Table, wall: Callable[[], float]) -> None:
        self._teller = teller
        self._table = table
        self._wall = wall
        self._news = trio.Event()
        self._failures = 0
        self.told = 0
        self.left = 0

    def add(self, keys: Iterable[Key], *, again: bool = False) -> None:
        """Announce keys from now on; `again`: at once, if they were before."""
        wanted = list(dict.fromkeys(keys))
        known = self._table.get_all([b"a" + key for key in wanted])
        fresh = [key for key, said in zip(wanted, known, strict=True) if said is None or again]
        if fresh:
            self._table.write({b"a" + key: bytes(4) for key in fresh})
            self._news.set()

    def remove(self, keys: Iterable[Key]) -> None:
        """Announce keys no more; what was said of them ends by itself."""
        self._table.write({b"a" + key: None for key in keys})

    def keys(self) -> list[Key]:
        """Return what is announced."""
        return [Key(row[1:]) for row, _ in self._table.scan(b"a")]

    async def run(self) -> None:
        """Announce what is due, until cancelled."""
        while True:
            self._news = trio.Event()
            due = self._due()
            done = not due or await self.sweep(due)
            self._failures = 0 if done else self._failures + 1
            wait = LOOK_EVERY if done else min(RETRY_MOST, RETRY * 2 ** (self._failures - 1))
            with trio.move_on_after(wait):
                await self._news.wait()

    def somebody_came(self) -> None:
        """A peer can be reached that could not be before: try again what nobody took."""
        if self._failures:
            self._news.set()

    async def sweep(self, keys: Iterable[Key]) -> bool:
        """Announce keys now; return whether all are kept by somebody."""
        sweep, all_kept = Sweep(keys), True
        while (key := sweep.next_key()) is not None:
            self.left = sweep.left
            near = await self._teller.nearest_to(key)
            if not near:
                self.left = 0
                return False
            batches = sweep.found(near)
            kept = await self._tell(batches)
            self.told += len(kept)
            all_kept &= all(kept.issuperset(batch.keys) for batch in batches)
            now = int(min(max(self._wall(), 1), 2**32 - 1)).to_bytes(4)
            rows = [b"a" + each for each in kept]
            known = self._table.get_all(rows)
            self._table.write({row: now for row, said in zip(rows, known, strict=True) if said is not None})
        self.left = 0
        return all_kept

    async def _tell(self, batches: Sequence[Batch]) -> set[Key]:
        """Return the keys that at least a half of those that are to keep them took."""
        limit = trio.CapacityLimiter(AT_ONCE)
        wanted: dict[Key, int] = {}
        taken: dict[Key, int] = {}

        async def tell(batch: Batch) -> None:
            async with limit:
                if await self._teller.tell_of(batch.peer, batch.keys):
                    for key in batch.keys:
                        taken[key] = taken.get(key, 0) + 1

        async with trio.open_nursery() as nursery:
            for batch in batches:
                for key in batch.keys:
                    wanted[key] = wanted.get(key, 0) + 1
                nursery.start_soon(tell, batch)
        return {key for key, count in taken.items() if count >= math.ceil(wanted[key] / 2)}

    def _due(self) -> list[Key]:
        """Return what was announced too long ago, or at a time that is yet to come: the clock was wrong then."""
        now = self._wall()
        rows = ((row, int.from_bytes(said)) for row, said in self._table.scan(b"a"))
        return [Key(row[1:]) for row, said in rows if said > now or now - said >= AGAIN]
