"""The store on disk: one RocksDB, a column family a column, small buffers so that a small machine can run it.

Every write batch goes through the write-ahead log; a synced one is on disk when `write` returns. Schema changes are
numbered: `meta/schema` holds the version that wrote the store, and `open_store` refuses a newer one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from shoal.node.store.port import COLUMNS, Column, Op, StoreDamaged, StoreFull

SCHEMA = 4
"""3: no column for packs; 2: none for the DHT; 1: records of nodes, rows of children in one form, which can be read"""
MIB = 1 << 20

P = ParamSpec("P")
R = TypeVar("R")


def _translated(call: Callable[P, R]) -> Callable[P, R]:
    """Turn RocksDB's text-only errors into the port's."""

    @wraps(call)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except (StoreDamaged, StoreFull):
            raise
        except Exception as error:
            raise _as_port_error(error) from error

    return wrapper


def _as_port_error(error: Exception) -> StoreDamaged | StoreFull:
    text = str(error)
    if isinstance(error, OSError):
        return StoreFull(text) if error.errno == errno.ENOSPC else StoreDamaged(text)
    return StoreFull(text) if "No space left" in text or "space limit" in text.lower() else StoreDamaged(text)


def _options(cache: Cache) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_size(8 * MIB)
    options.set_db_write_buffer_size(48 * MIB)
    # Most keys are hashes, so that what is new goes everywhere: merged level by level, a first scan of a million files
    # wrote all of it again and again.
    options.set_compaction_style(DBCompactionStyle.universal())
    options.set_max_total_wal_size(64 * MIB)
    # All tables stay open, in one shard: in the many of the default some were too full for what was in them, and a look
    # into such a table then opened it, and read its filter and index, each time.
    options.set_max_open_files(512)
    options.set_table_cache_num_shard_bits(0)
    # Marks come and go: a scan must not go over the places of very many that were.
    options.add_compact_on_deletion_collector_factory(1000, 500, 0.5)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(MIB)
    # A torn tail after a power cut is expected and cut off; damage before it is an error, never skipped.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_bloom_filter(10, False)
    options.set_block_based_table_factory(blocks)
    return options


class RocksStore:
    """A `Store` in a RocksDB at `path`. Raises StoreDamaged when it cannot be opened or read."""

    @_translated
    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        options = _options(Cache(16 * MIB))
        self._db: Any = Rdict(str(path), options=options, column_families=dict.fromkeys(COLUMNS, options))
        self._columns: dict[Column, Any] = {column: self._db.get_column_family(column) for column in COLUMNS}
        self._handles: dict[Column, Any] = {column: self._db.get_column_family_handle(column) for column in COLUMNS}
        self._synced = WriteOptions()
        self._synced.sync = True
        self._unsynced = WriteOptions()

    def get(self, column: Column, key: bytes) -> bytes | None:
        try:  # not `_translated`, which would cost as much as the call itself
            value: bytes | None = self._columns[column].get(key)
        except Exception as error:
            raise _as_port_error(error) from error
        return value

    def scan(self, column: Column, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        rows = self._columns[column].iter()
        rows.seek(prefix + start)
        while rows.valid():
            key: bytes = rows.key()
            if not key.startswith(prefix):
                return
            yield key, rows.value()
            rows.next()
        _checked(rows)  # an iterator over a damaged block just stops: ask it why

    @_translated
    def check(self, column: Column, start: bytes, count: int) -> bytes | None:
        rows = self._columns[column].iter()
        rows.seek(start)
        while rows.valid():
            key: bytes = rows.key()
            if count == 0:
                return key
            count -= 1
            rows.next()
        rows.status()
        return None

    @_translated
    def write(self, ops: Sequence[Op], *, sync: bool) -> None:
        batch, handles = WriteBatch(raw_mode=True), self._handles
        put = batch.put
        for column, key, value in ops:
            if value is None:
                batch.delete(key, handles[column])
            else:
                put(key, value, handles[column])
        self._db.write(batch, self._synced if sync else self._unsynced)

    @_translated
    def forget_replaced(self, column: Column) -> None:
        for each in self._columns.values():  # all of them: they share a log, which goes when all are written
            each.flush()
        self._columns[column].compact_range(None, None)

    @_translated
    def close(self) -> None:
        for column in self._columns.values():
            column.close()
        self._columns.clear()
        self._handles.clear()  # a handle kept alive keeps the lock
        self._db.close()


@_translated
def _checked(rows: Any) -> None:
    rows.status()


def open_store(path: Path) -> RocksStore:
    """Open or make the store at `path`. Raises StoreDamaged, also for a store that a newer Shoal wrote."""
    store = RocksStore(path)
    found = store.get("meta", b"schema")
    if found is None:
        store.write([("meta", b"schema", str(SCHEMA).encode())], sync=True)
    elif int(found) > SCHEMA:
        store.close()
        raise StoreDamaged(f"the store was written by a newer version of Shoal (schema {found.decode()})")
    elif int(found) < SCHEMA:
        store.write([("meta", b"schema", str(SCHEMA).encode())], sync=True)
    return store
