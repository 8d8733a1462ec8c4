"""What two replicas of a folder say to each other, as canonical CBOR arrays; one message a frame.

[0, ask, frontier]              Holds: all that the sender holds; `ask`: answer with yours
[1, device, incarnation, first, [entries...]]   Entries: consecutive entries of one log, from number `first`
[2, frontier]                   Ack: the heads of the logs that came, as the receiver of `Entries` now holds them
[3, manifest]                   CheckpointManifest: a checkpoint follows, for a peer that lacks dropped entries
[4, checkpoint id, number, part]   CheckpointPart: sealed parts in order
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shoal.crdt import codec
from shoal.crdt.frontier import frontier_fields, read_frontier
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId

MAX_MESSAGE = 8 * 1024 * 1024
MAX_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Holds:
    """All that the sender holds. `ask`: the receiver answers with its own."""

    frontier: Mapping[LogId, LogHead]
    ask: bool = False


@dataclass(frozen=True, slots=True)
class Entries:
    """Consecutive encoded entries of `log`; the number of the first is `first`. Not verified yet."""

    log: LogId
    first: int
    entries: tuple[bytes, ...]

    @property
    def end(self) -> int:
        return self.first + len(self.entries)


@dataclass(frozen=True, slots=True)
class Ack:
    """The heads of some logs that the sender holds, stored and synced."""

    heads: Mapping[LogId, LogHead]


@dataclass(frozen=True, slots=True)
class CheckpointManifest:
    """The signed manifest of a checkpoint whose parts follow."""

    manifest: bytes


@dataclass(frozen=True, slots=True)
class CheckpointPart:
    """Sealed part `number` of the checkpoint `id`."""

    id: bytes
    number: int
    part: bytes


Message = Holds | Entries | Ack | CheckpointManifest | CheckpointPart


def encode_message(message: Message) -> bytes:
    """Return the message's one encoding."""
    match message:
        case Holds(frontier, ask):
            return codec.encode([0, ask, frontier_fields(frontier)])
        case Entries(log, first, entries):
            return codec.encode([1, log.device, log.incarnation, first, list(entries)])
        case Ack(heads):
            return codec.encode([2, frontier_fields(heads)])
        case CheckpointManifest(manifest):
            return codec.encode([3, manifest])
        case CheckpointPart(identity, number, part):
            return codec.encode([4, identity, number, part])


def decode_message(encoded: bytes) -> Message:
    """Read a message. Raises codec.Malformed: the peer misbehaves."""
    kind, *fields = codec.as_list(codec.decode(encoded, MAX_MESSAGE), most=5) or [None]
    match kind, fields:
        case 0, [ask, frontier]:
            return Holds(read_frontier(frontier), codec.as_bool(ask))
        case 1, [device, incarnation, first, entries]:
            log = LogId(DeviceId(codec.as_bytes(device, 32)), codec.as_bytes(incarnation, 16))
            read = tuple(codec.as_bytes(entry) for entry in codec.as_list(entries, most=MAX_ENTRIES))
            if not read:
                raise codec.Malformed("a message of no entries")
            return Entries(log, codec.as_int(first), read)
        case 2, [heads]:
            return Ack(read_frontier(heads))
        case 3, [manifest]:
            return CheckpointManifest(codec.as_bytes(manifest))
        case 4, [identity, number, part]:
            return CheckpointPart(codec.as_bytes(identity, 16), codec.as_int(number), codec.as_bytes(part))
        case _:
            raise codec.Malformed("not a message of this protocol")
