"""Frontiers: how much of each log a replica holds. Log id -> head.

    encoded = canonical CBOR array of [device, incarnation, length, hash of the last entry], sorted, no log twice

A log's floor is a matter of the store that dropped entries and does not travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shoal.crdt import codec
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId

Frontier = Mapping[LogId, LogHead]
MAX_LOGS = 100_000


@dataclass(frozen=True, slots=True)
class Range:
    """Entries `first` to `end` (exclusive) of a log."""

    log: LogId
    first: int
    end: int


def covers(one: Frontier, other: Frontier) -> bool:
    """Return whether `one` holds all that `other` does."""
    return all(one.get(log, LogHead()).length >= head.length for log, head in other.items())


def missing(mine: Frontier, theirs: Frontier) -> list[Range]:
    """Return what they lack and I hold, in log order."""
    found = []
    for log in sorted(mine):
        first = theirs.get(log, LogHead()).length
        if first < mine[log].length:
            found.append(Range(log, first, mine[log].length))
    return found


def frontier_fields(frontier: Frontier) -> list[Any]:
    """Return the frontier as plain values, for a message."""
    return [[log.device, log.incarnation, head.length, head.hash] for log, head in sorted(frontier.items())]


def read_frontier(fields: Any) -> dict[LogId, LogHead]:
    """Read what `frontier_fields` made. Raises ValueError (`codec.Malformed`) for anything else."""
    frontier: dict[LogId, LogHead] = {}
    before = b""
    for row in codec.as_list(fields, most=MAX_LOGS):
        device, incarnation, length, digest = codec.as_list(row, length=4)
        log = LogId(DeviceId(codec.as_bytes(device, 32)), codec.as_bytes(incarnation, 16))
        if log.key() <= before:
            raise codec.Malformed("the logs of a frontier are out of order")
        before = log.key()
        frontier[log] = LogHead(codec.as_int(length), codec.as_bytes(digest, 32))
    return frontier


def encode_frontier(frontier: Frontier) -> bytes:
    """Return the frontier's one encoding."""
    return codec.encode(frontier_fields(frontier))


def decode_frontier(encoded: bytes) -> dict[LogId, LogHead]:
    """Read what `encode_frontier` made. Raises codec.Malformed."""
    return read_frontier(codec.decode(encoded, MAX_LOGS * 128))
