"""How the parts of a folder's engine wake its loop, and say what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import trio

Status = Literal["starting", "scanning", "syncing", "idle", "held", "stopped"]


class Pulse:
    """`on_progress` is called as the status changes, or something else worth telling; `on_event` with what happened,
    for people: a kind and a text."""

    def __init__(self) -> None:
        self.status: Status = "starting"
        self.reason = ""
        self.on_progress: Callable[[], None] = lambda: None
        self.on_event: Callable[[str, str], None] = lambda kind, text: None
        self._awake = trio.Event()

    def wake(self) -> None:
        """Have the loop look for work."""
        self._awake.set()

    def begin_round(self) -> None:
        """From here on, whoever wakes the loop means the next round."""
        self._awake = trio.Event()

    async def wait(self) -> None:
        """Return when the loop is woken."""
        await self._awake.wait()

    def set(self, status: Status, reason: str = "") -> None:
        """Say what the folder is doing."""
        if (status, reason) != (self.status, self.reason):
            self.status, self.reason = status, reason
            self.on_progress()
