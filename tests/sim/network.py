"""Streams between simulated devices: in order, late by a drawn delay, and cut when the network is.

What is under way when a stream is cut is lost. What is sent while its way is lost waits, as TCP's does, until the way
is found again or somebody gives up. News comes twice and out of order all the same: by other devices, and after each
cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from shoal.transfer.stream import StreamClosed

LOOK_AGAIN = 0.5  # virtual seconds


class SimStream:
    """One end of a `ByteStream`. `is_lost`: whether nothing comes this way now."""

    def __init__(self, peer: bytes, delay: Callable[[], float], is_lost: Callable[[], bool]) -> None:
        self._peer = peer
        self._delay = delay
        self._is_lost = is_lost
        self._inbox: deque[tuple[float, bytes]] = deque()
        self._news = trio.Event()
        self._last = 0.0
        self._ended = False  # by the other side
        self._broken = False
        self.other: SimStream

    @property
    def peer(self) -> bytes:
        return self._peer

    async def receive_some(self, max_bytes: int) -> bytes:
        while True:
            self._check()
            if self._is_lost():
                await trio.sleep(LOOK_AGAIN)
                continue
            if self._inbox and self._inbox[0][0] <= trio.current_time():
                when, data = self._inbox.popleft()
                if len(data) > max_bytes:
                    self._inbox.appendleft((when, data[max_bytes:]))
                return data[:max_bytes]
            if not self._inbox and self._ended:
                return b""
            self._news = trio.Event()
            with trio.move_on_at(self._inbox[0][0] if self._inbox else float("inf")):
                await self._news.wait()

    async def send_all(self, data: bytes) -> None:
        self._check()
        other = self.other
        other._last = max(other._last, trio.current_time() + self._delay())
        other._inbox.append((other._last, bytes(data)))
        other._news.set()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.other._ended = True
        self.other._news.set()

    async def reset(self) -> None:
        self.cut()

    def cut(self) -> None:
        """Break the stream for both sides."""
        for end in (self, self.other):
            end._broken = True
            end._news.set()

    def _check(self) -> None:
        if self._broken:
            raise StreamClosed("cut")


def stream_pair(
    one: bytes, other: bytes, delay: Callable[[], float], is_lost: Callable[[bytes], bool]
) -> tuple[SimStream, SimStream]:
    """Return the end that `one` has, and the end that `other` has. `is_lost`: whether nothing comes to it now."""
    ends = SimStream(other, delay, lambda: is_lost(one)), SimStream(one, delay, lambda: is_lost(other))
    ends[0].other, ends[1].other = ends[1], ends[0]
    return ends
