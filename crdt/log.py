"""The signed log: how document changes travel. One log a (device, incarnation), entries chained by hash.

    entry     = CBOR [folder id, device, incarnation, seq, previous hash, epoch, sealed body, signature]
    signature = Ed25519 by device over b"shoal log entry" + CBOR of the first seven fields
    hash      = BLAKE3 of the whole entry; the first entry's previous hash is 32 zero bytes
    body      = CBOR map of shard number -> pycrdt update, or CBOR [shard, part, parts, bytes], sealed under the
                folder's log key, bound to (folder id, device, incarnation, seq)

CBOR is canonical throughout (`codec`), so an entry has one encoding and one hash. An update too large for an entry (a
file of 100 GiB has 4 MB of chunk ids) is cut into parts, in consecutive entries; it counts when the last one is there.

Who forwards an entry can neither read nor forge it. A device whose store came back from an old backup would fork its
log; it starts a new incarnation instead, so one log never has two histories unless its author lies (`Forked`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import blake3

from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, FolderKeys, Unsealable, open_sealed, seal, verify_signature
from shoal.crdt.model import DeviceId, FolderId

CONTEXT = b"shoal log entry"
MAX_ENTRY = 4 * 1024 * 1024
MAX_BODY = 2 * 1024 * 1024  # what a writer puts into one entry, unless a single update is larger
MAX_PARTS = 128  # of one update: 256 MiB
NO_HASH = bytes(32)


class TooLarge(ValueError):
    """An update that no number of entries may carry: the caller's fault, nothing was written."""


class EntryRefused(Exception):
    """An entry that must not be applied; the subclass says why.

    `blames_sender`: whether the peer that sent it could have seen that itself and misbehaves.
    """

    blames_sender: ClassVar[bool] = True


class Malformed(EntryRefused):
    """Not an entry at all, or over the size limit."""


class Forged(EntryRefused):
    """The signature is not the named device's, or the body does not open."""


class NotAMember(EntryRefused):
    """The author does not belong to the folder, as far as is known here: the roster may be on its way."""

    blames_sender = False


class OutOfPlace(EntryRefused):
    """Its number is not the next one of its log: repeated, or one before it is missing."""

    blames_sender = False


class Forked(EntryRefused):
    """It continues another history of its log than the one held here. The author's fault, not who passed it on."""

    blames_sender = False


class Unreadable(EntryRefused):
    """The body does not open with the folder's key: its author sealed it with another, or says that it is of an epoch
    of which it is not."""

    blames_sender = False


class OtherEpoch(EntryRefused):
    """It was sealed with the folder's keys of another epoch."""

    blames_sender = False


@dataclass(frozen=True, slots=True, order=True)
class LogId:
    """The name of a log. `incarnation`: 16 random bytes."""

    device: DeviceId
    incarnation: bytes

    def key(self) -> bytes:
        """48 bytes that sort as the log ids do."""
        return self.device + self.incarnation


