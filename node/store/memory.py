"""The store in memory: for tests and the simulator. `crash()` loses what was not synced, as a power cut would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shoal.node.store.port import COLUMNS, Column, Op


class MemoryStore:
    """A `Store` in dictionaries."""

    def __init__(self) -> None:
        self._data: dict[Column, dict[bytes, bytes]] = {column: {} for column in COLUMNS}
        self._unsynced: list[Op] = []  # what undoes each write since the last synced one, oldest first

    def get(self, column: Column, key: bytes) -> bytes | None:
        return self._data[column].get(key)

    def scan(self, column: Column, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted((k, v) for k, v in self._data[column].items() if k.startswith(prefix))

    def check(self, column: Column, start: bytes, count: int) -> bytes | None:
        rest = sorted(key for key in self._data[column] if key >= start)
        return rest[count] if len(rest) > count else None

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

    def close(self) -> None:
        self._unsynced.clear()

    def _set(self, column: Column, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._data[column].pop(key, None)
        else:
            self._data[column][key] = value
