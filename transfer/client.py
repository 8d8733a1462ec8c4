"""The taking side of the exchange: fetches share the streams to all holders, and every chunk is verified.

A peer that stops answering, or sends what it was not asked for, loses its stream; what it owed goes to the others. One
whose bytes do not match their id also loses its place as a holder, until somebody calls `hold` for it anew.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trio

from shoal.transfer.exchange import Exchange, Landed, LyingHolder
from shoal.transfer.scheduler import Scheduler
from shoal.transfer.stream import Frames, StreamClosed

__all__ = ["Fetcher", "Landed", "OpenStream", "Sink", "Stats"]

REOPEN = 1.0  # seconds before a broken stream is opened again
REOPEN_MOST = 30.0  # seconds, reached by doubling while streams neither last nor bring anything
BULK_FROM = 1024 * 1024  # bytes that are still to be asked for, from which on a bulk channel is worth its opening
BULK_IDLE = 30.0  # seconds without use after which it is closed
BULK_AGAIN = 5.0  # seconds before it is tried again after it failed
BULK_AGAIN_MOST = 600.0

Sink = Callable[[Landed], Awaitable[None]]
OpenStream = Callable[[], Awaitable[Frames]]


@dataclass(slots=True)
class Stats:
    """Chunk bytes since the start: `received` verified and wanted ones, `received_bulk` those of them that came over a
    bulk channel, `sent` to others; by peer, too."""

    received: int = 0
    received_bulk: int = 0
    sent: int = 0
    received_from: Counter[bytes] = field(default_factory=Counter)
    sent_to: Counter[bytes] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Fetch:
    folder: bytes
    key: bytes
    wanted: dict[bytes, int]
    landed: deque[tuple[Exchange, Landed, int]] = field(default_factory=deque)
    news: trio.Event = field(default_factory=trio.Event)


class _Ways:
    """The ways to one peer that are open: its stream, or its bulk channel; for a moment both."""

    def __init__(self) -> None:
        self.stream: Exchange | None = None
        self.bulk: Exchange | None = None
        self.changed = trio.Event()

    def set_bulk(self, exchange: Exchange | None) -> None:
        self.bulk = exchange
        self.changed.set()
        self.changed = trio.Event()


class Fetcher:
    """Fetches chunks from the holders there are."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.work = trio.Event()
        self._scheduler = Scheduler()
        self._fetches: list[_Fetch] = []
        self._exchanges: list[Exchange] = []
        self._opening: set[object] = set()  # a token for each peer that may well be a holder in a moment

    async def fetch(
        self, folder: bytes, key: bytes, wants: Sequence[tuple[bytes, int]], sink: Sink, priority: int = 0
    ) -> list[bytes]:
        """Fetch chunks, (id, length in bytes) each, and hand them to `sink` as they come, in any order.

        Returns the ids that every holder lacks: empty when all came. Waits while there is no holder, or one whose
        stream is being opened. Chunks of a lower `priority` number are asked for first. `sink` runs in the caller's
        task, one call at a time, each with all that has come since the one before; while it runs, no more than a
        window of each holder is kept. What it raises is raised here.
        """
        fetch = _Fetch(folder, key, dict(wants))
        self._fetches.append(fetch)
        self._scheduler.want(folder, fetch.wanted.items(), priority)
        self.on_change()
        try:
            while True:
                await self._pour(fetch, sink)
                if not fetch.wanted:
                    return []
                if not self._opening and self._scheduler.all_stalled(folder, fetch.wanted):
                    return list(fetch.wanted)
                await fetch.news.wait()
                fetch.news = trio.Event()
        finally:
            self._end(fetch)

    async def hold(self, peer: bytes, open_stream: OpenStream, open_bulk: OpenStream | None = None) -> None:
        """Use `peer` as a holder until cancelled; return when it lied. Streams that break, or that `open_stream` could
        not open (StreamClosed, OSError; it has a deadline of its own), are opened again.

        `open_bulk`, with the same errors, opens a quicker way, which takes the stream's place while there is much to
        fetch. Where it cannot be opened, or breaks, the stream goes on.
        """
        ways = _Ways()
        self._opening.add(ways)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold_stream, peer, open_stream, ways)
                if open_bulk is not None:
                    nursery.start_soon(self._hold_bulk, peer, open_bulk, ways)
        except* LyingHolder:
            pass
        finally:
            self._opening.discard(ways)
            self.on_change()

    def retry_missing(self, peer: bytes) -> None:
        """The peer has new content: ask it again for what it lacked."""
        for exchange in self._exchanges:
            if exchange.peer == peer:
                self._scheduler.retry_missing(exchange)
        self.on_change()

    def set_rivals(self, folder: bytes, own: bytes, devices: Iterable[bytes]) -> None:
        """Say which other connected devices need the folder as this one, `own`, does: they share it out."""
        self._scheduler.set_rivals(folder, own, devices, trio.current_time())
        self.on_change()

    def on_have(self, peer: bytes, folder: bytes, chunks: Sequence[bytes]) -> None:
        """The peer has these chunks by now."""
        self._scheduler.on_have(peer, folder, chunks, trio.current_time())
        self.on_change()

    def key_for(self, folder: bytes, chunk: bytes) -> bytes | None:
        """Return the key of a fetch that waits for the chunk; None when none does."""
        return next((fetch.key for fetch in self._fetches if fetch.folder == folder and chunk in fetch.wanted), None)

    def on_landed(self, exchange: Exchange, folder: bytes, landed: Landed) -> None:
        """Pass verified chunks on to the fetches that want them."""
        now = trio.current_time()
        for chunk, data in landed:
            if self._scheduler.on_chunk(folder, chunk, exchange, len(data), now):
                self.stats.received += len(data)
                self.stats.received_bulk += len(data) * exchange.is_bulk
                self.stats.received_from[exchange.peer] += len(data)
        for fetch in self._fetches:
            if fetch.folder != folder:
                continue
            mine = [(chunk, data) for chunk, data in landed if fetch.wanted.pop(chunk, None) is not None]
            if mine:
                size = sum(len(data) for _, data in mine)
                exchange.hold_back(size)
                fetch.landed.append((exchange, mine, size))

    def on_change(self) -> None:
        """Wake whoever asks, and whoever waits for chunks."""
        self.work.set()
        self.work = trio.Event()
        for fetch in self._fetches:
            fetch.news.set()

    async def _hold_stream(self, peer: bytes, open_stream: OpenStream, ways: _Ways) -> None:
        pause = REOPEN / 2
        while True:
            well = False
            try:
                stream = await open_stream()
            except (StreamClosed, OSError):
                self._opening.discard(ways)
                self.on_change()
            else:
                ways.stream = exchange = Exchange(peer, stream, self._scheduler, self)
                if ways.bulk is not None:
                    exchange.retire()
                try:
                    well = await self._use(exchange, stream, ways)
                finally:
                    ways.stream = None
            if ways.bulk is not None:
                while ways.bulk is not None:
                    await ways.changed.wait()
                continue
            pause = REOPEN if well else min(2 * pause, REOPEN_MOST)
            await trio.sleep(pause)

    async def _hold_bulk(self, peer: bytes, open_bulk: OpenStream, ways: _Ways) -> None:
        pause = BULK_AGAIN / 2
        while True:
            while self._scheduler.open_bytes < BULK_FROM:
                await self.work.wait()
            well = broken = False
            with contextlib.suppress(StreamClosed, OSError):
                stream = await open_bulk()
                exchange = Exchange(peer, stream, self._scheduler, self, idle_after=BULK_IDLE)
                exchange.is_bulk = True
                ways.set_bulk(exchange)
                if ways.stream is not None:
                    ways.stream.retire()
                try:
                    await self._use(exchange, stream, ways)
                finally:
                    ways.set_bulk(None)
                well, broken = exchange.useful, exchange.broken
            if well and not broken:
                continue
            pause = BULK_AGAIN if well else min(2 * pause, BULK_AGAIN_MOST)
            await trio.sleep(pause)

    async def _use(self, exchange: Exchange, stream: Frames, ways: _Ways) -> bool:
        """Exchange over the stream until it breaks; return whether it went well for a while. Raises LyingHolder."""
        start = trio.current_time()
        self._exchanges.append(exchange)
        self._scheduler.holder_joined(exchange, exchange.peer)
        self._opening.discard(ways)
        self.on_change()
        try:
            await exchange.run()
        finally:
            self._exchanges.remove(exchange)
            self._scheduler.holder_left(exchange)
            if ways.bulk in (None, exchange) and ways.stream in (None, exchange):
                self._opening.add(ways)  # what it owed is not missing because a stream broke
            self.on_change()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.reset()
        return exchange.useful or trio.current_time() - start >= REOPEN_MOST

    async def _pour(self, fetch: _Fetch, sink: Sink) -> None:
        while fetch.landed:
            parts = list(fetch.landed)
            fetch.landed.clear()
            try:
                await sink([each for _, landed, _ in parts for each in landed])
            finally:
                for exchange, _, size in parts:
                    exchange.hold_back(-size)

    def _end(self, fetch: _Fetch) -> None:
        self._fetches.remove(fetch)
        for exchange, _, size in fetch.landed:
            exchange.hold_back(-size)
        if not fetch.wanted:
            return
        others = [other.wanted for other in self._fetches if other.folder == fetch.folder]
        self._scheduler.forget(fetch.folder, [c for c in fetch.wanted if not any(c in other for other in others)])
        for exchange in self._exchanges:
            exchange.cancel_unwanted()
        self.on_change()