@dataclass(frozen=True, slots=True)
class LogHead:
    """How much of a log is held: `length` entries, the hash of the last, the first `floor` of them dropped."""

    length: int = 0
    hash: bytes = NO_HASH
    floor: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A decoded entry. `hash` is that of its encoding."""

    folder: FolderId
    log: LogId
    seq: int
    previous: bytes
    epoch: int
    sealed: bytes
    hash: bytes


def entry_hash(encoded: bytes) -> bytes:
    """Return the 32 bytes that the next entry of the log names."""
    return blake3.blake3(encoded).digest()


def write_entries(
    key: DeviceKey, keys: FolderKeys, folder: FolderId, log: LogId, head: LogHead, updates: Mapping[int, bytes]
) -> list[tuple[bytes, LogHead]]:
    """Return the entries that carry `updates`, each with the head after it. Raises TooLarge."""
    written = []
    for body in _bodies(updates):
        encoded, head = _write(key, keys, folder, log, head, body)
        written.append((encoded, head))
    return written


def write_entry(
    key: DeviceKey, keys: FolderKeys, folder: FolderId, log: LogId, head: LogHead, updates: Mapping[int, bytes]
) -> tuple[bytes, LogHead]:
    """Return the encoded next entry of `log`, and the head after it. Raises TooLarge: `write_entries` can do more."""
    return _write(key, keys, folder, log, head, dict(updates))


def decode_entry(encoded: bytes) -> Entry:
    """Read an entry and check its signature. Raises Malformed, Forged."""
    try:
        fields = codec.as_list(codec.decode(encoded, MAX_ENTRY), length=8)
        folder, device, incarnation, seq, previous, epoch, sealed, signature = fields
        for value, size in ((folder, 16), (device, 32), (incarnation, 16), (previous, 32), (signature, 64)):
            codec.as_bytes(value, size)
        codec.as_int(seq)
        codec.as_int(epoch)
        codec.as_bytes(sealed)
    except codec.Malformed as error:
        raise Malformed(f"not a log entry: {error}") from error
    if not verify_signature(device, CONTEXT + codec.encode(fields[:7]), signature):
        raise Forged("the signature is not the named device's")
    log = LogId(DeviceId(device), incarnation)
    return Entry(FolderId(folder), log, seq, previous, epoch, sealed, entry_hash(encoded))


def check_place(entry: Entry, folder: FolderId, head: LogHead, is_member: Callable[[DeviceId], bool]) -> None:
    """Check that `entry` is the next of its log. Raises Malformed, NotAMember, OutOfPlace, Forked."""
    if entry.folder != folder:
        raise Malformed("an entry of another folder")
    if not is_member(entry.log.device):
        raise NotAMember("the author does not belong to the folder")
    if entry.seq != head.length:
        raise OutOfPlace(f"entry {entry.seq} where {head.length} was next")
    if entry.previous != head.hash:
        raise Forked(f"entry {entry.seq} continues another history")


def verify(encoded: bytes, folder: FolderId, head: LogHead, is_member: Callable[[DeviceId], bool]) -> Entry:
    """Read the entry that must be the next after `head`. Raises EntryRefused: the subclass says why."""
    entry = decode_entry(encoded)
    check_place(entry, folder, head, is_member)
    return entry


def open_body(entry: Entry, keys: FolderKeys, earlier: Callable[[int], bytes | None] | None = None) -> dict[int, bytes]:
    """Return shard number -> pycrdt update; nothing for a part that others follow.

    `earlier(seq)` returns an encoded entry of the same log, checked and stored before; it is asked only where the last
    part of a cut update stands. Raises Forged, Malformed, OtherEpoch.
    """
    body = _open(entry, keys)
    if isinstance(body, dict):
        return body
    shard, part, parts, data = body
    if part < parts - 1:
        return {}
    pieces = [data]
    for seq in range(entry.seq - 1, entry.seq - parts, -1):
        encoded = earlier(seq) if earlier is not None else None
        if encoded is None:
            raise Malformed("the last part of an update whose first parts are not here")
        piece = _open(decode_entry(encoded), keys)
        if isinstance(piece, dict) or piece[:3] != (shard, part - (entry.seq - seq), parts):
            raise Malformed("a part of an update that does not follow the one before")
        pieces.append(piece[3])
    return {shard: b"".join(reversed(pieces))}


def is_unfinished(entry: Entry, keys: FolderKeys) -> bool:
    """Return whether the entry is a part of an update of which more parts follow. Raises as `open_body`."""
    body = _open(entry, keys)
    return not isinstance(body, dict) and body[1] < body[2] - 1


def split_updates(updates: Mapping[int, bytes], limit: int = MAX_BODY) -> list[dict[int, bytes]]:
    """Divide updates into groups of at most `limit` bytes each, where no single update is larger."""
    groups: list[dict[int, bytes]] = []
    room = 0
    for shard, update in updates.items():
        if not groups or len(update) + 8 > room:
            groups.append({})
            room = limit
        groups[-1][shard] = update
        room -= len(update) + 8
    return groups


def _bodies(updates: Mapping[int, bytes]) -> Iterator[Any]:
    for group in split_updates(updates):
        (shard, update), *more = group.items()
        if more or len(update) <= MAX_BODY:
            yield group
            continue
        pieces = [update[at : at + MAX_BODY] for at in range(0, len(update), MAX_BODY)]
        if len(pieces) > MAX_PARTS:
            raise TooLarge(f"an update of {len(update)} bytes is over the limit of {MAX_PARTS * MAX_BODY}")
        for number, piece in enumerate(pieces):
            yield [shard, number, len(pieces), piece]


def _write(
    key: DeviceKey, keys: FolderKeys, folder: FolderId, log: LogId, head: LogHead, body: Any
) -> tuple[bytes, LogHead]:
    sealed = seal(keys.log, codec.encode(body), _body_context(folder, log, head.length))
    fields = [folder, log.device, log.incarnation, head.length, head.hash, keys.epoch, sealed]
    encoded = codec.encode([*fields, key.sign(CONTEXT + codec.encode(fields))])
    if len(encoded) > MAX_ENTRY:
        raise TooLarge(f"an entry of {len(encoded)} bytes is over the limit")
    return encoded, LogHead(head.length + 1, entry_hash(encoded), head.floor)


def _open(entry: Entry, keys: FolderKeys) -> dict[int, bytes] | tuple[int, int, int, bytes]:
    key = keys.log_of(entry.epoch)
    if key is None:
        raise OtherEpoch(f"sealed in epoch {entry.epoch}, whose key is not here")
    try:
        plain = open_sealed(key, entry.sealed, _body_context(entry.folder, entry.log, entry.seq))
    except Unsealable as error:
        raise Unreadable("the body does not open with the folder's key") from error
    try:
        body = codec.decode(plain, MAX_ENTRY)
        if isinstance(body, dict):
            return {codec.as_int(shard, most=255): codec.as_bytes(update) for shard, update in body.items()}
        shard, part, parts, data = codec.as_list(body, length=4)
        parts = codec.as_int(parts, least=2, most=MAX_PARTS)
        part = codec.as_int(part, most=min(parts - 1, entry.seq))
        return codec.as_int(shard, most=255), part, parts, codec.as_bytes(data)
    except codec.Malformed as error:
        raise Malformed(f"the body is not a map of updates: {error}") from error


def _body_context(folder: bytes, log: LogId, seq: int) -> bytes:
    return folder + log.key() + seq.to_bytes(8)
