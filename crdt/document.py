"""The document: 256 Yjs maps of immutable facts, kept as updates, shard by shard.

A node's facts live in the shard named by the first byte of its id. Each is written once under a key of its own
(node id and fact id in hex), so two replicas never write one key differently, and merging is union. What a device of
ours writes has one simple shape (`plain_update`); as long as a shard has met nothing else, its state is how far each
client's items are here, and no document is in memory. A shard that met another update, or one that came early, is
merged by pycrdt from then on.

A Yjs client id must never be used for two histories. It is bound to an incarnation of the device's log; the caller
gives a new one when it starts a new incarnation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pycrdt import Doc, Map

from shoal.crdt import plain_update
from shoal.crdt.facts import MalformedFact, decode_fact, encode_fact
from shoal.crdt.model import RESERVED, Fact, FactId, NodeId
from shoal.crdt.plain_update import MAP, Section

SHARDS = 256
CACHED = 8  # pycrdt documents


class MalformedUpdate(Exception):
    """The bytes are not a pycrdt update; nothing was changed."""


def shard_of(node: NodeId) -> int:
    """Return the number of the shard that holds the node's facts."""
    return node[0]


@dataclass(slots=True)
class ShardState:
    """How much of a shard is here. `clocks`: client -> items; `plain`: its updates all have the shape that we write,
    and none of them lacks one before it. `count`: of its updates."""

    count: int = 0
    plain: bool = True
    clocks: dict[int, int] = field(default_factory=dict)

    def follow(self, sections: Sequence[Section] | None) -> Sequence[Section] | None:
        """Return the sections of a plain update that are new, having taken note of them; None: pycrdt must merge it."""
        if not self.plain or sections is None:
            return None
        clocks = self.clocks
        new = [section for section in sections if section.end > clocks.get(section.client, 0)]
        if any(section.clock != clocks.get(section.client, 0) for section in new):
            return None
        for section in new:
            clocks[section.client] = section.end
        return new


class ShardStore(Protocol):
    """Where updates and states are kept."""

    def updates(self, shard: int) -> Iterable[bytes]:
        """Return the updates of a shard, in the order in which they came."""
        ...

    def state(self, shard: int) -> ShardState | None:
        """Return the shard's state as it was put last; None where it never was."""
        ...

    def put(self, shard: int, update: bytes, state: ShardState) -> None:
        """Keep an update, number `state.count - 1` of the shard, and the state after it."""
        ...


class MemoryShards:
    """A `ShardStore` in lists."""

    def __init__(self) -> None:
        self._updates: dict[int, list[bytes]] = {}

    def updates(self, shard: int) -> Iterable[bytes]:
        return tuple(self._updates.get(shard, ()))

    def state(self, shard: int) -> ShardState | None:
        return None

    def put(self, shard: int, update: bytes, state: ShardState) -> None:
        self._updates.setdefault(shard, []).append(update)


class _Shard:
    """One pycrdt document and what its map said of the last update."""

    def __init__(self, client_id: int, updates: Iterable[bytes]) -> None:
        self.doc: Doc[Any] = Doc(client_id=client_id)
        self.facts: Map[Any] = self.doc.get(MAP, type=Map)
        for update in updates:
            self.doc.apply_update(update)
        self.added: dict[str, Any] = {}
        self._subscription = self.facts.observe(self._on_event)

    def _on_event(self, event: Any) -> None:
        for key, change in event.keys.items():
            if change["action"] == "add":
                self.added[key] = change["newValue"]


