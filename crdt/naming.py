"""Names for what cannot have its own: the loser of two siblings with one name, and conflict copies."""

from __future__ import annotations

import datetime

MAX_BYTES = 255
MARK = " (conflict "


def conflict_name(name: str, tag: str) -> str:
    """Return the name shown for a node whose name a sibling holds: `plan.txt` -> `plan (conflict 1a2b3c4d).txt`."""
    return _marked(name, f"{MARK}{tag})")


def copy_name(name: str, time_ms: int, tag: str) -> str:
    """Return the name of a conflict copy: `plan (conflict 2026-11-23 1a2b3c4d).txt`. The day is the author's, UTC."""
    try:
        day = datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).date().isoformat()
    except (OverflowError, OSError, ValueError):  # a clock that is wrong by ages
        day = "undated"
    return _marked(name, f"{MARK}{day} {tag})")


def _marked(name: str, mark: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > 16:
        stem, dot, suffix = name, "", ""
    raw = stem.encode("utf-8", "surrogateescape")
    room = MAX_BYTES - len((mark + dot + suffix).encode("utf-8", "surrogateescape"))
    if len(raw) > room:
        stem = raw[:room].decode("utf-8", "ignore")
    return stem + mark + dot + suffix
