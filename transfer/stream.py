"""The streams that protocols run over: an ordered byte stream port, frames as a port, and length-prefixed frames on top
of a byte stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from shoal.transfer.pace import UNLIMITED, Way

FRAME_TARGET = 1024 * 1024  # bytes of chunks in a frame of a stream
WINDOW = 4 * 1024 * 1024  # bytes


class StreamClosed(Exception):
    """The other side, or the network, ended the stream; nothing more can be read or written."""


class FrameTooLarge(Exception):
    """The peer announced a frame over the limit: it misbehaves, and the stream must be reset."""


class ByteStream(Protocol):
    """An authenticated, ordered, bidirectional byte stream to one peer."""

    @property
    def peer(self) -> bytes:
        """The peer's 32-byte Ed25519 public key, proven by the connection."""
        ...

    async def receive_some(self, max_bytes: int) -> bytes:
        """Return at least one byte, or b"" at a clean end. Raises StreamClosed when broken."""
        ...

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`. Raises StreamClosed when broken."""
        ...

    async def aclose(self) -> None:
        """Close cleanly: the peer reads to the end of what was sent."""
        ...

    async def reset(self) -> None:
        """Abort at once; never raises."""
        ...


Parts = Sequence[bytes | memoryview]
"""A frame in pieces, to be put together once."""


class Frames(Protocol):
    """Frames to and from one peer, over a byte stream or a bulk channel. One task sends on a lane, one receives."""

    @property
    def peer(self) -> bytes:
        """The peer's 32-byte Ed25519 public key, proven."""
        ...

    @property
    def lanes(self) -> int:
        """How many ways there are beside each other; frames on one keep their order."""
        ...

    @property
    def frame_target(self) -> int:
        """Bytes of chunks that are best put in one frame now."""
        ...

    up: Way
    """How fast it may send."""
    down: Way
    """How fast it may receive."""

    @property
    def window(self) -> int:
        """Bytes that should be under way for all of its parts to work, if the way is quick."""
        ...

    @property
    def arrived(self) -> int:
        """Bytes that have come, of frames that are not whole, too: who sends slowly is not silent."""
        ...

    examine: Callable[[bytes | memoryview], object] | None
    """What is done with large frames in the thread where they are made ready, if there is one."""
    examined: object
    """What `examine` returned for the frame that was received last, None where it was not called."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Return what is to be open around all use: what works beside runs in it."""
        ...

    async def send(self, frame: bytes | Parts, lane: int = 0, room: memoryview | None = None) -> None:
        """Send one frame. `room`: a buffer that its chunks lie in as they are to be sent (`bulk.LaidOut`); its content
        is gone then. Raises StreamClosed, or ValueError when it is over the limit (our own fault)."""
        ...

    async def receive(self) -> bytes | memoryview | None:
        """Return the next frame, None at a clean end. Raises StreamClosed, FrameTooLarge."""
        ...

    async def aclose(self) -> None:
        """Close cleanly: the peer reads to the end of what was sent."""
        ...

    async def reset(self) -> None:
        """Abort at once; never raises."""
        ...


class FrameStream:
    """Frames over a `ByteStream`: 4 bytes big-endian length, then that many bytes, at most `max_frame`.

    One task may send while another receives, not two of a kind. A `receive` that is cancelled loses nothing; a `send`
    that is cancelled leaves the stream fit only to be reset.
    """

    def __init__(self, stream: ByteStream, max_frame: int = 8 * 1024 * 1024) -> None:
        self.stream = stream
        self.max_frame = max_frame
        self.lanes = 1
        self.up = self.down = UNLIMITED
        self.window = WINDOW
        self.arrived = 0
        self.examine: Callable[[bytes | memoryview], object] | None = None
        self.examined: object = None
        # What was read and not given out, as it came: a large frame is put together once, by one copy.
        self._parts: list[memoryview] = []
        self._held = 0
        self._size: int | None = None  # of the frame whose header was taken

    @property
    def peer(self) -> bytes:
        return self.stream.peer

    @property
    def frame_target(self) -> int:
        return self.up.frame(FRAME_TARGET)

    def running(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def send(self, frame: bytes | Parts, lane: int = 0, room: memoryview | None = None) -> None:
        """Send one frame. Raises StreamClosed, or ValueError when it is over the limit (our own fault)."""
        parts = (frame,) if isinstance(frame, bytes) else frame
        size = sum(map(len, parts))
        if size > self.max_frame:
            raise ValueError(f"frame of {size} bytes is over the limit of {self.max_frame}")
        wire = b"".join((size.to_bytes(4), *parts))
        piece = self.up.piece
        if piece is None:
            await self.stream.send_all(wire)
            return
        for at in range(0, len(wire), piece):
            await self.up.wait(len(wire[at : at + piece]))
            await self.stream.send_all(wire[at : at + piece])

    async def aclose(self) -> None:
        await self.stream.aclose()

    async def reset(self) -> None:
        await self.stream.reset()

    async def receive(self) -> bytes | None:
        """Return the next frame, or None at a clean end. Raises StreamClosed, FrameTooLarge."""
        if self._size is None:
            if not await self._fill(4, clean_end=True):
                return None
            self._size = int.from_bytes(self._take(4))
        if self._size > self.max_frame:
            raise FrameTooLarge(f"frame of {self._size} bytes announced, the limit is {self.max_frame}")
        await self._fill(self._size, clean_end=False)
        frame = self._take(self._size)
        self._size = None
        return frame

    async def _fill(self, size: int, *, clean_end: bool) -> bool:
        while self._held < size:
            data = await self.stream.receive_some(self.down.piece or max(65536, size - self._held))
            if not data:
                if clean_end and not self._held:
                    return False
                raise StreamClosed("the stream ended inside a frame")
            self._parts.append(memoryview(data))
            self._held += len(data)
            self.arrived += len(data)
            await self.down.wait(len(data))
        return True

    def _take(self, size: int) -> bytes:
        self._held -= size
        if self._held == 0:
            taken, self._parts = b"".join(self._parts), []
        elif len(self._parts[0]) >= size:
            taken = bytes(self._parts[0][:size])
            self._parts[0] = self._parts[0][size:]
        else:
            # The last part is the only one that reaches beyond what is taken: reading stops as soon as it suffices.
            last = self._parts.pop()
            cut = len(last) - self._held
            taken = b"".join((*self._parts, last[:cut]))
            self._parts = [last[cut:]]
        return taken