class Document:
    """All shards of a folder's document. Used from one thread only: pycrdt's objects are bound to theirs."""

    def __init__(self, client_id: int, store: ShardStore, cache: int = CACHED) -> None:
        self._client_id = client_id
        self._store = store
        self._cache = cache
        self._shards: OrderedDict[int, _Shard] = OrderedDict()
        self._states: dict[int, ShardState] = {}
        self.rejected = 0  # facts in well-formed updates that were not facts

    def add(self, facts: Sequence[tuple[NodeId, Fact]]) -> dict[int, bytes]:
        """Write new facts; return shard -> update that carries them."""
        by_shard: dict[int, list[tuple[str, bytes]]] = {}
        for node, fact in facts:
            item = (node + fact.id).hex(), encode_fact(fact)
            by_shard.setdefault(node[0], []).append(item)
        updates = {}
        for number, items in by_shard.items():
            state = self._state(number)
            section = Section(self._client_id, state.clocks.get(self._client_id, 0), items)
            plain = state.follow([section]) is not None
            updates[number] = update = plain_update.encode(section) if plain else self._write(number, items)
            self._keep(number, update)
        return updates

    def apply(self, updates: Mapping[int, bytes], client: int | None = None) -> list[tuple[NodeId, Fact]]:
        """Merge updates; return the facts that became visible. `client`: who must have written all of them, in the
        shape that we write: another's items would be taken for known when they come, and deletions take facts away.
        Raises MalformedUpdate."""
        parsed = {number: plain_update.parse(update) for number, update in updates.items()}
        if client is not None:
            for sections in parsed.values():
                if sections is None or any(section.client != client for section in sections):
                    raise MalformedUpdate("not an update of its log's own client that only adds facts")
        for number, update in updates.items():  # a trial first: a bad one among many must change nothing
            if parsed[number] is None:
                _check(update)
        fresh = []
        for number, update in updates.items():
            new = self._state(number).follow(parsed[number])
            if new == []:
                continue  # it is known
            if new is not None:
                added: Iterable[tuple[str, Any]] = (item for section in new for item in section.items)
            else:
                added = self._merge(number, update)
            for key, value in added:
                fact = self._read(number, key, value)
                if fact is not None:
                    fresh.append(fact)
            self._keep(number, update)
        return fresh

    def facts(self) -> Iterator[tuple[NodeId, Fact]]:
        """Yield every fact, shard by shard."""
        for number in range(SHARDS):
            for key, value in self._items(number):
                fact = self._read(number, key, value)
                if fact is not None:
                    yield fact

    def facts_of(self, node: NodeId) -> list[Fact]:
        """Return every fact of one node."""
        number, prefix = shard_of(node), node.hex()
        items = [(key, value) for key, value in self._items(number) if key.startswith(prefix)]
        return [fact for key, value in items if (found := self._read(number, key, value)) and (fact := found[1])]

    def by_node(self, shard: int) -> dict[NodeId, list[Fact]]:
        """Return every fact of a shard, by node."""
        found: dict[NodeId, list[Fact]] = {}
        for key, value in self._items(shard):
            fact = self._read(shard, key, value)
            if fact is not None:
                found.setdefault(fact[0], []).append(fact[1])
        return found

    def fact(self, node: NodeId, fact: FactId) -> Fact | None:
        """Return one fact about a node, None when it is not known."""
        return next((found for found in self.facts_of(node) if found.id == fact), None)

    def forget(self) -> None:
        """Drop all that is in memory; it is loaded again on demand."""
        self._shards.clear()
        self._states.clear()

    def _items(self, number: int) -> Iterator[tuple[str, Any]]:
        if not self._state(number).plain:
            yield from list(self._shard(number).facts.items())
            return
        seen: set[str] = set()
        for update in self._store.updates(number):
            for section in plain_update.parse(update) or ():
                for key, value in section.items:
                    if key not in seen:
                        seen.add(key)
                        yield key, value

    def _write(self, number: int, items: plain_update.Items) -> bytes:
        shard = self._shard(number)
        before = shard.doc.get_state()
        with shard.doc.transaction():
            for key, value in items:
                shard.facts[key] = value
        update: bytes = shard.doc.get_update(before)
        shard.added.clear()
        self._state(number).plain = False
        return update

    def _merge(self, number: int, update: bytes) -> Iterable[tuple[str, Any]]:
        shard = self._shard(number)
        shard.doc.apply_update(update)
        added, shard.added = shard.added, {}
        self._state(number).plain = False
        return added.items()

    def _keep(self, number: int, update: bytes) -> None:
        state = self._states[number]
        state.count += 1
        self._store.put(number, update, state)

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

    def _state(self, number: int) -> ShardState:
        state = self._states.get(number)
        if state is None:
            state = self._store.state(number)
            if state is None:  # an older version's, or none yet
                state = ShardState()
                for update in self._store.updates(number):
                    state.count += 1
                    state.plain = state.follow(plain_update.parse(update)) is not None
            self._states[number] = state
        return state

    def _shard(self, number: int) -> _Shard:
        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        shard = self._shards[number] = _Shard(self._client_id, self._store.updates(number))
        while len(self._shards) > self._cache:
            self._shards.popitem(last=False)
        return shard


def _check(update: bytes) -> None:
    try:
        Doc[Any]().apply_update(update)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise MalformedUpdate("not a pycrdt update") from error
