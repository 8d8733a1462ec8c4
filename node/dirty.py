"""The nodes whose view changed and that the folder engine has not seen to: durable marks, counted as they come and go.

Keys after the folder's 16 bytes, in column `index`: `d` + node -> bytes that its content has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from shoal.crdt.model import FolderId, NodeId
from shoal.node.store import Staging

FEW = 1000
KEPT = 200_000


class DirtyNodes:
    """Marks on a folder's `Staging`. `count` and `bytes` hold for what is staged, too.

    Up to `KEPT` are also in memory, in the order in which they were marked: what was told together most often lies in
    one folder, and is seen to together. Where very many were, RocksDB would go over the place of each to find the next.
    """

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        self._staging = staging
        self._prefix = folder + b"d"
        self.count = 0
        self.bytes = 0
        self._order: dict[NodeId, None] = {}
        self._are_all = True  # those in memory
        self._since: set[NodeId] | None = None
        self._urgent: dict[NodeId, None] = {}
        self.load()

    def load(self) -> None:
        """Count anew: after staged changes were discarded."""
        self.count = self.bytes = 0
        self._order = {}
        self._are_all = True
        for key, size in self._staging.scan("index", self._prefix):
            self.count += 1
            self.bytes += int.from_bytes(size)
            self._remember(NodeId(key[len(self._prefix) :]))

    def mark(self, node: NodeId, size: int) -> None:
        """Stage a mark. `size`: bytes of the node's content, 0 where it has none."""
        self._forget(node)
        if self._since is not None:
            self._since.add(node)
        self.count += 1
        self.bytes += size
        self._remember(node)
        self._staging.put("index", self._prefix + node, size.to_bytes(8))

    def hurry(self, nodes: Iterable[NodeId]) -> None:
        """Have these, which are marked, be the first ones: a person waits for them. Not beyond a restart."""
        self._urgent |= dict.fromkeys(nodes)
        while len(self._urgent) > FEW:
            del self._urgent[next(iter(self._urgent))]

    def urgent(self, skip: Collection[NodeId] = ()) -> list[NodeId]:
        """Return those that a person waits for, but for `skip`."""
        return [node for node in self._urgent if node not in skip]

    def clean(self, node: NodeId) -> None:
        """Stage the removal of a mark."""
        if self._forget(node):
            self._staging.delete("index", self._prefix + node)

    @contextmanager
    def marked_meanwhile(self) -> Iterator[set[NodeId]]:
        """Give a set that gathers what is marked, also anew, while the block runs."""
        since = self._since = set()
        try:
            yield since
        finally:
            self._since = None

    def is_marked(self, node: NodeId) -> bool:
        """Return whether the node is marked."""
        return self._staging.get("index", self._prefix + node) is not None

    def first(self, limit: int, skip: Collection[NodeId] = ()) -> list[NodeId]:
        """Return up to `limit` marked nodes that are not among `skip`; none only where there is none."""
        found = list(islice((node for node in self._order if node not in skip), limit))
        if found or self._are_all:
            return found
        self._order = {}
        self._are_all = True
        for key, _ in self._staging.scan("index", self._prefix):
            self._remember(NodeId(key[len(self._prefix) :]))
            if not self._are_all:
                break
        found = list(islice((node for node in self._order if node not in skip), limit))
        return found or self._scan(limit, skip)

    def all(self) -> list[NodeId]:
        """Return every marked node."""
        return self._scan(self.count, ())

    def _scan(self, limit: int, skip: Collection[NodeId]) -> list[NodeId]:
        """Return marked nodes of the store; for where all that are in memory are to be skipped."""
        nodes = (NodeId(key[len(self._prefix) :]) for key, _ in self._staging.scan("index", self._prefix))
        return list(islice((node for node in nodes if node not in skip), limit))

    def _forget(self, node: NodeId) -> bool:
        self._urgent.pop(node, None)
        old = self._staging.get("index", self._prefix + node)
        if old is None:
            return False
        self.count -= 1
        self.bytes -= int.from_bytes(old)
        self._order.pop(node, None)
        if self.count == 0:
            self._are_all = True
        return True

    def _remember(self, node: NodeId) -> None:
        if len(self._order) < KEPT:
            self._order[node] = None
        else:
            self._are_all = False
