"""Who has said that it has what is under a key: kept for a time, in bounds by key, by peer and in all.

Of a key the newest providers stay. A peer may have as many records as there is room left for others, so that many who
announce very much still leave some (dynamic thresholds: Choudhury and Hahne, 1998); whoever is over is refused, but
for what it said before and says again.

Nothing is in memory but how many records each peer has. Rows of the `Table`:

    b"k" + key      -> of each provider, the newest first: its number, and until when, 4 bytes each, big-endian
    b"n" + number   -> how many records the peer has, 4 bytes; then length-led: its id, and each of its addresses

Pure but for the table: times are Unix seconds, and passed in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from shoal.dht.keyspace import Key, PeerId
from shoal.dht.table import Table

EXPIRES = 48 * 3600  # seconds
PER_KEY = 20
PER_PEER = 200_000
TOTAL = 1_000_000
PEERS = 20_000
AHEAD = 600  # seconds by which a record may seem to end later than one of now: clocks are set

_PAIR = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that has said so. `addresses`: binary multiaddrs, where it said that it is; `until`: Unix seconds."""

    peer: PeerId
    addresses: tuple[bytes, ...]
    until: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A peer with records. `number`: which it has in the rows."""

    number: int
    count: int
    addresses: tuple[bytes, ...]


class Providers:
    """The records of one peer that serves the DHT."""

    def __init__(
        self,
        table: Table,
        *,
        per_key: int = PER_KEY,
        per_peer: int = PER_PEER,
        total: int = TOTAL,
        peers: int = PEERS,
        expires: int = EXPIRES,
    ) -> None:
        self._table = table
        self._per_key = per_key
        self._per_peer = per_peer
        self._total = total
        self._most_peers = peers
        self._expires = expires
        self._known: dict[PeerId, _Known] = {}
        self._named: dict[int, PeerId] = {}
        self._next = 0
        self._swept = b""  # where the next look for what is over begins
        self.size = 0
        for row, value in table.scan(b"n"):
            peer, known = _decode_peer(int.from_bytes(row[1:]), value)
            self._known[peer], self._named[known.number] = known, peer
            self._next = known.number + 1
            self.size += known.count

    def add(self, keys: Iterable[Key], peer: PeerId, addresses: tuple[bytes, ...], now: float) -> list[Key]:
        """A peer says that it has what is under these keys; return those for which there is no room."""
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= self._most_peers:
                return list(keys)
            known = _Known(self._next, 0, addresses)
        until = int(now) + self._expires
        wanted = list(dict.fromkeys(keys))
        counts = {known.number: known.count}
        writes: dict[bytes, bytes | None] = {}
        refused: list[Key] = []
        own = known.number
        for key, value in zip(wanted, self._table.get_all([b"k" + key for key in wanted]), strict=True):
            said = _pairs(value)
            has = any(number == own for number, _ in said)
            if not has and counts[own] >= min(self._per_peer, self._total - self.size):
                refused.append(key)
                continue
            said = self._current([pair for pair in said if pair[0] != own], now, counts)
            if not has:
                if len(said) >= self._per_key:
                    self._release(said.pop()[0], counts)
                counts[own] += 1
                self.size += 1
            writes[b"k" + key] = b"".join(_PAIR.pack(*pair) for pair in [(own, until), *said])
        if writes:
            self._next = max(self._next, own + 1)
            self._named[own] = peer
            self._known[peer] = replace(known, addresses=addresses)
            self._write(writes, counts)
        return refused

    def of(self, key: Key, now: float) -> list[Provider]:
        """Return who has said so and is not over, the newest first."""
        found = []
        for number, until in _pairs(self._table.get(b"k" + key)):
            peer = self._named.get(number)
            if peer is not None and self._is_now(until, now):
                found.append(Provider(peer, self._known[peer].addresses, until))
        return found

    def count(self, peer: PeerId) -> int:
        """Return how many records are a peer's."""
        known = self._known.get(peer)
        return known.count if known is not None else 0

    def expire(self, now: float, most: int = 2000) -> int:
        """Look at the next `most` keys, and forget what is over there, or ends later than anything said now could, as
        the clock was another then; return how many records that were."""
        writes: dict[bytes, bytes | None] = {}
        counts: dict[int, int] = {}
        gone = 0
        last = b""
        for looked, (row, value) in enumerate(self._table.scan(b"k", self._swept)):
            if looked >= most:
                last = row[1:]
                break
            said = _pairs(value)
            stays = self._current(said, now, counts)
            if len(stays) < len(said):
                gone += len(said) - len(stays)
                writes[row] = b"".join(_PAIR.pack(*pair) for pair in stays) or None
        self._swept = last
        self._write(writes, counts)
        return gone

    # -- inside ------------------------------------------------------------------------------------------------------

    def _is_now(self, until: int, now: float) -> bool:
        return now < until <= now + self._expires + AHEAD

    def _current(self, said: list[tuple[int, int]], now: float, counts: dict[int, int]) -> list[tuple[int, int]]:
        """Return what is not over of a row that is about to be written without the rest."""
        stays = [pair for pair in said if self._is_now(pair[1], now)]
        if len(stays) < len(said):
            for pair in said:
                if pair not in stays:
                    self._release(pair[0], counts)
        return stays

    def _release(self, number: int, counts: dict[int, int]) -> None:
        """Count one record of a peer less."""
        peer = self._named.get(number)
        if peer is not None:
            counts[number] = counts.get(number, self._known[peer].count) - 1
            self.size -= 1

    def _write(self, writes: dict[bytes, bytes | None], counts: dict[int, int]) -> None:
        for number, count in counts.items():
            peer = self._named[number]
            row = b"n" + number.to_bytes(4)
            if count > 0:
                self._known[peer] = replace(self._known[peer], count=count)
                writes[row] = _encode_peer(peer, self._known[peer])
            else:
                del self._known[peer], self._named[number]
                writes[row] = None
        if writes:
            self._table.write(writes)


def _pairs(value: bytes | None) -> list[tuple[int, int]]:
    return [(number, until) for number, until in _PAIR.iter_unpack(value)] if value is not None else []


def _encode_peer(peer: PeerId, known: _Known) -> bytes:
    parts = (peer, *known.addresses)
    return known.count.to_bytes(4) + b"".join(len(part).to_bytes(2) + part for part in parts)


def _decode_peer(number: int, value: bytes) -> tuple[PeerId, _Known]:
    parts, at = [], 4
    while at < len(value):
        size = int.from_bytes(value[at : at + 2])
        parts.append(value[at + 2 : at + 2 + size])
        at += 2 + size
    return PeerId(parts[0]), _Known(number, int.from_bytes(value[:4]), tuple(parts[1:]))
