"""A document's updates on the node's store, through the folder's `Staging`.

Keys after the folder's 16 bytes: `doc`: shard + number (4) -> update, in the order in which they came; `meta`: b"shard"
+ shard -> the shard's state, CBOR [updates, plain, {client: clock}].
"""

from __future__ import annotations

from collections.abc import Iterable

import cbor2

from shoal.crdt.document import ShardState
from shoal.crdt.model import FolderId
from shoal.node.store import Staging


class StoredShards:
    """A `ShardStore` over a `Staging`."""

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        self._staging = staging
        self._folder = folder

    def updates(self, shard: int) -> Iterable[bytes]:
        return [update for _, update in self._staging.scan("doc", self._folder + bytes([shard]))]

    def state(self, shard: int) -> ShardState | None:
        data = self._staging.get("meta", self._state_key(shard))
        return ShardState(*cbor2.loads(data)) if data is not None else None

    def put(self, shard: int, update: bytes, state: ShardState) -> None:
        self._staging.put("doc", self._folder + bytes([shard]) + (state.count - 1).to_bytes(4), update)
        self._staging.put("meta", self._state_key(shard), cbor2.dumps([state.count, state.plain, state.clocks]))

    def clear(self) -> None:
        """Stage the removal of all updates and states."""
        for column, prefix in (("doc", b""), ("meta", b"shard")):
            for key, _ in list(self._staging.scan(column, self._folder + prefix)):  # type: ignore[arg-type]
                self._staging.delete(column, key)  # type: ignore[arg-type]

    def _state_key(self, shard: int) -> bytes:
        return self._folder + b"shard" + bytes([shard])
