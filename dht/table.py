"""Where the DHT keeps what is to survive a restart: ordered bytes to bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from sortedcontainers import SortedDict


class Table(Protocol):
    """What a peer's records are in. What was written last may be lost with the power: all of it is told again."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        ...

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of several keys."""
        ...

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield what begins with `prefix`, in byte order, from `prefix` + `start` on."""
        ...

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Apply all or none; None deletes."""
        ...


class MemoryTable:
    """A table that is gone with the process."""

    def __init__(self) -> None:
        self._rows: SortedDict[bytes, bytes] = SortedDict()

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._rows.get(key)
        return found

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._rows.get(key) for key in keys]

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for key in list(self._rows.irange(prefix + start)):
            if not key.startswith(prefix):
                return
            if key in self._rows:
                yield key, self._rows[key]

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
