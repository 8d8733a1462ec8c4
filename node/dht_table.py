"""The DHT's table in the node's store, column `dht`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from shoal.node.store import Store, StoreFull


class StoredTable:
    """A `shoal.dht.table.Table` over a `Store`. Not synced to disk: others tell all of it again; where the disk is
    full, what was to be written is dropped."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        return self._store.get("dht", key)

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._store.get("dht", key) for key in keys]

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self._store.scan("dht", prefix, start)

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        with contextlib.suppress(StoreFull):
            self._store.write([("dht", key, value) for key, value in changes.items()], sync=False)
