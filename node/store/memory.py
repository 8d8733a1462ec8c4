"""The store in memory: for tests and the simulator. `crash()` loses what was not synced, as a power cut would."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

from shoal.node.store.port import COLUMNS, Column, Op


class MemoryStore:
    """A `Store` in dictionaries, with the keys of each in order beside."""

    def __init__(self) -> None:
        self._data: dict[Column, dict[bytes, bytes]] = {column: {} for column in COLUMNS}
        self._keys: dict[Column, list[bytes]] = {column: [] for column in COLUMNS}
        self._unsynced: list[Op] = []  # what undoes each write since the last synced one, oldest first

    def get(self, column: Column, key: bytes) -> bytes | None:
        return self._data[column].get(key)

    def scan(self, column: Column, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        keys = self._keys[column]
        found = []
        for at in range(bisect_left(keys, prefix + start), len(keys)):
            if not keys[at].startswith(prefix):
                break
            found.append((keys[at], self._data[column][keys[at]]))
        yield from found

    def check(self, column: Column, start: bytes, count: int) -> bytes | None:
        keys = self._keys[column]
        at = bisect_left(keys, start) + count
        return keys[at] if at < len(keys) else None

    def write(self, ops: Sequence[Op], *, sync: bool) -> None:
        for column, key, value in ops:
            self._unsynced.append((column, key, self._data[column].get(key)))
            self._set(column, key, value)
        if sync:
            self._unsynced.clear()

    def crash(self) -> None:
        """Take back every write since the last synced one."""
        while self._unsynced:
            self._set(*self._unsynced.pop())

    def forget_replaced(self, column: Column) -> None:
        pass

    def close(self) -> None:
        self._unsynced.clear()

    def _set(self, column: Column, key: bytes, value: bytes | None) -> None:
        data, keys = self._data[column], self._keys[column]
        if value is not None:
            if key not in data:
                insort(keys, key)
            data[key] = value
        elif data.pop(key, None) is not None:
            del keys[bisect_left(keys, key)]
