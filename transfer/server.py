"""The giving side of the exchange protocol: reads wants, sends chunks, a bounded number of bytes at a time.

Three tasks a stream: one reads the peer's questions, one reads chunks from the source, one (a lane) sends; so the disk
and the network work side by side, and a peer that takes slowly costs one batch and three frames, whatever it asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from shoal.transfer.bulk import LaidOut
from shoal.transfer.messages import (
    MAX_REQUESTS,
    BadMessage,
    Cancel,
    Chunks,
    Missing,
    Want,
    decode,
    parts_of,
)
from shoal.transfer.stream import Frames, FrameTooLarge, Parts, StreamClosed

BATCH = 64  # chunks asked of the source at once
READ_TARGET = 4 * 1024 * 1024  # bytes after which a source should stop early


class ChunkSource(Protocol):
    """Where chunks come from."""

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        """Return whether the peer may have the folder's chunks."""
        ...

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | memoryview | None]:
        """Return the chunks, each verified against its id, None where it is not here. Should stop once it has read
        `READ_TARGET` bytes: the result can be shorter than `ids`, never empty."""
        ...

    def on_sent(self, peer: bytes, size: int) -> None:
        """`size` bytes of chunks went out to `peer`."""
        ...


@dataclass(slots=True, eq=False)
class _Question:
    want: Want
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    frame: Parts
    chunk_bytes: int
    room: memoryview | None = None


async def serve(stream: Frames, source: ChunkSource) -> None:
    """Answer wants until the peer ends the stream or breaks the protocol; never raises for what a peer does."""
    server = _Server(stream, source)
    try:
        async with stream.running():
            await server.run()
            await stream.aclose()
    except* (BadMessage, FrameTooLarge, StreamClosed):
        await stream.reset()


class _Server:
    def __init__(self, stream: Frames, source: ChunkSource) -> None:
        self._stream = stream
        self._source = source
        self._open: dict[int, _Question] = {}
        self._urgent: deque[_Question] = deque()

    async def run(self) -> None:
        ask, asked = trio.open_memory_channel[_Question | None](2 * MAX_REQUESTS)
        answer, answers = trio.open_memory_channel[_Answer](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, ask, name="exchange serve listen")
            nursery.start_soon(self._answer_all, asked, answer, name="exchange serve read")
            for lane in range(self._stream.lanes):
                nursery.start_soon(self._send_all, answers, lane, name="exchange serve send")

    async def _listen(self, ask: trio.MemorySendChannel[_Question | None]) -> None:
        with ask:
            while (frame := await self._stream.receive()) is not None:
                message = decode(frame)
                if isinstance(message, Want):
                    if message.request in self._open:
                        raise BadMessage("a request's number was used again too early")
                    self._open[message.request] = question = _Question(message)
                    if message.urgent:
                        self._urgent.append(question)
                    await ask.send(None if message.urgent else question)
                elif isinstance(message, Cancel):
                    if (question_or_none := self._open.get(message.request)) is not None:
                        question_or_none.cancelled = True
                else:
                    raise BadMessage("an answer where a question was due")

    async def _answer_all(
        self, asked: trio.MemoryReceiveChannel[_Question | None], answer: trio.MemorySendChannel[_Answer]
    ) -> None:
        with answer:
            async for question in asked:
                await self._answer_urgent(answer)
                if question is not None:
                    await self._answer(question, answer)

    async def _answer_urgent(self, answer: trio.MemorySendChannel[_Answer]) -> None:
        while self._urgent:
            await self._answer(self._urgent.popleft(), answer)

    async def _answer(self, question: _Question, answer: trio.MemorySendChannel[_Answer]) -> None:
        want = question.want
        may = self._source.may_read(self._stream.peer, want.folder)
        at = 0
        held: list[tuple[int, bytes | memoryview]] = []
        size = 0
        origin: LaidOut | None = None  # what all of `held` is from, if that is one

        async def send_held() -> None:
            nonlocal held, size
            room = origin.room if origin is not None and len(origin) == len(held) else None
            await answer.send(_Answer(parts_of(Chunks(want.request, held)), size, room))
            held, size = [], 0

        missing: list[int] = []
        while may and at < len(want.ids) and not question.cancelled:
            if self._urgent and not want.urgent:
                if held:
                    await send_held()
                await self._answer_urgent(answer)
            batch = await self._source.read(want.folder, want.ids[at : at + BATCH])
            fresh = batch if isinstance(batch, LaidOut) and None not in batch else None
            for place, data in enumerate(batch, at):
                if data is None:
                    missing.append(place)
                    continue
                if held and size + len(data) > self._stream.frame_target:
                    await send_held()
                origin = fresh if not held or origin is fresh else None
                held.append((place, data))
                size += len(data)
            at += len(batch)
            if held and answer.statistics().tasks_waiting_receive:  # the network waits: do not wait for a full frame
                await send_held()
        missing += range(at, len(want.ids))
        del self._open[want.request]  # before the peer can know that all is answered
        if held:
            await send_held()
        if missing:
            await answer.send(_Answer(parts_of(Missing(want.request, tuple(missing))), 0))

    async def _send_all(self, answers: trio.MemoryReceiveChannel[_Answer], lane: int) -> None:
        async for answer in answers:
            await self._stream.send(answer.frame, lane, answer.room)
            if answer.chunk_bytes:
                self._source.on_sent(self._stream.peer, answer.chunk_bytes)
