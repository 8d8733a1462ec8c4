"""A bulk channel at work: the frames port over the connections (lanes) that both sides have proven themselves on.

Of each lane, one task reads, one opens, one writes, and whoever sends seals; so the network, both ciphers and the disk
work side by side, with a few frames between them. Boxes of some size are sealed and opened in threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from shoal.transfer.bulk import IN_PLACE, BadBulk, Box, LaneKeys, Sealer, Unsealer
from shoal.transfer.stream import ByteStream, Parts, StreamClosed

FRAME_TARGET = 4 * 1024 * 1024
WINDOW = 16 * 1024 * 1024  # three frames in the giver's hands, or on their way, and one here
STALL = 30.0  # seconds in which a peer that owes us room takes nothing
CLOSING = 5.0  # seconds for what was sent last


class Connection(Protocol):
    """A TCP connection."""

    async def receive_into(self, view: memoryview) -> int:
        """Put bytes there; return how many, 0 at the end. Raises StreamClosed."""
        ...

    async def send_some(self, view: memoryview) -> int:
        """Send what there is room for; return how many bytes. Raises StreamClosed."""
        ...

    def end(self) -> None:
        """Say that nothing more comes."""
        ...

    def close(self) -> None:
        """Close at once; never raises."""
        ...


class _Lane:
    def __init__(self, connection: Connection, keys: LaneKeys, max_frame: int) -> None:
        self.connection = connection
        self.keys = keys
        self.sealer = Sealer(keys.sending)
        self.unsealer = Unsealer(keys.receiving, max_frame)
        self.wires, self.to_write = trio.open_memory_channel[bytearray](1)
        self.boxes, self.to_open = trio.open_memory_channel[Box](1)
        self.written = trio.Event()


class Lanes:
    """Frames over lanes. Whatever breaks one of them breaks all."""

    frame_target = FRAME_TARGET
    window = WINDOW

    def __init__(
        self,
        peer: bytes,
        lanes: Sequence[tuple[Connection, LaneKeys]],
        max_frame: int,
        control: ByteStream | None = None,
    ) -> None:
        """`max_frame`: bytes of the largest frame that the peer may send. `control`: a stream whose end ends the lanes,
        and that ends with them."""
        self.peer = peer
        self._control = control
        self.arrived = 0
        self.lanes = len(lanes)
        self._lanes = [_Lane(connection, keys, max_frame) for connection, keys in lanes]
        self._came, self._frames = trio.open_memory_channel[memoryview | None](1)
        self._ended = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block runs; it is cancelled, and StreamClosed raised, in a group, when a lane breaks."""
        try:
            async with trio.open_nursery() as nursery:
                for lane in self._lanes:
                    nursery.start_soon(self._read, lane, name="bulk read")
                    nursery.start_soon(self._open, lane, name="bulk open")
                    nursery.start_soon(self._write, lane, name="bulk write")
                if self._control is not None:
                    nursery.start_soon(self._watch, self._control, name="bulk control")
                yield
                nursery.cancel_scope.cancel()
        finally:
            self.close_now()

    async def send(self, frame: bytes | Parts, lane: int = 0) -> None:
        parts = (frame,) if isinstance(frame, bytes) else frame
        to = self._lanes[lane]
        number = to.sealer.draw_number()
        if sum(map(len, parts)) > IN_PLACE:
            wire = await trio.to_thread.run_sync(to.sealer.seal, parts, number)
        else:
            wire = to.sealer.seal(parts, number)
        try:
            await to.wires.send(wire)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise StreamClosed("closed") from error

    async def receive(self) -> memoryview | None:
        while self._ended < self.lanes:
            try:
                frame = await self._frames.receive()
            except (trio.ClosedResourceError, trio.EndOfChannel) as error:
                raise StreamClosed("closed") from error
            if frame is not None:
                return frame
            self._ended += 1
        return None

    async def aclose(self) -> None:
        with trio.move_on_after(CLOSING), contextlib.suppress(StreamClosed):
            for number, lane in enumerate(self._lanes):
                await self.send(b"", number)
                lane.wires.close()
            for lane in self._lanes:
                await lane.written.wait()

    async def reset(self) -> None:
        for lane in self._lanes:
            lane.connection.close()
        if self._control is not None:
            await self._control.reset()

    def close_now(self) -> None:
        """Close the connections and forget the keys. Nothing may be running."""
        for lane in self._lanes:
            lane.connection.close()
            lane.keys.wipe()

    async def _read(self, lane: _Lane) -> None:
        with lane.boxes:
            while size := await lane.connection.receive_into(lane.unsealer.space()):
                self.arrived += size
                try:
                    box = lane.unsealer.fill(size)
                except BadBulk as error:
                    raise StreamClosed(str(error)) from error
                if box is not None:
                    await lane.boxes.send(box)

    async def _open(self, lane: _Lane) -> None:
        over = False
        async for box in lane.to_open:
            try:
                if len(box.sealed) > IN_PLACE:
                    frame = await trio.to_thread.run_sync(lane.unsealer.open, box)
                else:
                    frame = lane.unsealer.open(box)
            except BadBulk as error:
                raise StreamClosed(str(error)) from error
            if over:
                raise StreamClosed("a frame after the end")
            over = frame is None
            await self._came.send(frame)
        if not over:
            raise StreamClosed("the connection was cut")

    async def _write(self, lane: _Lane) -> None:
        async for wire in lane.to_write:
            with memoryview(wire) as view:
                at = 0
                while at < len(view):
                    with trio.move_on_after(STALL) as patience:
                        at += await lane.connection.send_some(view[at:])
                    if patience.cancelled_caught:
                        raise StreamClosed("the peer takes nothing")
        lane.connection.end()
        lane.written.set()

    async def _watch(self, control: ByteStream) -> None:
        await control.receive_some(1)
        raise StreamClosed("the libp2p stream beside ended")
