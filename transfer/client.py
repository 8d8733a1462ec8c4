"""The taking side of the exchange: fetches share the streams to all holders, and every chunk is verified.

A peer that stops answering, sends what it was not asked for, or a chunk that does not match its id, loses its stream;
what it owed goes to the others. A wrong chunk also costs it its place as a holder until it is attached anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from shoal.transfer.chunking import chunk_id
from shoal.transfer.messages import BadMessage, Chunks, Missing, Want, decode, encode
from shoal.transfer.scheduler import Scheduler
from shoal.transfer.stream import FrameStream, FrameTooLarge, StreamClosed
from shoal.transfer.window import Window

SILENCE = 30.0  # seconds without a frame while something is owed
REOPEN = 1.0  # seconds before a broken stream is opened again
IN_THREAD = 256 * 1024  # bytes from which on verifying is worth a thread

Landed = list[tuple[bytes, bytes | memoryview]]
Sink = Callable[[Landed], Awaitable[None]]
OpenStream = Callable[[], Awaitable[FrameStream]]


class LyingHolder(Exception):
    """The peer sent bytes that do not match the id they were asked under."""


@dataclass(slots=True)
class Stats:
    """Chunk bytes since the start: `received` verified ones, `sent` to others."""

    received: int = 0
    sent: int = 0


@dataclass(slots=True, eq=False)
class _Fetch:
    folder: bytes
    key: bytes
    wanted: dict[bytes, int]
    sink: Sink
    news: trio.Event = field(default_factory=trio.Event)
    failure: BaseException | None = None


@dataclass(slots=True)
class _Request:
    folder: bytes
    ids: list[bytes]
    asked_at: float
    owed: set[int]


class Fetcher:
    """Fetches chunks from the attached holders."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._scheduler = Scheduler()
        self._fetches: list[_Fetch] = []
        self._holders: dict[bytes, trio.CancelScope] = {}
        self._work = trio.Event()

    async def fetch(self, folder: bytes, key: bytes, wants: Sequence[tuple[bytes, int]], sink: Sink) -> list[bytes]:
        """Fetch chunks, (id, length) each, and hand them to `sink` as they come.

        Returns the ids that every holder lacks. Waits while nobody is attached. What `sink` raises is raised here.
        `wants` name each chunk once.
        """
        fetch = _Fetch(folder, key, dict(wants), sink)
        self._fetches.append(fetch)
        self._scheduler.want(folder, fetch.wanted.items())
        self._wake()
        try:
            while fetch.wanted:
                if fetch.failure is not None:
                    raise fetch.failure
                gone = self._scheduler.exhausted(folder, fetch.wanted)
                if len(gone) == len(fetch.wanted):
                    return gone
                await fetch.news.wait()
                fetch.news = trio.Event()
            return []
        finally:
            self._fetches.remove(fetch)
            others = {chunk for other in self._fetches if other.folder == folder for chunk in other.wanted}
            self._scheduler.forget(folder, [chunk for chunk in fetch.wanted if chunk not in others])

    async def hold(self, peer: bytes, open_stream: OpenStream) -> None:
        """Use `peer` as a holder until cancelled, or until it lies; streams that break are opened again."""
        while True:
            try:
                stream = await open_stream()
            except (StreamClosed, OSError):
                await trio.sleep(REOPEN)
                continue
            self._scheduler.holder_joined(peer)
            self._tell_all()
            try:
                await _Exchange(self, peer, stream).run()
            except LyingHolder:
                return
            finally:
                self._scheduler.holder_left(peer)
                self._tell_all()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await stream.stream.reset()
            await trio.sleep(REOPEN)

    def retry_missing(self, peer: bytes) -> None:
        """The peer has new content: ask it again for what it lacked."""
        self._scheduler.retry_missing(peer)
        self._wake()

    def _wake(self) -> None:
        self._work.set()
        self._work = trio.Event()

    def _tell_all(self) -> None:
        self._wake()
        for fetch in self._fetches:
            fetch.news.set()


