"""The document: 256 pycrdt maps of immutable facts, loaded shard by shard.

A node's facts live in the shard named by the first byte of its id. Each is written once under a key of its own
(node id and fact id in hex), so two replicas never write one key differently, and merging is union; what pycrdt adds is
the update format, state vectors, and updates that may arrive early.

A pycrdt client id must never be used for two histories. It is bound to an incarnation of the device's log; the caller
gives a new one when it starts a new incarnation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pycrdt import Doc, Map

from shoal.crdt.facts import MalformedFact, decode_fact, encode_fact
from shoal.crdt.model import RESERVED, Fact, FactId, NodeId

SHARDS = 256


class MalformedUpdate(Exception):
    """The bytes are not a pycrdt update; nothing was changed."""


def shard_of(node: NodeId) -> int:
    """Return the number of the shard that holds the node's facts."""
    return node[0]


class _Shard:
    """One pycrdt document and what its map said of the last update."""

    def __init__(self, client_id: int, blobs: Iterable[bytes]) -> None:
        self.doc: Doc[Any] = Doc(client_id=client_id)
        self.facts: Map[Any] = self.doc.get("facts", type=Map)
        for blob in blobs:
            self.doc.apply_update(blob)
        self.added: dict[str, Any] = {}
        self._subscription = self.facts.observe(self._on_event)

    def _on_event(self, event: Any) -> None:
        for key, change in event.keys.items():
            if change["action"] == "add":
                self.added[key] = change["newValue"]


class Document:
    """All shards of a folder's document. Used from one thread only: pycrdt's objects are bound to theirs."""

    def __init__(self, client_id: int, load: Callable[[int], Iterable[bytes]], cache: int = SHARDS) -> None:
        """`load(shard)` returns the stored updates of a shard, in the order in which they were stored."""
        self._client_id = client_id
        self._load = load
        self._cache = cache
        self._shards: OrderedDict[int, _Shard] = OrderedDict()
        self.rejected = 0  # facts in well-formed updates that were not facts

    def add(self, facts: Sequence[tuple[NodeId, Fact]]) -> dict[int, bytes]:
        """Write new facts; return shard -> update that carries them."""
        by_shard: dict[int, list[tuple[NodeId, Fact]]] = {}
        for node, fact in facts:
            by_shard.setdefault(shard_of(node), []).append((node, fact))
        updates = {}
        for number, members in by_shard.items():
            shard = self._shard(number)
            before = shard.doc.get_state()
            with shard.doc.transaction():
                for node, fact in members:
                    shard.facts[node.hex() + fact.id.hex()] = encode_fact(fact)
            updates[number] = shard.doc.get_update(before)
            shard.added.clear()
        return updates

    def apply(self, updates: Mapping[int, bytes]) -> list[tuple[NodeId, Fact]]:
        """Merge updates; return the facts that became visible. Raises MalformedUpdate."""
        for update in updates.values():  # a trial first: a bad one among many must change nothing
            try:
                Doc[Any]().apply_update(update)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                raise MalformedUpdate("not a pycrdt update") from error
        fresh = []
        for number, update in updates.items():
            shard = self._shard(number)
            shard.doc.apply_update(update)
            added, shard.added = shard.added, {}
            for key, value in added.items():
                fact = self._read(number, key, value)
                if fact is not None:
                    fresh.append(fact)
        return fresh

    def facts(self) -> Iterator[tuple[NodeId, Fact]]:
        """Yield every fact, shard by shard."""
        for number in range(SHARDS):
            for key, value in list(self._shard(number).facts.items()):
                fact = self._read(number, key, value)
                if fact is not None:
                    yield fact

    def facts_of(self, node: NodeId) -> list[Fact]:
        """Return every fact of one node."""
        number, prefix = shard_of(node), node.hex()
        items = [(key, value) for key, value in self._shard(number).facts.items() if key.startswith(prefix)]
        return [fact for key, value in items if (found := self._read(number, key, value)) and (fact := found[1])]

    def by_node(self, shard: int) -> dict[NodeId, list[Fact]]:
        """Return every fact of a shard, by node."""
        found: dict[NodeId, list[Fact]] = {}
        for key, value in list(self._shard(shard).facts.items()):
            fact = self._read(shard, key, value)
            if fact is not None:
                found.setdefault(fact[0], []).append(fact[1])
        return found

    def fact(self, node: NodeId, fact: FactId) -> Fact | None:
        """Return one fact about a node, None when it is not known."""
        number, key = shard_of(node), node.hex() + fact.hex()
        value = self._shard(number).facts.get(key)
        found = self._read(number, key, value) if value is not None else None
        return found[1] if found is not None else None

    def snapshot(self, shard: int) -> bytes:
        """Return one update that holds the whole shard, pending parts included."""
        return self._shard(shard).doc.get_update()

    def forget(self) -> None:
        """Drop all shards from memory; they are loaded again on demand."""
        self._shards.clear()

    def _read(self, shard: int, key: str, value: Any) -> tuple[NodeId, Fact] | None:
        try:
            node, fact_id = NodeId(bytes.fromhex(key[:32])), bytes.fromhex(key[32:])
            if not isinstance(value, bytes | bytearray):
                raise MalformedFact("not bytes")
            fact = decode_fact(bytes(value))
            if node in RESERVED or len(node) != 16 or shard_of(node) != shard or fact.id != fact_id:
                raise MalformedFact("filed under the wrong key")
        except (MalformedFact, TypeError, ValueError):
            self.rejected += 1
            return None
        return node, fact

    def _shard(self, number: int) -> _Shard:
        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        shard = self._shards[number] = _Shard(self._client_id, self._load(number))
        while len(self._shards) > self._cache:
            self._shards.popitem(last=False)
        return shard
