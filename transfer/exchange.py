"""One exchange stream to one holder, the taking side: asks what the scheduler says, takes what comes.

The holder's misdeeds end the exchange alone. A chunk of another length than it was asked with counts as missing there;
bytes that do not match their id are a lie. What has come and not been used yet counts against the window, so a slow
disk slows the asking, never the reading: what was asked for is always drained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from shoal.transfer.chunking import chunk_id
from shoal.transfer.messages import MAX_REQUESTS, BadMessage, Cancel, Chunks, Missing, Want, decode, encode
from shoal.transfer.scheduler import Request, Scheduler
from shoal.transfer.stream import Frames, FrameTooLarge, StreamClosed
from shoal.transfer.window import Window

LISTEN = 1.0  # seconds between two looks at whether bytes came
RECHECK = 0.5  # seconds after which somebody else may have become too slow
SILENCE = 30.0  # seconds without a byte while something is owed
IN_THREAD = 256 * 1024  # bytes from which on verifying is worth a thread

Landed = list[tuple[bytes, bytes | memoryview]]
_Arrived = tuple["Request", Landed, list[bytes] | None]
"""What came, and the ids that it has, if they are known."""


class LyingHolder(Exception):
    """The peer sent bytes that do not match the id they were asked under."""


class Taker(Protocol):
    """Whom the chunks are for."""

    @property
    def work(self) -> trio.Event:
        """Set, and replaced by a new one, whenever there may be something new to ask."""
        ...

    def key_for(self, folder: bytes, chunk: bytes) -> bytes | None:
        """Return the key that the chunk's id was made with; None when nobody wants it any more."""
        ...

    def on_landed(self, exchange: Exchange, folder: bytes, landed: Landed) -> None:
        """Verified chunks came; the taker calls `exchange.hold_back` for as long as they take up memory."""
        ...

    def on_change(self) -> None:
        """What can be had, or asked, changed."""
        ...


@dataclass(slots=True, eq=False)
class _Asked:
    request: Request
    at: float
    owed: set[int]
    key: bytes  # that the ids were made with
    cancelled: bool = False


