"""The tree's index on the node's store. All reads and writes go through the folder's `Staging`.

Keys, after the folder's 16 bytes, in column `index`:
    n + node                        the node's record
    c + parent + name + NUL + node  empty; the children of a parent, by own name
    x                               the ids of the nodes that a cycle displaced, one after the other
    o + copy id                     the owner's node id, for conflict copies
    r + node + version              empty; versions that are known and stand no more
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from shoal.crdt.model import FactId, FolderId, NodeId
from shoal.crdt.tree_index import NodeRecord, decode_record, encode_record
from shoal.node.store import Staging

CACHED = 20_000  # decoded records
FEW = 100


class StoredIndex:
    """A `TreeIndex` over a `Staging`; decoded records of the last nodes are kept."""

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        self._staging = staging
        self._folder = folder
        self._cache: OrderedDict[NodeId, NodeRecord] = OrderedDict()
        self._unwritten: dict[NodeId, NodeRecord] = {}
        self._absent: set[NodeId] = set()  # asked for in this batch, and not there
        self._displaced: set[NodeId] | None = None
        self.on_put: Callable[[NodeRecord | None, NodeRecord], None] | None = None
        """Told of each record that is put, and of the one that it takes the place of."""

    def get(self, node: NodeId) -> NodeRecord | None:
        record = self._unwritten.get(node) or self._cache.get(node)
        if record is None:
            if node in self._absent:
                return None
            data = self._staging.get("index", self._folder + b"n" + node)
            if data is None:
                self._absent.add(node)
                return None
            record = decode_record(node, data)
            self._keep(record)
        return record

    def put(self, record: NodeRecord) -> None:
        old = self.get(record.id)
        if old is None or (old.parent, old.name) != (record.parent, record.name):
            if old is not None and old.parent is not None:
                self._staging.delete("index", self._child_key(old.parent, old.name) + old.id)
            if record.parent is not None:
                self._staging.put("index", self._child_key(record.parent, record.name) + record.id, b"")
        if self.on_put is not None:
            self.on_put(old, record)
        self._absent.discard(record.id)
        self._unwritten[record.id] = record  # a record changes several times in a batch, and is encoded once

    def add(self, record: NodeRecord) -> None:
        if record.parent is not None:
            self._staging.put("index", self._child_key(record.parent, record.name) + record.id, b"")
        if self.on_put is not None:
            self.on_put(None, record)
        self._unwritten[record.id] = record
        self._absent.discard(record.id)

    def flush(self, *, asked_for_soon: bool = True) -> None:
        """Stage the records that were put; to be called before the staging is committed. `asked_for_soon`: they are
        kept in memory, which costs more than it gives for the very many files that a first scan finds."""
        prefix = self._folder + b"n"
        records = self._unwritten
        self._staging.put_all("index", [(prefix + node, encode_record(record)) for node, record in records.items()])
        if asked_for_soon or len(records) <= FEW:
            self._cache.update(records)
        else:
            for node, record in records.items():
                if record.kind == "dir":
                    self._cache[node] = record
                else:
                    self._cache.pop(node, None)  # what it held is no longer so
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)
        records.clear()
        self._absent.clear()

    def children(self, parent: NodeId) -> Iterator[NodeId]:
        # Collected first: the caller may change the index while it walks.
        keys = [key for key, _ in self._staging.scan("index", self._folder + b"c" + parent)]
        return (NodeId(key[-16:]) for key in keys)

    def named(self, parent: NodeId, name: str) -> list[NodeId]:
        prefix = self._child_key(parent, name)
        return [NodeId(key[-16:]) for key, _ in self._staging.scan("index", prefix)]

    def records(self) -> Iterator[NodeRecord]:
        """Yield the record of every node there is."""
        for key, data in self._staging.scan("index", self._folder + b"n"):
            node = NodeId(key[len(self._folder) + 1 :])
            yield self._unwritten.get(node) or decode_record(node, data)

    def names_between(self, parent: NodeId, first: bytes, last: bytes, most: int) -> set[str] | None:
        prefix = self._folder + b"c" + parent
        found: set[str] = set()
        for key, _ in self._staging.scan("index", prefix, first):
            name = key[len(prefix) : -17]
            if name > last:
                break
            found.add(name.decode("utf-8", "surrogateescape"))
            if len(found) > most:
                return None
        return found

    def is_replaced(self, node: NodeId, version: FactId) -> bool:
        return self._staging.get("index", self._folder + b"r" + node + version) is not None

    def set_replaced(self, node: NodeId, version: FactId) -> None:
        self._staging.put("index", self._folder + b"r" + node + version, b"")

    def displaced(self) -> set[NodeId]:
        if self._displaced is None:
            data = self._staging.get("index", self._folder + b"x") or b""
            self._displaced = {NodeId(data[at : at + 16]) for at in range(0, len(data), 16)}
        return set(self._displaced)

    def set_displaced(self, nodes: set[NodeId]) -> None:
        if nodes != self.displaced():
            self._staging.put("index", self._folder + b"x", b"".join(sorted(nodes)))
            self._displaced = set(nodes)

    def owner(self, copy: NodeId) -> NodeId | None:
        data = self._staging.get("index", self._folder + b"o" + copy)
        return NodeId(data) if data is not None else None

    def set_owner(self, copy: NodeId, owner: NodeId) -> None:
        self._staging.put("index", self._folder + b"o" + copy, owner)

    def owners(self) -> set[NodeId]:
        """Return every node that ever had a losing head."""
        return {NodeId(node) for _, node in self._staging.scan("index", self._folder + b"o")}

    def erase(self) -> None:
        """Have no node be in it."""
        self.forget()
        for kind in (b"n", b"c", b"x", b"o", b"r"):
            for key, _ in list(self._staging.scan("index", self._folder + kind)):
                self._staging.delete("index", key)

    def forget(self) -> None:
        """Drop decoded records: after staged changes were discarded they may say too much."""
        self._cache.clear()
        self._unwritten.clear()
        self._absent.clear()
        self._displaced = None

    def _child_key(self, parent: NodeId, name: str) -> bytes:
        return self._folder + b"c" + parent + name.encode("utf-8", "surrogateescape") + b"\0"

    def _keep(self, record: NodeRecord) -> None:
        self._cache[record.id] = record
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)
