"""A bulk channel at work: the frames port over the connections (lanes) that both sides have proven themselves on.

Large frames are sealed and sent, or received and opened, in one call in a thread, which waits for the network there:
one system call for a frame instead of twenty, each of which would wake the trio thread. Small ones stay in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import trio

from shoal.transfer.buffers import shared
from shoal.transfer.bulk import IN_PLACE, BadBulk, Box, LaneKeys, Sealer, Unsealer
from shoal.transfer.pace import UNLIMITED, Way
from shoal.transfer.stream import ByteStream, Parts, StreamClosed

FRAME_TARGET = 4 * 1024 * 1024
WINDOW = 16 * 1024 * 1024  # on a quick way: three frames in the giver's hands, or on their way, and one here
SLICE = 256 * 1024  # bytes of a frame after which it is noted that they came
CLOSING = 5.0  # seconds for what was sent last

T = TypeVar("T")


class Connection(Protocol):
    """A TCP connection. The calls that wait belong in a thread; `shut` ends them."""

    async def readable(self) -> None:
        """Wait until there is something to receive. Raises StreamClosed."""
        ...

    def receive_now(self, view: memoryview) -> int | None:
        """Put what is there into the view; return how many bytes, 0 at the end, None when nothing is there now. Raises
        StreamClosed."""
        ...

    def receive_much(self, view: memoryview) -> int:
        """Fill the view, or what of it comes in a long time; return how many bytes came, 0 at the end. Raises
        StreamClosed, also for a long silence."""
        ...

    def send_now(self, view: memoryview) -> int:
        """Send what there is room for; return how many bytes. Raises StreamClosed."""
        ...

    def send_all(self, view: memoryview) -> None:
        """Send all. Raises StreamClosed, also when nothing is taken for long."""
        ...

    def end(self) -> None:
        """Say that nothing more comes."""
        ...

    def shut(self) -> None:
        """Break it off both ways at once; never raises."""
        ...

    def close(self) -> None:
        """Give it back. Nothing may be using it; never raises."""
        ...


class _Lane:
    def __init__(self, connection: Connection, keys: LaneKeys, max_frame: int) -> None:
        self.connection = connection
        self.keys = keys
        self.arrived = 0  # bytes
        self.sealer = Sealer(keys.sending)
        self.unsealer = Unsealer(keys.receiving, max_frame, shared.take)
        self._is_shut = False

    def send_large(self, parts: Parts, number: int, room: memoryview | None, way: Way) -> None:
        """Seal and send a frame; in a thread."""
        self.send_all(self.sealer.seal(parts, number, shared.take, room), way)

    def send_all(self, wire: memoryview, way: Way) -> None:
        """Send what is sealed; in a thread."""
        while wire:
            piece = way.piece or len(wire)
            way.pause(len(wire[:piece]), lambda: self._is_shut)
            self.connection.send_all(wire[:piece])
            wire = wire[piece:]

    def receive_large(
        self, examine: Callable[[bytes | memoryview], object] | None, way: Way
    ) -> tuple[memoryview | None, object]:
        """Receive, open and examine the rest of a box; in a thread. Return the frame, and what came of that."""
        box: Box | None = None
        while box is None:
            size = self.connection.receive_much(self.unsealer.space()[: way.piece or SLICE])
            if size == 0:
                raise StreamClosed("the connection was cut")
            self.arrived += size
            way.pause(size, lambda: self._is_shut)
            box = self.unsealer.fill(size)
        frame = self.unsealer.open(box)
        return frame, examine(frame) if examine is not None and frame is not None else None

    def shut(self) -> None:
        """Have whatever uses the connection end."""
        self._is_shut = True
        self.connection.shut()


class Lanes:
    """Frames over lanes. Whatever breaks one of them breaks all."""

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
        self.lanes = len(lanes)
        self.examine: Callable[[bytes | memoryview], object] | None = None
        self.examined: object = None
        self._control = control
        self._lanes = [_Lane(connection, keys, max_frame) for connection, keys in lanes]
        self._came, self._frames = trio.open_memory_channel[tuple[memoryview | None, object]](1)
        self._ended = 0
        self.up = self.down = UNLIMITED
        self._threads = trio.CapacityLimiter(2 * len(lanes))  # they may wait for long: not at the cost of others

    @property
    def frame_target(self) -> int:
        return self.up.frame(FRAME_TARGET)

    @property
    def arrived(self) -> int:
        return sum(lane.arrived for lane in self._lanes)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block runs; it is cancelled, and StreamClosed raised, in a group, when a lane breaks."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._shut_when_cancelled, name="bulk guard")
                for lane in self._lanes:
                    nursery.start_soon(self._read, lane, name="bulk read")
                if self._control is not None:
                    nursery.start_soon(self._watch, self._control, name="bulk control")
                yield
                nursery.cancel_scope.cancel()
        finally:
            for lane in self._lanes:
                lane.connection.close()
                lane.keys.wipe()

    async def send(self, frame: bytes | Parts, lane: int = 0, room: memoryview | None = None) -> None:
        parts = (frame,) if isinstance(frame, bytes) else frame
        to = self._lanes[lane]
        number = to.sealer.draw_number()
        if sum(map(len, parts)) > IN_PLACE:
            await self._in_thread(to.send_large, parts, number, room, self.up)
            return
        wire = to.sealer.seal(parts, number, _small)
        await self.up.wait(len(wire))
        sent = to.connection.send_now(wire)
        if sent < len(wire):
            await self._in_thread(to.connection.send_all, wire[sent:])
        else:
            await trio.lowlevel.checkpoint()

    async def receive(self) -> memoryview | None:
        while self._ended < self.lanes:
            frame, self.examined = await self._frames.receive()
            if frame is not None:
                return frame
            self._ended += 1
        return None

    async def aclose(self) -> None:
        with trio.move_on_after(CLOSING), contextlib.suppress(StreamClosed):
            for number, lane in enumerate(self._lanes):
                await self.send(b"", number)
                lane.connection.end()

    async def reset(self) -> None:
        for lane in self._lanes:
            lane.shut()
        if self._control is not None:
            await self._control.reset()

    async def _read(self, lane: _Lane) -> None:
        try:
            while True:
                came = await self._read_frame(lane)
                await self._came.send(came)
                if came[0] is None:
                    break
            await lane.connection.readable()
            if lane.connection.receive_now(memoryview(bytearray(1))):
                raise StreamClosed("bytes after the end")
        except BadBulk as error:
            raise StreamClosed(str(error)) from error

    async def _read_frame(self, lane: _Lane) -> tuple[memoryview | None, object]:
        box: Box | None = None
        while box is None:
            space = lane.unsealer.space()
            if len(space) > IN_PLACE:
                return await self._in_thread(lane.receive_large, self.examine, self.down)
            size_or_none = lane.connection.receive_now(space)
            if size_or_none is None:
                await lane.connection.readable()
            elif size_or_none == 0:
                raise StreamClosed("the connection was cut")
            else:
                lane.arrived += size_or_none
                await self.down.wait(size_or_none)
                box = lane.unsealer.fill(size_or_none)
        return lane.unsealer.open(box), None

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await trio.to_thread.run_sync(work, *arguments, limiter=self._threads)
        except StreamClosed:
            await trio.lowlevel.checkpoint_if_cancelled()  # then it was we who broke it off
            raise

    async def _shut_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            for lane in self._lanes:
                lane.shut()

    async def _watch(self, control: ByteStream) -> None:
        await control.receive_some(1)
        raise StreamClosed("the libp2p stream beside ended")


def _small(size: int) -> memoryview:
    return memoryview(bytearray(size))
