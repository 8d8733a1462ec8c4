"""A libp2p stream that carries a circuit: at a relay one of two that are joined, at an end the raw connection that is
upgraded.

Three faults of py-libp2p's Yamux would show here and are worked around. A writer whose window stays shut for 5 s is
killed, which one slow receiver would bring on each sender: here it waits. The window is advice only: here what is
buffered over it is dropped, and the stream ends. A write that is cancelled half way leaves the whole connection
unreadable for the other side: here waiting can be cancelled, writing cannot.
"""

from __future__ import annotations

import contextlib
from typing import Any

import trio
from libp2p.abc import IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.io.exceptions import ConnectionClosedError
from multiaddr import Multiaddr

from shoal.transfer.stream import ByteStream, StreamClosed

FIRST_WINDOW = 4 * 1024 * 1024  # bytes; `tuning` grants it as the first bytes of a stream are read
WINDOW = 1024 * 1024  # bytes that a relay lets be under way to it after that
CREDIT = 64 * 1024  # bytes read after which credit is given: often, so that a slow circuit moves steadily
PIECE = 64 * 1024  # bytes written at once
READ_AHEAD = 256 * 1024
STALLED = 60.0  # seconds for which a window may stay shut
LOOK = 0.01  # seconds between two looks at a shut window, as Yamux itself does it


class CircuitStream:
    """One end of a circuit, over a stream on which nothing is read or written by others any more."""

    def __init__(self, stream: ByteStream, window: int = FIRST_WINDOW) -> None:
        """`window`: bytes that the other side may send ahead, once it has sent what it was first granted."""
        inner: Any = stream
        self._stream: Any = inner._stream
        self._muxed: Any = self._stream.muxed_stream
        self._owed = min(0, window - FIRST_WINDOW)  # bytes read for which no credit was given
        self._muxed._auto_tune_and_send_window_update = self._give_credit
        buffers = self._muxed.conn.stream_buffers
        held = buffers.get(self._muxed.stream_id)
        if held is not None:
            buffers[self._muxed.stream_id] = _Bounded(held, FIRST_WINDOW + PIECE, self._muxed)

    async def receive_some(self, most: int = READ_AHEAD) -> bytes:
        """Return at least one byte, or b"" at the end, however it came."""
        try:
            data: bytes = await self._stream.read(most)
        except Exception:
            return b""
        return data

    async def room(self) -> int:
        """Wait until something can be written; return how many bytes. Raises StreamClosed."""
        with trio.move_on_after(STALLED):
            while not self._muxed.send_closed and not self._muxed.closed:
                if self._muxed.send_window > 0:
                    return min(int(self._muxed.send_window), PIECE)
                await trio.sleep(LOOK)
            raise StreamClosed("the circuit ended")
        raise StreamClosed("the other side takes nothing")

    async def push(self, data: bytes) -> None:
        """Write what there is room for. Not cancelled, but for seconds only: a socket that takes nothing is dropped
        (`tcp.prepare`). Raises StreamClosed."""
        try:
            with trio.CancelScope(shield=True):
                await self._stream.write(data)
        except Exception as error:
            raise StreamClosed(str(error)) from error

    async def send_all(self, data: bytes) -> None:
        """Write all of it. Raises StreamClosed."""
        view = memoryview(data)
        while len(view):
            room = await self.room()
            await self.push(bytes(view[:room]))
            view = view[room:]

    async def aclose(self) -> None:
        """Send no more."""
        with contextlib.suppress(Exception):
            await self._stream.close()

    async def reset(self) -> None:
        """End both ways at once."""
        with contextlib.suppress(Exception):
            await self._stream.reset()

    async def _give_credit(self, *, bytes_read: int = 0) -> None:
        self._owed += bytes_read
        if self._owed >= CREDIT:
            credit, self._owed = self._owed, 0
            self._muxed.recv_window += credit
            await self._muxed.send_window_update(credit, skip_lock=True)


class _Bounded(bytearray):
    """What came for a stream and was not read: what goes beyond the bound is dropped, and ends the stream."""

    def __init__(self, held: bytes | bytearray, most: int, stream: Any) -> None:
        super().__init__(held)
        self._most = most
        self._stream = stream

    def extend(self, data: Any) -> None:
        if len(self) + len(data) > self._most:
            self._stream.recv_closed = True
        else:
            super().extend(data)


class CircuitConnection(IRawConnection):
    """A circuit as the raw connection that py-libp2p's upgrader takes."""

    def __init__(self, stream: CircuitStream, *, initiator: bool, address: str) -> None:
        """`address`: of the circuit, `.../p2p/RELAY/p2p-circuit`."""
        self.is_initiator = initiator
        self._stream = stream
        self._address = address
        self._ahead = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly `n` bytes: py-libp2p gives up on what comes in many parts."""
        while not self._ahead or (n is not None and len(self._ahead) < n):
            more = await self._stream.receive_some()
            if not more:
                raise ConnectionClosedError("the circuit ended")
            self._ahead += more
        cut = len(self._ahead) if n is None else n
        data = bytes(memoryview(self._ahead)[:cut])
        del self._ahead[:cut]
        return data

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except StreamClosed as error:
            raise ConnectionClosedError(str(error)) from error

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return None: the peer's is not known, and the relay's would be taken for it."""
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        return [Multiaddr(self._address)]

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.RELAYED


def is_relayed(stream: ByteStream) -> bool:
    """Whether a stream goes over a circuit itself."""
    inner: Any = stream
    return bool(inner._stream.muxed_conn.get_connection_type() == ConnectionType.RELAYED)
