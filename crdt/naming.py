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
    return _marked(name, f"{MARK}{_day(time_ms)} {tag})")


def origin_name(name: str, device: str, time_ms: int, number: int = 1) -> str:
    """Return the name for a copy that becomes a file of its own: `plan (from laptop, 2026-11-23).txt`. `number`: to try
    the next one, from 1."""
    fit = "".join(char if char.isprintable() and char != "/" else "_" for char in device)[:40].strip() or "elsewhere"
    return _marked(name, f" (from {fit}, {_day(time_ms)}{f', {number}' if number > 1 else ''})")


def _day(time_ms: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).date().isoformat()
    except (OverflowError, OSError, ValueError):  # a clock that is wrong by ages
        return "undated"


def _marked(name: str, mark: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > 16:
        stem, dot, suffix = name, "", ""
    raw = stem.encode("utf-8", "surrogateescape")
    room = MAX_BYTES - len((mark + dot + suffix).encode("utf-8", "surrogateescape"))
    if len(raw) > room:
        stem = raw[:room].decode("utf-8", "ignore")
    return stem + mark + dot + suffix
