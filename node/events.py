"""What happened on this node, for people: a bounded ring that `shoal log -f`, the API and later notices read.

Events are numbered from 1 without gaps in one run of the node. A reader that falls behind the ring sees the oldest
event that is left; nothing waits for a slow reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trio


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log. `time_ms`: Unix time in milliseconds; `kind` is a stable word for scripts."""

    number: int
    time_ms: int
    kind: str
    text: str
    detail: dict[str, str | int] = field(default_factory=dict)


class EventLog:
    """The last `size` events, and a way to wait for the next. `listener` is told of each."""

    def __init__(self, now_ms: Callable[[], int], size: int = 2000) -> None:
        self._now_ms = now_ms
        self._ring: deque[Event] = deque(maxlen=size)
        self._count = 0
        self._news = trio.Event()
        self.listener: Callable[[Event], None] = lambda event: None

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._count

    def add(self, kind: str, text: str, **detail: str | int) -> None:
        """Record an event and wake every reader."""
        self._count += 1
        event = Event(self._count, self._now_ms(), kind, text, detail)
        self._ring.append(event)
        self._news.set()
        self._news = trio.Event()
        self.listener(event)

    def since(self, number: int) -> list[Event]:
        """Return the events after `number` that are still held, oldest first."""
        return [event for event in self._ring if event.number > number]

    async def follow(self, number: int = 0) -> AsyncIterator[Event]:
        """Yield every event after `number`, then new ones as they come, until cancelled."""
        while True:
            news = self._news
            for event in self.since(number):
                number = event.number
                yield event
            if number >= self._count:
                await news.wait()
