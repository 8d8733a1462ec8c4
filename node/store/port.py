"""The store port and `Staging`, a write batch that can be read through.

One owner at a time: a `Staging` is used from the trio thread only, and nothing awaits between its first change and
its commit, so every batch holds whole decisions and a crash leaves the store before or after one, never between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Literal, Protocol, get_args

from sortedcontainers import SortedList

Column = Literal["log", "doc", "index", "local", "chunk", "dht", "pack", "meta"]
COLUMNS: tuple[Column, ...] = get_args(Column)

Op = tuple[Column, bytes, bytes | None]
"""(column, key, value); a value of None deletes the key."""


class StoreDamaged(Exception):
    """The store cannot be read or written as it was left: a file of it is damaged or gone."""


class StoreFull(Exception):
    """The disk that holds the store is full; nothing of the batch was written."""


class Store(Protocol):
    """Ordered bytes to bytes, by column. Every method raises StoreDamaged; `write` also StoreFull."""

    def get(self, column: Column, key: bytes) -> bytes | None:
        """Return the value, or None."""
        ...

    def scan(self, column: Column, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of all keys that start with `prefix`, in byte order; from `prefix` + `start` on."""
        ...

    def check(self, column: Column, start: bytes, count: int) -> bytes | None:
        """Read about `count` rows from `start` on, to see that they can be; return where to go on, None at the end."""
        ...

    def write(self, ops: Sequence[Op], *, sync: bool) -> None:
        """Apply all of `ops` or none. With `sync` they are on disk when it returns."""
        ...

    def forget_replaced(self, column: Column) -> None:
        """Write a column anew, so that what was replaced or deleted in it is nowhere in the store's files. Slow."""
        ...

    def close(self) -> None:
        """Flush and release; the store cannot be used afterwards."""
        ...


class _Changes:
    """What is staged of one column: keys are sorted when they are scanned, and only then."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}
        self._sorted: SortedList[bytes] = SortedList()
        self._unsorted: list[bytes] = []

    def set(self, key: bytes, value: bytes | None) -> None:
        if key not in self.values:
            self._unsorted.append(key)
        self.values[key] = value

    def set_all(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        fresh = dict(rows)
        self._unsorted += fresh.keys() - self.values.keys() if self.values else fresh
        self.values.update(fresh)

    def starting(self, prefix: bytes, start: bytes) -> list[tuple[bytes, bytes | None]]:
        if self._unsorted:
            self._sorted.update(self._unsorted)
            self._unsorted.clear()
        keys = takewhile(lambda key: key.startswith(prefix), self._sorted.irange(prefix + start))
        return [(key, self.values[key]) for key in keys]

    def clear(self) -> None:
        self.values.clear()
        self._sorted.clear()
        self._unsorted.clear()


class Staging:
    """Changes gathered over a `Store`, visible at once through `get` and `scan`, written by `commit`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._changes: dict[Column, _Changes] = {column: _Changes() for column in COLUMNS}

    def get(self, column: Column, key: bytes) -> bytes | None:
        """Return the value as it will be after the commit, or None."""
        values = self._changes[column].values
        if key in values:
            return values[key]
        return self.store.get(column, key)

    def put(self, column: Column, key: bytes, value: bytes) -> None:
        """Set `key` at the next commit."""
        self._changes[column].set(key, value)

    def put_all(self, column: Column, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set keys to values at the next commit."""
        self._changes[column].set_all(rows)

    def delete(self, column: Column, key: bytes) -> None:
        """Remove `key` at the next commit; no error when it is absent."""
        self._changes[column].set(key, None)

    def scan(self, column: Column, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) as they will be after the commit, in byte order."""
        staged = self._changes[column].starting(prefix, start)
        if not staged:
            yield from self.store.scan(column, prefix, start)
            return
        yield from _merged(self.store.scan(column, prefix, start), staged)

    def commit(self, *, sync: bool = True) -> None:
        """Write all changes as one batch, or none of them. After an error the changes are dropped."""
        ops: list[Op] = [(column, k, v) for column, changes in self._changes.items() for k, v in changes.values.items()]
        self.discard()
        if ops:
            self.store.write(ops, sync=sync)

    def discard(self) -> None:
        """Forget all changes since the last commit."""
        for changes in self._changes.values():
            changes.clear()


def _merged(
    stored: Iterator[tuple[bytes, bytes]], staged: list[tuple[bytes, bytes | None]]
) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    for key, value in stored:
        while at < len(staged) and staged[at][0] < key:
            fresh = staged[at]
            at += 1
            if fresh[1] is not None:
                yield fresh[0], fresh[1]
        if at < len(staged) and staged[at][0] == key:
            fresh = staged[at]
            at += 1
            if fresh[1] is not None:
                yield fresh[0], fresh[1]
            continue
        yield key, value
    for name, fresh_value in staged[at:]:
        if fresh_value is not None:
            yield name, fresh_value