class _Exchange:
    """One stream to one holder."""

    def __init__(self, fetcher: Fetcher, peer: bytes, stream: FrameStream) -> None:
        self._fetcher = fetcher
        self._scheduler = fetcher._scheduler
        self._peer = peer
        self._stream = stream
        self._window = Window()
        self._requests: dict[int, _Request] = {}
        self._heard = trio.current_time()

    async def run(self) -> None:
        """Ask and take until the stream breaks (returns) or the peer lies (raises LyingHolder)."""
        send, receive = trio.open_memory_channel[Chunks](64)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask)
                nursery.start_soon(self._listen, send)
                nursery.start_soon(self._deliver, receive)
                nursery.start_soon(self._watch)
        except BaseExceptionGroup as group:
            lies, others = group.split(LyingHolder)
            if lies is not None:
                raise LyingHolder from group
            _, others = group.split((StreamClosed, FrameTooLarge, BadMessage))
            if others is not None:
                raise

    async def _ask(self) -> None:
        number = 0
        while True:
            work = self._fetcher._work
            request = self._scheduler.next_request(self._peer, self._window.size)
            if request is None:
                await work.wait()
                continue
            folder, ids = request
            number = (number + 1) % (1 << 32)
            now = trio.current_time()
            if not self._requests:
                self._heard = now
            self._requests[number] = _Request(folder, ids, now, set(range(len(ids))))
            await self._stream.send(encode(Want(number, folder, tuple(ids))))

    async def _listen(self, chunks: trio.MemorySendChannel[Chunks]) -> None:
        while (frame := await self._stream.receive()) is not None:
            self._heard = trio.current_time()
            message = decode(frame)
            if isinstance(message, Chunks):
                await chunks.send(message)
            elif isinstance(message, Missing):
                request = self._requests.get(message.request)
                for place in message.places:
                    if request is None or place not in request.owed:
                        raise BadMessage("an answer to nothing that was asked")
                    self._settle(message.request, request, place)
                    self._scheduler.on_missing(self._peer, request.folder, request.ids[place])
                self._fetcher._tell_all()
            else:
                raise BadMessage("a want where an answer was due")
        raise StreamClosed("the holder ended the stream")

    async def _deliver(self, chunks: trio.MemoryReceiveChannel[Chunks]) -> None:
        async for message in chunks:
            request = self._requests.get(message.request)
            if request is None or any(place not in request.owed for place, _ in message.chunks):
                raise BadMessage("an answer to nothing that was asked")
            landed = [(request.ids[place], data) for place, data in message.chunks]
            await self._verify(request.folder, landed)
            size = sum(len(data) for _, data in landed)
            self._window.on_delivered(size, request.asked_at, trio.current_time())
            await self._hand_over(request.folder, landed)
            # Only now is there room for more: what waits for the disk counts against the window.
            for place, _ in message.chunks:
                self._settle(message.request, request, place)
                self._scheduler.on_chunk(self._peer, request.folder, request.ids[place])
            self._fetcher._wake()

    async def _verify(self, folder: bytes, landed: Landed) -> None:
        key = next((fetch.key for fetch in self._fetcher._fetches if fetch.folder == folder), None)
        if key is None:
            return  # nobody waits any more, and nothing is handed over
        if sum(len(data) for _, data in landed) >= IN_THREAD:
            true = await trio.to_thread.run_sync(_all_true, key, landed)
        else:
            true = _all_true(key, landed)
        if not true:
            raise LyingHolder

    async def _hand_over(self, folder: bytes, landed: Landed) -> None:
        for fetch in list(self._fetcher._fetches):
            mine = [(chunk, data) for chunk, data in landed if fetch.folder == folder and chunk in fetch.wanted]
            if not mine:
                continue
            try:
                await fetch.sink(mine)
            except Exception as error:  # the fetch's own trouble (a full disk), not the peer's
                fetch.failure = error
            else:
                self._fetcher.stats.received += sum(len(data) for _, data in mine)
                for chunk, _ in mine:
                    fetch.wanted.pop(chunk, None)
            fetch.news.set()

    async def _watch(self) -> None:
        while True:
            await trio.sleep(SILENCE / 4)
            if self._requests and trio.current_time() - self._heard > SILENCE:
                raise StreamClosed("the holder fell silent")

    def _settle(self, number: int, request: _Request, place: int) -> None:
        request.owed.discard(place)
        if not request.owed:
            self._requests.pop(number, None)


def _all_true(key: bytes, landed: Landed) -> bool:
    return all(chunk_id(key, data) == chunk for chunk, data in landed)
