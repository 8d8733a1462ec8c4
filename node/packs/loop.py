"""Frames within this process, so that what it does itself can take part in the exchange as a device does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import trio

from shoal.transfer.pace import UNLIMITED
from shoal.transfer.stream import FRAME_TARGET, WINDOW, Parts, StreamClosed


class Loop:
    """One end of frames within this process; the other is `other`."""

    lanes = 1
    frame_target = FRAME_TARGET
    window = WINDOW

    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        self.up = self.down = UNLIMITED
        self.arrived = 0
        self.examine: Callable[[bytes | memoryview], object] | None = None
        self.examined: object = None
        self.other: Loop
        self._send, self._frames = trio.open_memory_channel[bytes](2)

    @classmethod
    def pair(cls, here: bytes, there: bytes) -> tuple[Loop, Loop]:
        """Return two ends."""
        one, other = cls(there), cls(here)
        one.other, other.other = other, one
        return one, other

    def running(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def send(self, frame: bytes | Parts, lane: int = 0, room: memoryview | None = None) -> None:
        try:
            await self.other._send.send(frame if isinstance(frame, bytes) else b"".join(frame))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise StreamClosed("the other end is closed") from None

    async def receive(self) -> bytes | None:
        try:
            frame = await self._frames.receive()
        except trio.EndOfChannel:
            return None
        except trio.ClosedResourceError:
            raise StreamClosed("closed") from None
        self.arrived += len(frame)
        return frame

    async def aclose(self) -> None:
        self.other._send.close()

    async def reset(self) -> None:
        self.other._send.close()
        self._frames.close()