class Exchange:
    """One stream to one holder; itself the holder that the scheduler knows, joined while `run` runs."""

    def __init__(
        self, peer: bytes, stream: Frames, scheduler: Scheduler, taker: Taker, idle_after: float = math.inf
    ) -> None:
        """`idle_after`: seconds without anything to ask after which it ends."""
        self.peer = peer
        self.is_bulk = False  # whether its stream is a bulk channel
        self.useful = False  # whether any verified chunk has come
        self.broken = False  # whether it ended otherwise than by itself
        self._stream = stream
        self._scheduler = scheduler
        self._taker = taker
        self._window = Window(stream.window)
        self._asked: dict[int, _Asked] = {}
        self._cancels: list[int] = []
        self._unused = 0
        self._unverified = 0  # frames
        self._arrived = 0
        self._heard = trio.current_time()
        self._idle_after = idle_after
        self._retiring = False
        self._scope = trio.CancelScope()
        self._begun = trio.Event()

    async def run(self) -> None:
        """Ask and take until the stream breaks, or it is retired (returns) or the peer lies (raises LyingHolder)."""
        lied = False
        # No bound but the window: what lies here was asked for, and has the length that it was asked with.
        send, receive = trio.open_memory_channel[_Arrived](float("inf"))
        self._stream.examine = self._digests
        try:
            with send, receive, self._scope:
                async with self._stream.running(), trio.open_nursery() as nursery:
                    nursery.start_soon(self._ask, name="exchange ask")
                    nursery.start_soon(self._listen, send, name="exchange listen")
                    nursery.start_soon(self._verify, receive, name="exchange verify")
                    nursery.start_soon(self._watch, name="exchange watch")
        except* (StreamClosed, FrameTooLarge, BadMessage):
            self.broken = True
        except* LyingHolder:
            lied = True
        if lied:
            raise LyingHolder("the holder sent a chunk that does not match its id")

    def retire(self) -> None:
        """Ask for nothing more, and end as soon as all that was asked for has come."""
        self._retiring = True
        self._taker.on_change()

    def hold_back(self, size: int) -> None:
        """`size` bytes of what came are (negative: are no longer) waiting to be used."""
        self._unused += size
        if size < 0:
            self._taker.on_change()

    def cancel_unwanted(self) -> None:
        """Tell the holder not to send what nobody wants any more."""
        for number, asked in self._asked.items():
            request = asked.request
            if asked.cancelled or any(self._scheduler.wanted(request.folder, request.ids[at]) for at in asked.owed):
                continue
            asked.cancelled = True
            self._cancels.append(number)

    async def _ask(self) -> None:
        number = 0
        while True:
            work = self._taker.work
            while self._cancels:
                await self._stream.send(encode(Cancel(self._cancels.pop())))
            now = trio.current_time()
            request = None
            if self._retiring:
                if not self._asked and not self._unverified:
                    self._scope.cancel()
            elif len(self._asked) < MAX_REQUESTS:
                request = self._scheduler.next_request(self, self._window.size - self._unused, now)
            if request is None:
                with trio.move_on_after(RECHECK if self._scheduler.is_waiting else math.inf):
                    await work.wait()
                continue
            if not self._asked:
                self._heard = now
                self._begun.set()
            number = (number + 1) % (1 << 32)
            key = self._taker.key_for(request.folder, request.ids[0]) or b""
            self._asked[number] = _Asked(request, now, set(range(len(request.ids))), key)
            await self._stream.send(encode(Want(number, request.folder, request.ids, request.urgent)))

    def _digests(self, frame: bytes | memoryview) -> list[bytes] | None:
        """Return the ids that a frame's chunks really have. Runs in a thread."""
        try:
            message = decode(frame)
        except BadMessage:
            return None
        asked = self._asked.get(message.request)
        if not isinstance(message, Chunks) or asked is None or not asked.key:
            return None
        return [chunk_id(asked.key, data) for _, data in message.chunks]

    async def _listen(self, arrived: trio.MemorySendChannel[_Arrived]) -> None:
        while (frame := await self._stream.receive()) is not None:
            self._heard = trio.current_time()
            digests = self._stream.examined
            message = decode(frame)
            if isinstance(message, Chunks):
                asked = self._settle(message.request, [place for place, _ in message.chunks])
                self._window.on_delivered(len(frame), asked.at, self._heard)
                if fitting := self._of_right_length(asked.request, message.chunks):
                    self._unverified += 1
                    known = digests if isinstance(digests, list) and len(fitting) == len(message.chunks) else None
                    arrived.send_nowait((asked.request, fitting, known))
            elif isinstance(message, Missing):
                asked = self._settle(message.request, message.places)
                if not asked.cancelled:
                    for place in message.places:
                        request = asked.request
                        length = request.lengths[place]
                        self._scheduler.on_missing(self, request.folder, request.ids[place], length)
                self._taker.on_change()
            else:
                raise BadMessage("a question where an answer was due")
        raise StreamClosed("the holder ended the stream")

    def _settle(self, number: int, places: Sequence[int]) -> _Asked:
        asked = self._asked.get(number)
        if asked is None:
            raise BadMessage("an answer to nothing that was asked")
        for place in places:
            if place not in asked.owed:
                raise BadMessage("an answer to nothing that was asked")
            asked.owed.remove(place)
        if not asked.owed:
            del self._asked[number]
        return asked

    def _of_right_length(self, request: Request, chunks: Sequence[tuple[int, bytes | memoryview]]) -> Landed:
        fitting = [(request.ids[place], data) for place, data in chunks if len(data) == request.lengths[place]]
        if len(fitting) < len(chunks):
            for place, data in chunks:
                if len(data) != request.lengths[place]:
                    self._scheduler.on_missing(self, request.folder, request.ids[place], request.lengths[place])
            self._taker.on_change()
        return fitting

    async def _verify(self, arrived: trio.MemoryReceiveChannel[_Arrived]) -> None:
        async for request, landed, known in arrived:
            keyed = [(key, each) for each in landed if (key := self._taker.key_for(request.folder, each[0]))]
            if known is not None:
                true = known == [chunk for chunk, _ in landed]
            elif sum(len(data) for _, (_, data) in keyed) >= IN_THREAD:
                true = await trio.to_thread.run_sync(_all_true, keyed)
            else:
                true = _all_true(keyed)
            if not true:
                raise LyingHolder
            if keyed:
                self.useful = True
                self._taker.on_landed(self, request.folder, [each for _, each in keyed])
            self._unverified -= 1
            self._taker.on_change()

    async def _watch(self) -> None:
        while True:
            if self._asked:
                await trio.sleep(LISTEN)
            else:
                self._begun = trio.Event()
                with trio.move_on_after(SILENCE / 4):
                    await self._begun.wait()
            if self._stream.arrived != self._arrived:
                self._arrived, self._heard = self._stream.arrived, trio.current_time()
                self._scheduler.heard(self, self._heard)
            if self._asked and trio.current_time() - self._heard > SILENCE:
                raise StreamClosed("the holder fell silent")
            if not self._asked and not self._unverified and trio.current_time() - self._heard > self._idle_after:
                self._scope.cancel()


def _all_true(keyed: list[tuple[bytes, tuple[bytes, bytes | memoryview]]]) -> bool:
    return all(chunk_id(key, data) == chunk for key, (chunk, data) in keyed)
