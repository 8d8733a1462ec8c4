"""Files changed a moment ago: another change within the same tick of the file system's clock would not be seen.

Times of files are cut to a tick: some milliseconds of the kernel's, a second or two on FAT and old file systems. A file
is read only when the tick of its last change is over, so that any later change has another time.
"""

from __future__ import annotations

from collections.abc import Callable

from shoal.node.folder.disk import Seen, kind_of
from shoal.node.folder.signature import Signature

FINE = 0.012  # seconds; the slowest kernel tick is 10 ms
COARSE = 2.05
MILLISECOND = 1_000_000  # in nanoseconds
MOST = 10_000  # files that are remembered
GONE = 10.0  # seconds after which one that was not asked for again is not there any more


class Freshness:
    """`wall_ms`: the clock that files get their times from; `clock`: one in seconds that does not jump."""

    def __init__(self, wall_ms: Callable[[], int], clock: Callable[[], float]) -> None:
        self._wall_ms = wall_ms
        self._clock = clock
        self._looked_through = float("-inf")
        self._seen: dict[str, tuple[Signature, float]] = {}  # path -> what was seen first, and when it is old enough

    def wait(self, seen: Seen) -> float:
        """Return how many seconds to leave the file alone; 0: it may be read."""
        signature = seen.signature
        if signature is None or kind_of(signature) == "dir":
            return 0.0
        tick = COARSE if signature.ctime_ns % MILLISECOND == 0 else FINE
        age = self._wall_ms() / 1000 - signature.ctime_ns / 1e9
        if age >= tick:
            if self._seen:
                self._seen.pop(seen.path, None)
            return 0.0
        known = self._seen.get(seen.path)
        if known is not None and known[0] == signature:
            # Its time may lie in the future, as the clock was set back: then what counts is since when it is so.
            left = known[1] - self._clock()
            if left <= 0:
                del self._seen[seen.path]
            return max(0.0, left)
        left = min(tick, tick - age) if age > 0 else tick
        if len(self._seen) >= MOST and known is None:
            self._forget_those_gone()
        if len(self._seen) < MOST or known is not None:  # else it has its turn when one of these was read
            self._seen[seen.path] = signature, self._clock() + left
        return left

    def _forget_those_gone(self) -> None:
        """Of what was long old enough, nobody asked again."""
        limit = self._clock() - GONE
        if limit >= self._looked_through + COARSE:
            self._looked_through = limit
            self._seen = {path: entry for path, entry in self._seen.items() if entry[1] > limit}
