"""The streams that protocols run over: an ordered byte stream port, and length-prefixed frames on top of it."""

from __future__ import annotations

from typing import Protocol


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


class FrameStream:
    """Frames over a `ByteStream`: 4 bytes big-endian length, then that many bytes, at most `max_frame`."""

    def __init__(self, stream: ByteStream, max_frame: int = 8 * 1024 * 1024) -> None:
        self.stream = stream
        self.max_frame = max_frame
        self._buffer = bytearray()

    @property
    def peer(self) -> bytes:
        return self.stream.peer

    async def send(self, frame: bytes) -> None:
        """Send one frame. Raises StreamClosed, or ValueError when it is over the limit (our own fault)."""
        if len(frame) > self.max_frame:
            raise ValueError(f"frame of {len(frame)} bytes is over the limit of {self.max_frame}")
        await self.stream.send_all(len(frame).to_bytes(4) + frame)

    async def receive(self) -> bytes | None:
        """Return the next frame, or None at a clean end. Raises StreamClosed, FrameTooLarge."""
        if not await self._fill(4, clean_end=True):
            return None
        size = int.from_bytes(self._buffer[:4])
        if size > self.max_frame:
            raise FrameTooLarge(f"frame of {size} bytes announced, the limit is {self.max_frame}")
        await self._fill(4 + size, clean_end=False)
        frame = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        return frame

    async def _fill(self, size: int, *, clean_end: bool) -> bool:
        while len(self._buffer) < size:
            data = await self.stream.receive_some(max(65536, size - len(self._buffer)))
            if not data:
                if clean_end and not self._buffer:
                    return False
                raise StreamClosed("the stream ended inside a frame")
            self._buffer += data
        return True
