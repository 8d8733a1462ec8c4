"""What happened here that matters to security, each record chained to the one before by its hash.

    record = CBOR [number, time_ms, kind, text, previous hash];   hash = BLAKE3 of the record
    head   = CBOR [number and hash of the newest, number and hash that the oldest is chained to, signature of the
             device over b"shoal audit" + CBOR of the rest]

So whoever changes, removes or adds a record, or cuts the end off, has to have the device's key. Of `MOST` records the
oldest go, a few at a time; that the chain begins later then is in the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import blake3

from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, verify_signature
from shoal.node.events import Event
from shoal.node.store import Op, Store, StoreDamaged, StoreFull

PREFIX, HEAD = b"audit", b"head of audit"
CONTEXT = b"shoal audit"
MAX_RECORD = 16 * 1024
MAX_TEXT = 2000
MOST = 20_000
GO = 1000  # at a time
NONE = bytes(32)
KINDS = frozenset(
    {
        "device-added",
        "device-renamed",
        "device-revoked",
        "holder-failed",
        "holder-lied",
        "keys-rotated",
        "link-ended",
        "link-made",
        "link-used",
        "log-cut",
        "log-in",
        "log-in-failed",
        "log-out",
        "packs-lost",
        "paired",
        "pairing-failed",
        "pairing-offered",
        "piece-damaged",
        "password-changed",
        "peer-misbehaved",
        "recovered",
        "registered",
        "restored",
        "revoked",
        "role-changed",
        "sealed",
        "share-accepted",
        "shared",
        "started",
        "stranger-refused",
        "token-revoked",
        "unsealed",
        "unshared",
        "write-refused",
    }
)


@dataclass(frozen=True, slots=True)
class Record:
    """`time_ms`: Unix milliseconds, as this device's clock said."""

    number: int
    time_ms: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Head:
    """`last`, `before`: (number, hash) of the newest record, and of the one before the oldest."""

    last: tuple[int, bytes] = (0, NONE)
    before: tuple[int, bytes] = (0, NONE)


class Audit:
    """The log of one node, in its store."""

    def __init__(self, store: Store, key: DeviceKey, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._key = key
        self._now_ms = now_ms
        self._head = self._read_head() or _Head()

    def on_event(self, event: Event) -> None:
        """Record what happened, if it matters to security. On a full disk it is not: the node goes on."""
        if event.kind in KINDS:
            try:
                self.add(event.kind, event.text)
            except StoreFull:
                return

    def add(self, kind: str, text: str) -> None:
        """Record something, durably. Raises StoreFull."""
        number, previous = self._head.last[0] + 1, self._head.last[1]
        text = text[:MAX_TEXT].encode(errors="backslashreplace").decode()
        record = codec.encode([number, self._now_ms(), kind, text, previous])
        before = self._head.before
        ops: list[Op] = [("meta", _key(number), record)]
        if number - before[0] > MOST:
            going = range(before[0] + 1, before[0] + 1 + GO)
            last = self._store.get("meta", _key(going[-1]))
            before = going[-1], blake3.blake3(last or b"").digest()
            ops += [("meta", _key(each), None) for each in going]
        head = _Head((number, blake3.blake3(record).digest()), before)
        self._store.write([*ops, ("meta", HEAD, self._signed(head))], sync=True)
        self._head = head

    def records(self, after: int = 0) -> Iterator[Record]:
        """Yield the records after a number, the oldest first. Raises StoreDamaged."""
        for _, data in self._store.scan("meta", PREFIX, (after + 1).to_bytes(8)):
            number, time_ms, kind, text, _ = _read(data)
            yield Record(number, time_ms, kind, text)

    def fault(self) -> str | None:
        """Return where the chain is broken, None where it is whole."""
        head = self._read_head()
        if head is None:
            return "its head is missing or not signed by this device" if any(self._store.scan("meta", PREFIX)) else None
        number, previous = head.before
        for key, data in self._store.scan("meta", PREFIX):
            number += 1
            try:
                said, _, _, _, chained = _read(data)
            except StoreDamaged:
                return f"record {number} cannot be read"
            if key != _key(number) or said != number:
                return f"record {number} is missing"
            if chained != previous:
                return f"record {number} does not follow the one before it"
            previous = blake3.blake3(data).digest()
        if (number, previous) != head.last:
            return f"it ends with record {number}, and is to end with another, {head.last[0]}"
        return None

    def _signed(self, head: _Head) -> bytes:
        fields = [*head.last, *head.before]
        return codec.encode([*fields, self._key.sign(CONTEXT + codec.encode(fields))])

    def _read_head(self) -> _Head | None:
        data = self._store.get("meta", HEAD)
        try:
            *fields, signature = codec.as_list(codec.decode(data or b"", 1024), length=5)
            last, last_hash, before, before_hash = fields
            head = _Head(
                (codec.as_int(last), codec.as_bytes(last_hash)), (codec.as_int(before), codec.as_bytes(before_hash))
            )
        except codec.Malformed:
            return None
        return head if verify_signature(self._key.id, CONTEXT + codec.encode(fields), signature) else None


def _key(number: int) -> bytes:
    return PREFIX + number.to_bytes(8)


def _read(data: bytes) -> tuple[int, int, str, str, bytes]:
    try:
        number, time_ms, kind, text, previous = codec.as_list(codec.decode(data, MAX_RECORD), length=5)
        return (
            codec.as_int(number),
            codec.as_int(time_ms),
            codec.as_text(kind, 64),
            codec.as_text(text, MAX_RECORD),
            codec.as_bytes(previous, 32),
        )
    except codec.Malformed as error:
        raise StoreDamaged("a record of the audit log in it cannot be read") from error
