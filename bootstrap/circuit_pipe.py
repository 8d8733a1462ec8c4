"""What a relay does for a circuit once both sides agreed: carries bytes both ways, within bounds, reading none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio

from shoal.bootstrap.circuit_stream import READ_AHEAD, CircuitStream
from shoal.transfer.pace import Pace
from shoal.transfer.stream import StreamClosed

LINGER = 10.0  # seconds that one way may go on after the other has ended
PIECE_SECONDS = 0.1  # of a limited rate that are carried at once
PIECE_LEAST = 1024  # bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PipeLimits:
    """Bounds of one circuit, None for none. `seconds`: how long it may last, and `idle` how long nothing may come;
    `size`: bytes each way."""

    seconds: float | None = None
    size: int | None = None
    idle: float | None = None


class CircuitPipe:
    """Joins two streams; `run` returns when the circuit is over, and both are ended then."""

    def __init__(
        self,
        one: CircuitStream,
        other: CircuitStream,
        limits: PipeLimits,
        paces: list[Pace],
        carried: Callable[[int], None],
    ) -> None:
        """`paces`: how fast bytes may go, both ways together; `carried` is told of each piece."""
        self._ends = (one, other)
        self._limits = limits
        self._paces = [pace for pace in paces if pace.rate is not None]
        self._carried = carried
        self._waiting: set[trio.CancelScope] = set()
        self._is_over = False
        self._moved_at = 0.0
        self._linger_until = float("inf")

    async def run(self) -> None:
        """Carry until both ways ended, or a limit is reached."""
        one, other = self._ends
        self._moved_at = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                async with trio.open_nursery() as ways:
                    ways.start_soon(self._carry, one, other)
                    ways.start_soon(self._carry, other, one)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await one.reset()
                await other.reset()

    async def _carry(self, source: CircuitStream, sink: CircuitStream) -> None:
        """Carry one way. Only waiting is broken off when the circuit ends, never a write (see `circuit_stream`)."""
        rate = min((pace.rate for pace in self._paces if pace.rate), default=None)
        most = READ_AHEAD if rate is None else int(min(READ_AHEAD, max(PIECE_LEAST, rate * PIECE_SECONDS)))
        left = self._limits.size if self._limits.size is not None else float("inf")
        try:
            while data := await self._wait(partial(source.receive_some, most)):
                left -= len(data)
                if left < 0:
                    self._end()
                    return
                await self._wait(partial(self._pace, len(data)))
                view = memoryview(data)
                while len(view):
                    room = await self._wait(sink.room)
                    if room is None:
                        return
                    await sink.push(bytes(view[:room]))
                    view = view[room:]
                self._moved_at = trio.current_time()
                self._carried(len(data))
        except StreamClosed:
            self._end()
            return
        if not self._is_over:
            self._linger_until = min(self._linger_until, trio.current_time() + LINGER)
            await sink.aclose()

    async def _pace(self, size: int) -> None:
        now = trio.current_time()
        await trio.sleep(max((pace.reserve(size, now) for pace in self._paces), default=0.0))

    async def _watch(self) -> None:
        """End what lasts too long, or stands still."""
        began = trio.current_time()
        lasts = began + (self._limits.seconds if self._limits.seconds is not None else float("inf"))
        idle = self._limits.idle if self._limits.idle is not None else float("inf")
        while True:
            left = min(lasts, self._moved_at + idle, self._linger_until) - trio.current_time()
            if left <= 0:
                self._end()
                return
            await trio.sleep(min(1.0, left))

    async def _wait(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """Return what `wait` returns, or None when the circuit ends first."""
        if self._is_over:
            return None
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                return await wait()
            finally:
                self._waiting.discard(scope)
        return None

    def _end(self) -> None:
        self._is_over = True
        for scope in self._waiting:
            scope.cancel()
