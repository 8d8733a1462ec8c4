"""Frontiers: how much of each log a replica holds. Log id -> head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """Read what `frontier_fields` made. Raises ValueError for anything else."""
    frontier = {}
    if not isinstance(fields, list) or len(fields) > MAX_LOGS:
        raise ValueError("not a frontier")
    for row in fields:
        match row:
            case [bytes(device), bytes(incarnation), int(length), bytes(digest)]:
                if len(device) != 32 or len(incarnation) != 16 or len(digest) != 32 or not 0 <= length < 1 << 62:
                    raise ValueError("not a frontier: a field has the wrong size")
                frontier[LogId(DeviceId(device), incarnation)] = LogHead(length, digest)
            case _:
                raise ValueError("not a frontier: a row has the wrong form")
    return frontier
