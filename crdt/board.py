"""The board of a folder: what each device says of itself that others need not be able to read the folder to know.

A *sheet* is one device's map of byte strings, which only it changes; the board is all sheets. A sheet's *record*,
signed by its device, has a number that grows with each change and the hash of each of 256 buckets of rows, so that two
devices compare sheets by numbers, and exchange only buckets and rows that differ, whoever passes them on.

    record    = CBOR [folder id, device, number, time, about, buckets, signature]
    signature = Ed25519 by device over b"shoal board" + CBOR of the first six fields
    buckets   = map of bucket number -> BLAKE3 (16 bytes) of its rows: key length (1 byte), key, `digest` of the value,
                in the order of the keys; buckets without rows are left out
    a row's bucket is the second byte of its key; the first says what the row is of

Pure: rows are in a `Rows` that the caller gives, messages go out through the answers of the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import blake3

from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, verify_signature
from shoal.crdt.model import DeviceId, FolderId

CONTEXT = b"shoal board"
MAX_RECORD = 16 * 1024
MAX_ABOUT = 4096
MAX_KEY = 64
MAX_VALUE = 512 * 1024
MAX_ROWS = 1 << 20  # of a sheet
MAX_IN_BUCKET = MAX_ROWS // 64
MAX_MESSAGE = 4 * 1024 * 1024
ASK_ROWS = 256  # keys asked for at once
ANSWER_BYTES = 1024 * 1024  # of values in an answer, unless one alone has more
MOST_SHEETS = 4096
MOST_BYTES = 256 * 1024 * 1024  # of the values of a sheet, unless the caller says less


def digest(value: bytes) -> bytes:
    """Return the 16 bytes that stand for a value, or for a bucket's rows."""
    return blake3.blake3(value).digest(16)


def bucket_of(key: bytes) -> int:
    """Return the number of the bucket that a row is in."""
    return key[1]


@dataclass(frozen=True, slots=True)
class Record:
    """A sheet's record. `about`: what the device says of itself, opaque here; `encoded`: as it was signed."""

    device: DeviceId
    number: int
    time_ms: int
    about: bytes
    buckets: Mapping[int, bytes]
    encoded: bytes


class Rows(Protocol):
    """Where sheets are kept."""

    def value(self, device: DeviceId, key: bytes) -> bytes | None:
        """Return the value of a row."""
        ...

    def apply(self, record: Record, changes: Mapping[bytes, bytes | None]) -> None:
        """Keep a sheet's record with the rows that changed since the one before, None for one that is gone, all or
        nothing."""
        ...


Message = list[Any]


@dataclass(slots=True)
class _Sheet:
    record: Record | None = None
    rows: dict[int, dict[bytes, bytes]] = field(default_factory=dict)  # bucket -> key -> digest of the value
    size: int = 0  # bytes of its values


@dataclass(slots=True)
class _Incoming:
    """A record that is newer than what is here, until all of its rows have come from one peer."""

    record: Record
    peer: bytes
    buckets: set[int]
    rows: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    lacking: dict[bytes, bytes] = field(default_factory=dict)  # key -> digest
    values: dict[bytes, bytes] = field(default_factory=dict)


def read_record(encoded: bytes, folder: FolderId) -> Record:
    """Read a record and check its signature. Raises Malformed."""
    fields = codec.as_list(codec.decode(encoded, MAX_RECORD), length=7)
    whose, device, number, time_ms, about, buckets, signature = fields
    if codec.as_bytes(whose, 16) != folder:
        raise codec.Malformed("a record of another folder")
    codec.as_bytes(device, 32)
    if len(codec.as_bytes(about)) > MAX_ABOUT or not isinstance(buckets, dict):
        raise codec.Malformed("not a record")
    checked = {codec.as_int(each, most=255): codec.as_bytes(rows, 16) for each, rows in buckets.items()}
    if not verify_signature(device, CONTEXT + codec.encode(fields[:6]), codec.as_bytes(signature, 64)):
        raise codec.Malformed("a record that its device did not sign")
    return Record(DeviceId(device), codec.as_int(number), codec.as_int(time_ms), about, checked, encoded)


def _bucket_hash(rows: Mapping[bytes, bytes]) -> bytes:
    return digest(b"".join(bytes([len(key)]) + key + rows[key] for key in sorted(rows)))


