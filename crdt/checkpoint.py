"""Checkpoints: all of a folder's document at one frontier, so that a new device need not replay history.

    stream   = one record a shard: shard (1 byte), length (4, big-endian), pycrdt update; cut every `PART_PLAIN` bytes
    part     = a piece of the stream, sealed under the folder's log key, bound to (checkpoint id, number); <= 1 MiB
    manifest = CBOR [folder id, device, checkpoint id, epoch, frontier, [BLAKE3 of each part], signature]
    signature = Ed25519 by the device over b"shoal checkpoint" + CBOR of the first six fields

A checkpoint is as trustworthy as the member that signed it: its frontier says which entries the document has in it.
Whoever stores or forwards it can neither read nor change it. Parts are made and read one at a time; no side needs
the whole in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import blake3

from shoal.crdt import codec
from shoal.crdt.frontier import Frontier, frontier_fields, read_frontier
from shoal.crdt.keys import NONCE_SIZE, TAG_SIZE, DeviceKey, FolderKeys, Unsealable, open_sealed, seal, verify_signature
from shoal.crdt.log import LogHead, LogId, decode_entry, is_unfinished
from shoal.crdt.model import DeviceId, FolderId

CONTEXT = b"shoal checkpoint"
MAX_PART = 1024 * 1024
PART_PLAIN = MAX_PART - NONCE_SIZE - TAG_SIZE
MAX_MANIFEST = 8 * 1024 * 1024
ID_SIZE = 16

WORTH_ENTRIES = 10_000  # entries since the last checkpoint that make a new one worth it
WORTH_BYTES = 8 * 1024 * 1024  # of entries, at least, and as many as the last checkpoint had
KEPT_FOR_LAGGARDS = 100_000  # entries of a log kept for devices that have not acknowledged them


class BadCheckpoint(Exception):
    """Not a checkpoint of this folder by a member, or damaged or changed on the way."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is. `parts`: the BLAKE3 of each sealed part, in order."""

    folder: FolderId
    device: DeviceId
    id: bytes
    epoch: int
    frontier: Mapping[LogId, LogHead]
    parts: tuple[bytes, ...]


class Builder:
    """Makes a checkpoint shard by shard. `id`: 16 random bytes."""

    def __init__(self, folder: FolderId, frontier: Frontier, keys: FolderKeys, key: DeviceKey, id: bytes) -> None:
        self._folder = folder
        self._frontier = frontier
        self._keys = keys
        self._key = key
        self._id = codec.as_bytes(id, ID_SIZE)
        self._pending = bytearray()
        self._hashes: list[bytes] = []

    def add(self, shard: int, update: bytes) -> Iterator[bytes]:
        """Put in one shard's snapshot; yields the sealed parts that it fills. To be exhausted."""
        self._pending += bytes([shard]) + len(update).to_bytes(4) + update
        while len(self._pending) >= PART_PLAIN:
            yield self._seal(bytes(self._pending[:PART_PLAIN]))
            del self._pending[:PART_PLAIN]

    def finish(self) -> tuple[list[bytes], bytes]:
        """Return the last sealed parts (none or one) and the encoded manifest."""
        last = [self._seal(bytes(self._pending))] if self._pending else []
        self._pending.clear()
        fields = [
            self._folder,
            self._key.id,
            self._id,
            self._keys.epoch,
            frontier_fields(self._frontier),
            self._hashes,
        ]
        return last, codec.encode([*fields, self._key.sign(CONTEXT + codec.encode(fields))])

    def _seal(self, plain: bytes) -> bytes:
        part = seal(self._keys.log, plain, _part_context(self._id, len(self._hashes)))
        self._hashes.append(blake3.blake3(part).digest())
        return part


def build(
    folder: FolderId,
    frontier: Frontier,
    snapshots: Iterable[tuple[int, bytes]],
    keys: FolderKeys,
    key: DeviceKey,
    id: bytes,
) -> tuple[bytes, list[bytes]]:
    """Return (manifest, sealed parts) of a checkpoint small enough for memory; `Builder` makes any."""
    builder = Builder(folder, frontier, keys, key, id)
    parts = [part for shard, update in snapshots for part in builder.add(shard, update)]
    last, manifest = builder.finish()
    return manifest, [*parts, *last]


def decode_manifest(encoded: bytes, folder: FolderId, is_member: Callable[[DeviceId], bool]) -> Manifest:
    """Read and verify a manifest. Raises BadCheckpoint."""
    try:
        fields = codec.as_list(codec.decode(encoded, MAX_MANIFEST), length=7)
        said, device, identity, epoch, frontier, parts, signature = fields
        manifest = Manifest(
            FolderId(codec.as_bytes(said, 16)),
            DeviceId(codec.as_bytes(device, 32)),
            codec.as_bytes(identity, ID_SIZE),
            codec.as_int(epoch),
            read_frontier(frontier),
            tuple(codec.as_bytes(part, 32) for part in codec.as_list(parts)),
        )
        codec.as_bytes(signature, 64)
    except codec.Malformed as error:
        raise BadCheckpoint(f"not a manifest: {error}") from error
    if manifest.folder != folder:
        raise BadCheckpoint("a checkpoint of another folder")
    if not is_member(manifest.device):
        raise BadCheckpoint("its author does not belong to the folder")
    if not verify_signature(device, CONTEXT + codec.encode(fields[:6]), signature):
        raise BadCheckpoint("the signature is not the named device's")
    return manifest


