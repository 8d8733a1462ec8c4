"""A libp2p stream as the `ByteStream` that the rest of Shoal speaks over."""

from __future__ import annotations

import contextlib
from typing import Any

from shoal.transfer.stream import StreamClosed

READ_MOST = 65_524  # what one read of py-libp2p's yamux over Noise returns at the most
WRITE_MOST = 1 << 20


class PeerStream:
    """Wraps a py-libp2p stream, whose end, reset and lost connection all look alike: only frames tell them apart."""

    def __init__(self, stream: Any, peer: bytes) -> None:
        self._stream = stream
        self._peer = peer

    @property
    def peer(self) -> bytes:
        return self._peer

    async def receive_some(self, max_bytes: int) -> bytes:
        try:
            data: bytes = await self._stream.read(min(max_bytes, READ_MOST))
        except Exception as error:
            if type(error).__name__ == "StreamEOF":
                return b""
            raise StreamClosed(str(error)) from error
        return data

    async def send_all(self, data: bytes) -> None:
        try:
            if len(data) <= WRITE_MOST:
                await self._stream.write(data)
            else:
                view = memoryview(data)
                for at in range(0, len(data), WRITE_MOST):
                    await self._stream.write(bytes(view[at : at + WRITE_MOST]))
        except Exception as error:
            raise StreamClosed(str(error)) from error

    async def aclose(self) -> None:
        with contextlib.suppress(Exception):
            await self._stream.close()

    async def reset(self) -> None:
        with contextlib.suppress(Exception):
            await self._stream.reset()
