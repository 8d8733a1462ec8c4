"""The node's one embedded store: ordered byte keys in named columns, written in atomic, synced batches.

`Store` is the port; `RocksStore` keeps it on disk, `MemoryStore` in a dictionary (tests, simulator). `Staging` gathers
changes over a store so that they can be read back at once and written together. It is not a place for file content:
that stays in the user's own files.
"""

from shoal.node.store.memory import MemoryStore
from shoal.node.store.port import COLUMNS, Column, Op, Staging, Store, StoreDamaged, StoreFull

__all__ = ["COLUMNS", "Column", "MemoryStore", "Op", "Staging", "Store", "StoreDamaged", "StoreFull"]