class Board:
    """The sheets of one folder, as one device has them. `may_say`: whether a device's sheet is taken; `most_bytes`: how
    much its values may be; `on_changed`: told of a sheet that is another now, with the rows that changed."""

    def __init__(
        self,
        folder: FolderId,
        key: DeviceKey,
        rows: Rows,
        may_say: Callable[[DeviceId], bool],
        most_bytes: Callable[[DeviceId], int] = lambda device: MOST_BYTES,
    ) -> None:
        self.folder = folder
        self.on_changed: Callable[[DeviceId, Mapping[bytes, bytes | None]], None] = lambda device, changes: None
        self._key = key
        self._rows = rows
        self._may_say = may_say
        self._most_bytes = most_bytes
        self._sheets: dict[DeviceId, _Sheet] = {}
        self._incoming: dict[DeviceId, _Incoming] = {}
        self._staged: dict[bytes, bytes | None] = {}
        self._seen_own = 0

    # -- what is here ------------------------------------------------------------------------------------------------

    def load(self, record: Record, keys: Iterable[tuple[bytes, bytes]]) -> None:
        """Take a sheet as it was kept, with its rows."""
        sheet = self._sheets[record.device] = _Sheet(record)
        for key, value in keys:
            sheet.rows.setdefault(bucket_of(key), {})[key] = digest(value)
            sheet.size += len(value)

    @property
    def size(self) -> int:
        """The bytes of all values on it."""
        return sum(sheet.size for sheet in self._sheets.values())

    @property
    def is_behind(self) -> bool:
        """Whether others know a newer record of this device than it does itself: its store is an older copy, or new,
        and nobody takes what it says before its next `publish`."""
        own = self.record(self._key.id)
        return self._seen_own > (own.number if own is not None else 0)

    def devices(self) -> list[DeviceId]:
        """Return whose sheets are here."""
        return [device for device, sheet in self._sheets.items() if sheet.record is not None]

    def record(self, device: DeviceId) -> Record | None:
        """Return a sheet's record."""
        sheet = self._sheets.get(device)
        return sheet.record if sheet is not None else None

    def keys(self, device: DeviceId, kind: bytes) -> list[bytes]:
        """Return the keys of a sheet that start with a byte."""
        sheet = self._sheets.get(device)
        return [key for rows in sheet.rows.values() for key in rows if key[:1] == kind] if sheet is not None else []

    def has(self, device: DeviceId, key: bytes) -> bool:
        """Return whether a sheet has a row."""
        sheet = self._sheets.get(device)
        return sheet is not None and key in sheet.rows.get(bucket_of(key), {})

    def value(self, device: DeviceId, key: bytes) -> bytes | None:
        """Return the value of a row."""
        return self._rows.value(device, key) if self.has(device, key) else None

    # -- what this device says ---------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Have a row of this device's sheet at the next `publish`."""
        self._staged[key] = value

    def remove(self, key: bytes) -> None:
        """Have it no more."""
        self._staged[key] = None

    def publish(self, about: bytes, time_ms: int) -> Message:
        """Say what was put and removed, and what this device says of itself; return the message for all peers. What
        `Rows.apply` raises is raised; nothing is said then, and all is yet to be."""
        device = self._key.id
        sheet = self._sheets.get(device) or _Sheet()
        after: dict[int, dict[bytes, bytes]] = {}
        changes: dict[bytes, bytes | None] = {}
        for key, value in self._staged.items():
            bucket = bucket_of(key)
            known = sheet.rows.get(bucket, {}).get(key)
            if known == (digest(value) if value is not None else None):
                continue
            changes[key] = value
            rows = after.setdefault(bucket, dict(sheet.rows.get(bucket, {})))
            if value is None:
                del rows[key]
            else:
                rows[key] = digest(value)
        buckets = dict(sheet.record.buckets) if sheet.record is not None else {}
        for bucket, rows in after.items():
            buckets.pop(bucket, None)
            if rows:
                buckets[bucket] = _bucket_hash(rows)
        number = max(self._seen_own, sheet.record.number if sheet.record is not None else 0) + 1
        fields = [bytes(self.folder), bytes(device), number, max(0, time_ms), about, buckets]
        encoded = codec.encode([*fields, self._key.sign(CONTEXT + codec.encode(fields))])
        record = Record(device, number, max(0, time_ms), about, buckets, encoded)
        self._become(sheet, record, after, changes)
        self._staged.clear()
        return ["record", encoded]

    def _become(
        self,
        sheet: _Sheet,
        record: Record,
        after: Mapping[int, dict[bytes, bytes]],
        changes: Mapping[bytes, bytes | None],
    ) -> None:
        """Have a sheet be as a record says, with the rows of the buckets that changed."""
        before = sum(
            len(self._rows.value(record.device, key) or b"") for key in changes if self.has(record.device, key)
        )
        self._rows.apply(record, changes)
        sheet.rows |= after
        sheet.size += sum(len(value) for value in changes.values() if value is not None) - before
        sheet.record = record
        self._sheets[record.device] = sheet
        self.on_changed(record.device, changes)

    # -- what peers say ----------------------------------------------------------------------------------------------

    def greet(self, *, ask: bool = True) -> Message:
        """Return what a peer is told at the start: the numbers of all sheets that are here. `ask`: for the peer's."""
        heads = {bytes(d): s.record.number for d, s in self._sheets.items() if s.record is not None}
        return ["heads", heads, ask]

    def left(self, peer: bytes) -> None:
        """A peer is gone: what it was asked for is asked of others as they tell of it."""
        self._incoming = {device: each for device, each in self._incoming.items() if each.peer != peer}

    def receive(self, peer: bytes, message: Message) -> tuple[list[Message], list[Message]]:
        """Take a peer's message; return what to answer, and what to tell all others. Raises Malformed."""
        match message:
            case ["heads", dict(heads), bool(ask)] if len(heads) <= MOST_SHEETS:
                known = {codec.as_bytes(device, 32): codec.as_int(number) for device, number in heads.items()}
                newer = [
                    ["record", sheet.record.encoded]
                    for device, sheet in self._sheets.items()
                    if sheet.record is not None and sheet.record.number > known.get(device, 0)
                ]
                return [*newer, self.greet(ask=False)] if ask else newer, []
            case ["record", bytes(encoded)]:
                return self._on_record(peer, encoded)
            case ["buckets?", bytes(device), int(number), bytes(buckets)]:
                return self._answer_buckets(DeviceId(device), number, buckets), []
            case ["bucket", bytes(device), int(number), int(bucket), bytes(rows)]:
                return self._on_bucket(peer, DeviceId(device), number, bucket, rows)
            case ["rows?", bytes(device), int(number), list(keys)]:
                return self._answer_rows(DeviceId(device), number, keys), []
            case ["rows", bytes(device), int(number), dict(rows)]:
                return self._on_rows(peer, DeviceId(device), number, rows)
            case ["stale", bytes(device)]:
                self._incoming.pop(DeviceId(device), None)
                return [], []
        raise codec.Malformed("not a message of the board")

    def _on_record(self, peer: bytes, encoded: bytes) -> tuple[list[Message], list[Message]]:
        record = read_record(encoded, self.folder)
        device = record.device
        if device == self._key.id:
            self._seen_own = max(self._seen_own, record.number)  # from before this store was what it is
            return [], []
        if not self._may_say(device):
            return [], []
        sheet = self._sheets.get(device)
        held = sheet.record if sheet is not None else None
        waiting = self._incoming.get(device)
        if held is not None and record.number <= held.number:
            return [], []
        if waiting is not None and (record.number, peer) <= (waiting.record.number, waiting.peer):
            return [], []
        if sheet is None and len(self._sheets) >= MOST_SHEETS:
            return [], []
        before = held.buckets if held is not None else {}
        changed = {bucket for bucket, rows in record.buckets.items() if before.get(bucket) != rows}
        incoming = self._incoming[device] = _Incoming(record, peer, changed)
        if waiting is not None:  # what came of the one before is not asked for again
            incoming.values = waiting.values
        if not changed:
            return [], self._take(device)
        return [["buckets?", bytes(device), record.number, bytes(sorted(changed))]], []

    def _answer_buckets(self, device: DeviceId, number: int, buckets: bytes) -> list[Message]:
        sheet = self._sheets.get(device)
        if sheet is None or sheet.record is None or sheet.record.number != number or len(buckets) > 256:
            newer = [["record", sheet.record.encoded]] if sheet is not None and sheet.record is not None else []
            return [["stale", bytes(device)], *newer]
        return [
            ["bucket", bytes(device), number, bucket, _encode_rows(sheet.rows.get(bucket, {}))]
            for bucket in sorted(set(buckets))
        ]

    def _on_bucket(
        self, peer: bytes, device: DeviceId, number: int, bucket: int, encoded: bytes
    ) -> tuple[list[Message], list[Message]]:
        incoming = self._of(peer, device, number)
        if incoming is None or bucket not in incoming.buckets:
            return [], []
        rows = _decode_rows(encoded, bucket)
        if _bucket_hash(rows) != incoming.record.buckets[bucket]:
            self._incoming.pop(device, None)
            raise codec.Malformed("a bucket that is not what its device signed")
        incoming.buckets.discard(bucket)
        incoming.rows[bucket] = rows
        known = self._sheets[device].rows.get(bucket, {}) if device in self._sheets else {}
        came = incoming.values
        incoming.lacking |= {
            key: value
            for key, value in rows.items()
            if known.get(key) != value and (key not in came or digest(came[key]) != value)
        }
        if sum(map(len, incoming.rows.values())) > MAX_ROWS:
            self._incoming.pop(device, None)
            raise codec.Malformed("a sheet of too many rows")
        return self._ask_on(device, incoming)

    def _answer_rows(self, device: DeviceId, number: int, keys: list[Any]) -> list[Message]:
        sheet = self._sheets.get(device)
        if sheet is None or sheet.record is None or sheet.record.number != number:
            newer = [["record", sheet.record.encoded]] if sheet is not None and sheet.record is not None else []
            return [["stale", bytes(device)], *newer]
        found: dict[bytes, bytes] = {}
        size = 0
        for key in keys[:ASK_ROWS]:
            value = self.value(device, codec.as_bytes(key))
            if value is None or (found and size + len(value) > ANSWER_BYTES):
                break
            found[key] = value
            size += len(value)
        return [["rows", bytes(device), number, found]] if found else [["stale", bytes(device)]]

    def _on_rows(
        self, peer: bytes, device: DeviceId, number: int, rows: dict[Any, Any]
    ) -> tuple[list[Message], list[Message]]:
        incoming = self._of(peer, device, number)
        if incoming is None:
            return [], []
        for key, value in rows.items():
            if key not in incoming.lacking:
                continue  # an answer to what was asked before
            if incoming.lacking[key] != digest(codec.as_bytes(value)) or len(value) > MAX_VALUE:
                self._incoming.pop(device, None)
                raise codec.Malformed("a row that is not what its device signed")
            del incoming.lacking[key]
            incoming.values[key] = value
        if sum(map(len, incoming.values.values())) > self._most_bytes(device):
            self._incoming.pop(device, None)
            raise codec.Malformed("a sheet of too many bytes")
        return self._ask_on(device, incoming)

    def _ask_on(self, device: DeviceId, incoming: _Incoming) -> tuple[list[Message], list[Message]]:
        if incoming.buckets:
            return [], []
        if not incoming.lacking:
            return [], self._take(device)
        keys = [key for key, _ in zip(incoming.lacking, range(ASK_ROWS), strict=False)]
        return [["rows?", bytes(device), incoming.record.number, keys]], []

    def _of(self, peer: bytes, device: DeviceId, number: int) -> _Incoming | None:
        incoming = self._incoming.get(device)
        fits = incoming is not None and incoming.peer == peer and incoming.record.number == number
        return incoming if fits else None

    def _take(self, device: DeviceId) -> list[Message]:
        incoming = self._incoming[device]
        sheet = self._sheets.get(device) or _Sheet()
        wanted = {key: value for rows in incoming.rows.values() for key, value in rows.items()}
        changes: dict[bytes, bytes | None] = {}
        for key, value in incoming.values.items():
            if wanted.get(key) == digest(value) != sheet.rows.get(bucket_of(key), {}).get(key):
                changes[key] = value
        after = dict(incoming.rows)
        for bucket in sheet.rows:
            if bucket not in incoming.record.buckets:
                after[bucket] = {}
        for bucket, rows in after.items():
            changes |= {key: None for key in sheet.rows.get(bucket, {}) if key not in rows}
        if sheet.size + sum(len(value) for value in changes.values() if value is not None) > self._most_bytes(device):
            self._incoming.pop(device, None)
            raise codec.Malformed("a sheet of too many bytes")
        self._become(sheet, incoming.record, after, changes)
        self._incoming.pop(device, None)
        return [["record", incoming.record.encoded]]


def _encode_rows(rows: Mapping[bytes, bytes]) -> bytes:
    return b"".join(bytes([len(key)]) + key + rows[key] for key in sorted(rows))


def _decode_rows(encoded: bytes, bucket: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    at = 0
    while at < len(encoded):
        end = at + 1 + encoded[at]
        key, value = encoded[at + 1 : end], encoded[end : end + 16]
        if len(key) < 2 or len(key) > MAX_KEY or len(value) != 16 or bucket_of(key) != bucket:
            raise codec.Malformed("a row that is none")
        rows[key] = value
        at = end + 16
        if len(rows) > MAX_IN_BUCKET:
            raise codec.Malformed("a bucket of too many rows")
    return rows
