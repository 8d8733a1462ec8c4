"""The signed log: how document changes travel. One log a (device, incarnation), entries chained by hash.

    entry     = CBOR [folder id, device, incarnation, seq, previous hash, epoch, sealed body, signature]
    signature = Ed25519 by device over b"shoal log entry" + CBOR of the first seven fields
    hash      = BLAKE3 of the whole entry; the first entry's previous hash is 32 zero bytes
    body      = CBOR map of shard number -> pycrdt update, sealed under the folder's log key, bound to
                (folder id, device, incarnation, seq)

Who forwards an entry can neither read nor forge it. A device whose store came back from an old backup would fork its
log; it starts a new incarnation instead, so one log never has two histories unless its author lies (`Forked`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import blake3
import cbor2

from shoal.crdt.keys import DeviceKey, FolderKeys, Unsealable, open_sealed, seal, verify_signature
from shoal.crdt.model import DeviceId, FolderId

CONTEXT = b"shoal log entry"
MAX_ENTRY = 4 * 1024 * 1024
MAX_BODY = 2 * 1024 * 1024  # what a writer puts into one entry, unless a single update is larger
NO_HASH = bytes(32)


class EntryRefused(Exception):
    """An entry that must not be applied; the subclass says why."""


class Malformed(EntryRefused):
    """Not an entry at all, or over the size limit."""


class Forged(EntryRefused):
    """The signature is not the named device's, or the body does not open."""


class NotAMember(EntryRefused):
    """The author does not belong to the folder."""


class OutOfPlace(EntryRefused):
    """Its number is not the next one of its log: repeated, or one before it is missing."""


class Forked(EntryRefused):
    """It continues another history of its log than the one held here."""


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


def write_entry(
    key: DeviceKey, keys: FolderKeys, folder: FolderId, log: LogId, head: LogHead, updates: Mapping[int, bytes]
) -> tuple[bytes, LogHead]:
    """Return the encoded next entry of `log`, and the head after it."""
    sealed = seal(keys.log, cbor2.dumps(dict(updates)), _body_context(folder, log, head.length))
    fields = [folder, log.device, log.incarnation, head.length, head.hash, 0, sealed]
    encoded = cbor2.dumps([*fields, key.sign(CONTEXT + cbor2.dumps(fields))])
    return encoded, LogHead(head.length + 1, entry_hash(encoded), head.floor)


def decode_entry(encoded: bytes) -> Entry:
    """Read an entry and check its signature. Raises Malformed, Forged."""
    if len(encoded) > MAX_ENTRY:
        raise Malformed(f"an entry of {len(encoded)} bytes is over the limit")
    try:
        fields = cbor2.loads(encoded)
        *signed, signature = fields
        folder, device, incarnation, seq, previous, epoch, sealed = signed
    except Exception as error:
        raise Malformed("not a log entry") from error
    sized = ((folder, 16), (device, 32), (incarnation, 16), (previous, 32), (signature, 64))
    if not all(isinstance(value, bytes) and len(value) == size for value, size in sized):
        raise Malformed("a field of the entry has the wrong size")
    if not (type(seq) is int and 0 <= seq < 1 << 62 and type(epoch) is int and isinstance(sealed, bytes)):
        raise Malformed("a field of the entry has the wrong type")
    if not verify_signature(device, CONTEXT + cbor2.dumps(signed), signature):
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


def open_body(entry: Entry, keys: FolderKeys) -> dict[int, bytes]:
    """Return shard number -> pycrdt update. Raises Forged, Malformed."""
    try:
        plain = open_sealed(keys.log, entry.sealed, _body_context(entry.folder, entry.log, entry.seq))
    except Unsealable as error:
        raise Forged("the body does not open with the folder's key") from error
    try:
        updates = cbor2.loads(plain)
        fits = all(type(s) is int and 0 <= s < 256 and isinstance(u, bytes) for s, u in updates.items())
    except Exception as error:
        raise Malformed("the body is not a map of updates") from error
    if not fits:
        raise Malformed("the body is not a map of updates")
    return dict(updates)


def split_updates(updates: Mapping[int, bytes], limit: int = MAX_BODY) -> list[dict[int, bytes]]:
    """Divide updates into groups that each fit an entry."""
    groups: list[dict[int, bytes]] = []
    room = 0
    for shard, update in updates.items():
        if not groups or len(update) + 8 > room:
            groups.append({})
            room = limit
        groups[-1][shard] = update
        room -= len(update) + 8
    return groups


def _body_context(folder: bytes, log: LogId, seq: int) -> bytes:
    return folder + log.key() + seq.to_bytes(8)
