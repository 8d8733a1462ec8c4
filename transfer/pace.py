"""Limits of speed: how long what is sent, or was received, has to wait.

`Pace` is a token bucket in its other form (GCRA, ITU-T I.371): it keeps the time at which all that was let through will
have left a line of that speed. `Throttle` shares one among threads and tasks; a `Way` is its use by one peer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import trio

BURST = 0.1  # seconds' worth that may go at once after a pause
PIECE_SECONDS = 0.1  # a piece takes this long, so that no other waits for longer, and a new rate holds soon
PIECE_LEAST = 8 * 1024
PIECE_MOST = 256 * 1024
FRAME_SECONDS = 0.5
LOOK_SECONDS = 0.25  # between two looks at whether another rate holds
FRAME_LEAST = 64 * 1024


class Pace:
    """How fast bytes may go. Pure: times are seconds of any monotonic clock."""

    def __init__(self, rate: float | None = None) -> None:
        """`rate`: bytes a second, None for any."""
        self.rate = rate
        self._free_at = float("-inf")  # when what was let through has left a line of that speed

    def set_rate(self, rate: float | None, now: float) -> None:
        """Go at another rate from now on; what was let through already is owed as many bytes as before."""
        if rate == self.rate:
            return
        if self.rate is not None and rate is not None and self._free_at > now:
            self._free_at = now + (self._free_at - now) * self.rate / rate
        elif self.rate is None or rate is None:
            self._free_at = float("-inf")
        self.rate = rate

    def reserve(self, size: int, now: float) -> float:
        """Let `size` bytes through; return the seconds after which they may go."""
        if self.rate is None:
            return 0.0
        start = max(self._free_at, now - BURST)
        self._free_at = start + size / self.rate
        return max(0.0, self._free_at - BURST - now)


class Throttle:
    """A pace that threads and tasks share."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace = Pace()
        self._lock = threading.Lock()

    @property
    def rate(self) -> float | None:
        """Bytes a second, None for any."""
        return self._pace.rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        with self._lock:
            self._pace.set_rate(rate, self._clock())

    def reserve(self, size: int) -> float:
        """Let `size` bytes through; return the seconds after which they may go."""
        with self._lock:
            return self._pace.reserve(size, self._clock())


class Way:
    """One direction of what goes between this device and a peer."""

    def __init__(self, throttle: Throttle, is_free: Callable[[], bool]) -> None:
        """`is_free`: whether this peer is excepted, now."""
        self._throttle = throttle
        self._is_free = is_free

    @property
    def rate(self) -> float | None:
        """Bytes a second for all peers that are not excepted, None where there is no limit."""
        rate = self._throttle.rate
        return rate if rate is not None and not self._is_free() else None

    @property
    def piece(self) -> int | None:
        """The bytes that are best sent or received at once; None where there is no limit."""
        rate = self.rate
        return None if rate is None else int(min(PIECE_MOST, max(PIECE_LEAST, rate * PIECE_SECONDS)))

    def frame(self, usual: int) -> int:
        """Return the bytes of chunks that are best put in one frame, `usual` without a limit: small ones let what is
        more urgent come between."""
        rate = self.rate
        return usual if rate is None else int(min(usual, max(FRAME_LEAST, rate * FRAME_SECONDS)))

    def pause(self, size: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Wait until `size` bytes may go, or nobody needs them any more; in a thread."""
        for seconds in self._waits(size):
            if is_over():
                break
            time.sleep(seconds)

    async def wait(self, size: int) -> None:
        """Wait until `size` bytes may go."""
        for seconds in self._waits(size):
            await trio.sleep(seconds)

    def _waits(self, size: int) -> Iterator[float]:
        """Let `size` bytes through; yield how long to wait, a little at a time, as the rate may change meanwhile."""
        rate = self.rate
        left = self._throttle.reserve(size) if rate is not None else 0.0
        while left > 0:
            step = min(left, LOOK_SECONDS)
            yield step
            now = self.rate
            if rate is None or now is None:
                break
            left, rate = (left - step) * rate / now, now


UNLIMITED = Way(Throttle(), lambda: True)
