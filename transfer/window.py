"""How many bytes to ask of a peer before the first have come: bandwidth times delay, as measured.

Bandwidth is the best rate of the last `HISTORY` samples, delay the least time between asking and getting. The window
is twice their product, so that a path that became faster shows itself; it stays between `LEAST` and `MOST`. A path as
quick as memory needs more than that: reading, sealing and writing work side by side on what is under way. So the window
is also what such a pipeline holds, as far as that takes no longer than `PIPELINE` to come.
"""

from __future__ import annotations

from collections import deque

LEAST = 4 * 1024 * 1024
MOST = 48 * 1024 * 1024
HISTORY = 8
SAMPLE = 0.1  # seconds
PIPELINE = 0.1  # seconds


class Window:
    """The window of one peer, `size` in bytes. Times are seconds of any monotonic clock."""

    def __init__(self, pipeline: int = LEAST) -> None:
        """`pipeline`: bytes that keep all parts of a quick way at work."""
        self.size = self._pipeline = pipeline
        self._rates: deque[float] = deque(maxlen=HISTORY)
        self._delay = float("inf")
        self._since = self._last = float("-inf")
        self._bytes = 0

    def on_delivered(self, size: int, asked_at: float, now: float) -> None:
        """`size` bytes came that were asked for at `asked_at`."""
        self._delay = min(self._delay, max(now - asked_at, 0.001))
        if asked_at > self._last:  # nothing was under way before: the pause says nothing of the path
            self._since, self._bytes = asked_at, 0
        self._last = now
        self._bytes += size
        elapsed = now - self._since
        if elapsed >= SAMPLE:
            self._rates.append(self._bytes / elapsed)
            self._since, self._bytes = now, 0
            rate = max(self._rates)
            wanted = max(2 * rate * self._delay, min(self._pipeline, rate * PIPELINE))
            self.size = int(min(MOST, max(LEAST, wanted)))
