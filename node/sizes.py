"""Sizes as people write them."""

from __future__ import annotations

from shoal.node.errors import EXIT_USAGE, UserError

UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
MOST = 1 << 50


def parse_size(text: str) -> int:
    """Read `500M`, `2G`, `1.5T` or a number of bytes. Raises UserError."""
    lower = text.strip().lower().removesuffix("b") or "b"
    number = lower.rstrip("kmgt")
    try:
        size = float(number) * UNITS[lower[len(number) :]]
    except (ValueError, KeyError):
        size = -1.0
    if not 0 <= size <= MOST:
        raise UserError("bad-size", f"{text!r} is no size", "for example 500M, 2G or 1T", EXIT_USAGE, 400)
    return int(size)
