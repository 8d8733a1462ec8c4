"""What the tree keeps of each node, and the port to where it keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cbor2

from shoal.crdt.codec import bytestring
from shoal.crdt.facts import decode_fact, encode_fact
from shoal.crdt.model import FactId, Kind, Location, NodeId, Version


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node: the facts that still matter, and where the tree has put it.

    `unseen`: ids that a known fact replaces while they themselves have not arrived; they will not become heads.
    `parent` and `name` are the effective place (None while no location is known); `shown` is the name after twins among
    siblings were told apart; `live`: shown at all, as far as the node itself and its descendants decide.
    """

    id: NodeId
    locations: tuple[Location, ...] = ()
    heads: tuple[Version, ...] = ()
    unseen: frozenset[FactId] = frozenset()
    parent: NodeId | None = None
    name: str = ""
    kind: Kind = "file"
    live: bool = False
    shown: str = ""


class TreeIndex(Protocol):
    """Where node records are kept. `children` and `named` follow from the records that were put."""

    def get(self, node: NodeId) -> NodeRecord | None:
        """Return the node's record, or None."""
        ...

    def put(self, record: NodeRecord) -> None:
        """Store the record in place of the one with its id."""
        ...

    def add(self, record: NodeRecord) -> None:
        """Store the record of a node that has none."""
        ...

    def children(self, parent: NodeId) -> Iterable[NodeId]:
        """Yield every node, live or dead, whose effective parent is this one."""
        ...

    def named(self, parent: NodeId, name: str) -> Iterable[NodeId]:
        """Yield those of the children whose effective own name is `name`."""
        ...

    def names_between(self, parent: NodeId, first: bytes, last: bytes, most: int) -> set[str] | None:
        """Return the children's effective own names from `first` to `last`, in byte order; None when there are more
        than `most`."""
        ...

    def displaced(self) -> set[NodeId]:
        """Return the nodes that a cycle keeps from their winning location."""
        ...

    def set_displaced(self, nodes: set[NodeId]) -> None:
        """Replace the set that `displaced` returns."""
        ...

    def is_replaced(self, node: NodeId, version: FactId) -> bool:
        """Return whether `set_replaced` was called for this version of the node."""
        ...

    def set_replaced(self, node: NodeId, version: FactId) -> None:
        """Remember that the version is known, and stands no more."""
        ...

    def owner(self, copy: NodeId) -> NodeId | None:
        """Return the node whose losing head is shown under this id, if that was ever so."""
        ...

    def set_owner(self, copy: NodeId, owner: NodeId) -> None:
        """Remember that `copy` shows a losing head of `owner`."""
        ...


def encode_record(record: NodeRecord) -> bytes:
    """Return the record's bytes, for storage: [location, head] where all else follows from these, as of nearly all."""
    if len(record.locations) == len(record.heads) == 1 and record.live and not record.unseen:
        (place,), (head,) = record.locations, record.heads
        as_said = (record.parent, record.name, record.kind) == (place.parent, place.name, place.kind)
        if as_said and record.shown == record.name:
            return b"\x82" + bytestring(encode_fact(place)) + bytestring(encode_fact(head))
    return cbor2.dumps(
        [
            [encode_fact(fact) for fact in record.locations],
            [encode_fact(fact) for fact in record.heads],
            sorted(record.unseen),
            record.parent,
            record.name.encode("utf-8", "surrogateescape"),
            record.kind == "dir",
            record.live,
            record.shown.encode("utf-8", "surrogateescape"),
        ]
    )


def decode_record(node: NodeId, data: bytes) -> NodeRecord:
    """Read what `encode_record` wrote for `node`."""
    fields = cbor2.loads(data)
    if len(fields) == 2:
        place, head = map(decode_fact, fields)
        assert isinstance(place, Location)
        assert isinstance(head, Version)
        return NodeRecord(node, (place,), (head,), frozenset(), place.parent, place.name, place.kind, True, place.name)
    locations, heads, unseen, parent, name, is_dir, live, shown = fields
    return NodeRecord(
        node,
        tuple(fact for fact in map(decode_fact, locations) if isinstance(fact, Location)),
        tuple(fact for fact in map(decode_fact, heads) if isinstance(fact, Version)),
        frozenset(unseen),
        parent,
        name.decode("utf-8", "surrogateescape"),
        "dir" if is_dir else "file",
        live,
        shown.decode("utf-8", "surrogateescape"),
    )


class MemoryIndex:
    """A `TreeIndex` in dictionaries."""

    def __init__(self) -> None:
        self._records: dict[NodeId, NodeRecord] = {}
        self._children: dict[NodeId, dict[str, set[NodeId]]] = {}
        self._displaced: set[NodeId] = set()
        self._owners: dict[NodeId, NodeId] = {}
        self._replaced: set[tuple[NodeId, FactId]] = set()

    def get(self, node: NodeId) -> NodeRecord | None:
        return self._records.get(node)

    def put(self, record: NodeRecord) -> None:
        old = self._records.get(record.id)
        if old is None or (old.parent, old.name) != (record.parent, record.name):
            if old is not None and old.parent is not None:
                self._children[old.parent][old.name].discard(record.id)
            if record.parent is not None:
                self._children.setdefault(record.parent, {}).setdefault(record.name, set()).add(record.id)
        self._records[record.id] = record

    def add(self, record: NodeRecord) -> None:
        assert record.id not in self._records
        self.put(record)

    def children(self, parent: NodeId) -> Iterator[NodeId]:
        for _, nodes in sorted(self._children.get(parent, {}).items()):
            yield from sorted(nodes)

    def named(self, parent: NodeId, name: str) -> Iterable[NodeId]:
        return sorted(self._children.get(parent, {}).get(name, ()))

    def names_between(self, parent: NodeId, first: bytes, last: bytes, most: int) -> set[str] | None:
        names = [name for name, nodes in self._children.get(parent, {}).items() if nodes]
        found = {name for name in names if first <= name.encode("utf-8", "surrogateescape") <= last}
        return found if len(found) <= most else None

    def is_replaced(self, node: NodeId, version: FactId) -> bool:
        return (node, version) in self._replaced

    def set_replaced(self, node: NodeId, version: FactId) -> None:
        self._replaced.add((node, version))

    def displaced(self) -> set[NodeId]:
        return set(self._displaced)

    def set_displaced(self, nodes: set[NodeId]) -> None:
        self._displaced = set(nodes)

    def owner(self, copy: NodeId) -> NodeId | None:
        return self._owners.get(copy)

    def set_owner(self, copy: NodeId, owner: NodeId) -> None:
        self._owners[copy] = owner
