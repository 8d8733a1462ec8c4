"""How fast chunks come and go, by device: from running totals, over the last few seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

WINDOW = 4.0  # seconds


class Speeds:
    """Fed with totals now and then; `now` is any clock in seconds that does not go back."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[bytes, int], dict[bytes, int]]] = deque()

    def observe(self, now: float, received: Mapping[bytes, int], sent: Mapping[bytes, int]) -> None:
        """Take the total bytes received from, and sent to, each device so far."""
        self._samples.append((now, dict(received), dict(sent)))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    def of(self, device: bytes) -> tuple[float, float]:
        """Return bytes a second received from and sent to the device."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        start, received, sent = self._samples[0]
        end, received_by_now, sent_by_now = self._samples[-1]
        span = max(end - start, 1e-9)
        down = received_by_now.get(device, 0) - received.get(device, 0)
        up = sent_by_now.get(device, 0) - sent.get(device, 0)
        return down / span, up / span