class Reader:
    """Reads the parts of a checkpoint in order. Nothing may be kept of it unless `finish` returns."""

    def __init__(self, manifest: Manifest, keys: FolderKeys) -> None:
        sealed_with = keys.log_of(manifest.epoch)
        if sealed_with is None:
            raise BadCheckpoint(f"sealed in epoch {manifest.epoch}, whose key is not here")
        self._manifest = manifest
        self._sealed_with = sealed_with
        self._pending = bytearray()
        self.number = 0  # of the part that is next

    def add(self, part: bytes) -> list[tuple[int, bytes]]:
        """Take the next part; return the (shard, pycrdt update) pairs complete with it. Raises BadCheckpoint."""
        if self.number == len(self._manifest.parts) or len(part) > MAX_PART:
            raise BadCheckpoint("more parts, or a larger one, than the manifest has")
        if blake3.blake3(part).digest() != self._manifest.parts[self.number]:
            raise BadCheckpoint(f"part {self.number} is not what the manifest names")
        try:
            self._pending += open_sealed(self._sealed_with, part, _part_context(self._manifest.id, self.number))
        except Unsealable as error:
            raise BadCheckpoint(f"part {self.number} does not open with the folder's key") from error
        self.number += 1
        found = []
        while len(self._pending) >= 5:
            end = 5 + int.from_bytes(self._pending[1:5])
            if len(self._pending) < end:
                break
            found.append((self._pending[0], bytes(self._pending[5:end])))
            del self._pending[:end]
        return found

    def finish(self) -> Mapping[LogId, LogHead]:
        """Return the frontier that the document now stands at. Raises BadCheckpoint when parts are missing."""
        if self.number != len(self._manifest.parts) or self._pending:
            raise BadCheckpoint("it ends too early")
        return self._manifest.frontier


def open_parts(manifest: Manifest, parts: Iterable[bytes], keys: FolderKeys) -> list[tuple[int, bytes]]:
    """Return every (shard, pycrdt update) of a checkpoint small enough for memory. Raises BadCheckpoint."""
    reader = Reader(manifest, keys)
    found = [pair for part in parts for pair in reader.add(part)]
    reader.finish()
    return found


def is_worth_making(entries_since: int, bytes_since: int, last_size: int) -> bool:
    """Return whether a new checkpoint pays: by the logs' growth since the last one, and its size (bytes; 0: none)."""
    return entries_since >= WORTH_ENTRIES or bytes_since >= max(WORTH_BYTES, last_size)


def settled(frontier: Frontier, keys: FolderKeys, read: Callable[[LogId, int], bytes]) -> dict[LogId, LogHead]:
    """Return `frontier`, with each log that ends inside a cut update taken back to before it: what a snapshot covers.

    `read(log, seq)` returns a stored entry.
    """
    result = {}
    for log, head in frontier.items():
        length, digest = head.length, head.hash
        while length > head.floor and is_unfinished(entry := decode_entry(read(log, length - 1)), keys):
            length, digest = length - 1, entry.previous
        result[log] = LogHead(length, digest, head.floor)
    return result


def adopted(mine: Frontier, checkpoint: Frontier) -> dict[LogId, LogHead]:
    """Return the heads that change when a checkpoint was applied: of logs that it knows more of than `mine`."""
    return {
        log: LogHead(head.length, head.hash, head.length)
        for log, head in checkpoint.items()
        if head.length > mine.get(log, LogHead()).length
    }


def floors(
    mine: Frontier,
    checkpoint: Frontier,
    acknowledged: Mapping[DeviceId, Frontier],
    kept: int = KEPT_FOR_LAGGARDS,
) -> dict[LogId, int]:
    """Return, for each log of which entries may be dropped, the number of the first that must stay.

    An entry may go only if a stored checkpoint covers it, for a new device starts there; and if every other known
    device, all named in `acknowledged`, has acknowledged it. Only where more than `kept` entries wait for a laggard may
    the oldest go before that: it will be sent the checkpoint.
    """
    result = {}
    for log, head in mine.items():
        covered = min(checkpoint.get(log, LogHead()).length, head.length)
        known = min((theirs.get(log, LogHead()).length for theirs in acknowledged.values()), default=covered)
        floor = min(covered, max(known, head.length - kept))
        if floor > head.floor:
            result[log] = floor
    return result


def _part_context(identity: bytes, number: int) -> bytes:
    return CONTEXT + identity + number.to_bytes(8)
