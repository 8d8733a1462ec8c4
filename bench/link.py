"""A long way between two ends: `python -m bench link [--ms 100] [--mbit 200] [--mib 64]`.

The giver and the taker are in this process; a forwarder between them delays every byte by half the round trip and lets
only so many through. It says how much of the link a bulk channel fills, with as many lanes as it would have, and with
one.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

import trio

from shoal.bootstrap.bulk import BulkPort, TcpConnection, dial, lanes_for
from shoal.transfer.aead import own_ciphers
from shoal.transfer.bulk import TOKEN_SIZE, Grant, lane_keys
from shoal.transfer.chunking import chunk_id
from shoal.transfer.client import Fetcher
from shoal.transfer.exchange import Landed
from shoal.transfer.lanes import Lanes
from shoal.transfer.messages import MAX_FRAME, MAX_WANT
from shoal.transfer.server import serve

HERE = "127.0.0.1"
KEY, FOLDER, GIVER, TAKER = b"k" * 32, b"f" * 16, b"G" * 32, b"T" * 32
MIB = 1 << 20
PIECE = 16 * 1024


class Link:
    """What all connections share: so many bytes a second, each so late. A full queue makes the sender wait, as a
    window of TCP that is as large as the way is long would."""

    def __init__(self, delay: float, rate: float) -> None:
        self._delay = delay
        self._rate = rate
        self._free_at = 0.0
        self._queued = max(2 * delay * rate, 4 * PIECE)

    async def forward(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        """Carry bytes one way until the end."""
        queue: deque[tuple[float, bytes]] = deque()
        news, room = trio.Event(), trio.Event()
        held = 0
        over = False

        async def deliver() -> None:
            nonlocal news, room, held
            while not (over and not queue):
                if not queue:
                    news = trio.Event()
                    await news.wait()
                    continue
                when, data = queue.popleft()
                await trio.sleep_until(when)
                await target.send_all(data)
                held -= len(data)
                room.set()
            await target.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver)
            while data := await source.receive_some(PIECE):
                while held > self._queued:
                    room = trio.Event()
                    await room.wait()
                now = trio.current_time()
                self._free_at = max(self._free_at, now) + len(data) / self._rate
                queue.append((self._free_at + self._delay, data))
                held += len(data)
                news.set()
                if self._free_at - now > 0.01:
                    await trio.sleep(self._free_at - now - 0.005)
            over = True
            news.set()


class Chunks:
    """A source of chunks in memory."""

    def __init__(self, chunks: dict[bytes, bytes]) -> None:
        self._chunks = chunks

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        return True

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | memoryview | None]:
        await trio.lowlevel.checkpoint()
        return [self._chunks[chunk] for chunk in ids[:4]]

    def on_sent(self, peer: bytes, size: int) -> None:
        pass


def run(ms: float, mbit: float, mib: int) -> None:
    """Measure and print."""
    for lanes in dict.fromkeys([lanes_for(3 * ms / 1000), 1]):
        print(json.dumps(trio.run(_measure, ms / 1000, mbit * 1e6 / 8, mib, lanes)), flush=True)


async def _measure(round_trip: float, rate: float, mib: int, lanes: int) -> dict[str, object]:
    chunks = {chunk_id(KEY, data): data for data in (os.urandom(MIB) for _ in range(mib))}
    grant = Grant(own_ciphers()[0], 1, os.urandom(32), tuple(os.urandom(TOKEN_SIZE) for _ in range(lanes)))
    links = Link(round_trip / 2, rate), Link(round_trip / 2, rate)
    fetcher = Fetcher()

    async def sink(landed: Landed) -> None:
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        port = BulkPort([HERE], 0)
        await nursery.start(port.run)

        async def between(near: trio.SocketStream) -> None:
            far = await trio.open_tcp_stream(HERE, port.port)
            async with trio.open_nursery() as both:
                both.start_soon(links[0].forward, near, far)
                both.start_soon(links[1].forward, far, near)

        listener = (await nursery.start(partial(trio.serve_tcp, between, 0, host=HERE)))[0]
        giver_keys = lane_keys(grant, "giver")

        async def give() -> None:
            arrived: dict[bytes, TcpConnection] = {}
            async with port.expecting(giver_keys) as connections:
                while len(arrived) < lanes:
                    token, connection = await connections.receive()
                    arrived[token] = connection
            await serve(Lanes(TAKER, [(arrived[t], giver_keys[t]) for t in giver_keys], MAX_WANT), Chunks(chunks))

        async def opened() -> Lanes:
            opened = await dial(HERE, listener.socket.getsockname()[1], lane_keys(grant, "taker"))
            return Lanes(GIVER, opened, MAX_FRAME)

        nursery.start_soon(give)
        start = time.perf_counter()
        nursery.start_soon(fetcher.hold, GIVER, opened)
        await fetcher.fetch(FOLDER, KEY, [(chunk, MIB) for chunk in chunks], sink)
        seconds = time.perf_counter() - start
        nursery.cancel_scope.cancel()
    return {
        "workload": f"{mib} MiB over {round_trip * 1000:g} ms, {rate * 8 / 1e6:g} Mbit/s",
        "lanes": lanes,
        "seconds": round(seconds, 2),
        "of the link": round(mib * MIB / seconds / rate, 2),
    }
