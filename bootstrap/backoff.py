"""How long to wait before the next try: doubling, jittered, capped."""

from __future__ import annotations

FIRST = 0.5  # seconds
MOST = 20.0


def delay(failures: int, chance: float) -> float:
    """Return the seconds to wait after `failures` (at least 1) tries in a row. `chance`: uniform in 0 to 1.

    Half the wait is fixed and half is drawn, so that peers which failed together do not try together.
    """
    full = min(MOST, FIRST * 2.0 ** min(failures - 1, 16))
    return full * (0.5 + 0.5 * chance)
