"""`/shoal/packs/1`: parts of packs, read and proven. Frames of canonical CBOR; one question at a time on a stream.

    ["get", folder, pack, part, offset, length]     -> ["data", bytes] again and again, then ["end"]; or ["none", why]
    ["prove", folder, pack, part, block]            -> ["proof", bytes of the block, [hashes]]; or ["none", why]

What is a part: see `sheet`. Who may have the folder's logs is answered; others as if nothing was there. A block is 64
KiB of a part, and the hashes lead from it to the part's root (`transfer.merkle`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import trio

from shoal.crdt import codec
from shoal.transfer.packs import PACK_SIZE
from shoal.transfer.stream import Frames, FrameTooLarge, StreamClosed

T = TypeVar("T")

PROTOCOL = "/shoal/packs/1"
MAX_FRAME = 2 * 1024 * 1024
PART = 1024 * 1024  # bytes in a frame
ANSWERS_WITHIN = 60.0  # seconds between two frames of an answer
PROVES_WITHIN = 20.0  # seconds in which a proof has to come: time to read a disk that was asleep
MOST_IDLE = 4  # streams to a peer that are kept open


class NotThere(Exception):
    """The peer does not have the piece, or does not give it; or what it sent is not what was asked for."""


class Pieces(Protocol):
    """What is served."""

    def may_have(self, peer: bytes, folder: bytes) -> bool:
        """Return whether a peer may have the folder's packs."""
        ...

    async def read(self, folder: bytes, pack: bytes, part: int, offset: int, length: int) -> bytes | None:
        """Return bytes of a part, None where it is not here."""
        ...

    async def prove(self, folder: bytes, pack: bytes, part: int, block: int) -> tuple[bytes, list[bytes]] | None:
        """Return a block of a part with its proof, None where it is not here."""
        ...

    def on_read(self, peer: bytes, folder: bytes, pack: bytes, size: int) -> None:
        """A peer was given so many bytes of a pack."""
        ...


async def serve(frames: Frames, pieces: Pieces) -> None:
    """Answer until the peer ends the stream, or breaks the protocol."""
    try:
        while (frame := await frames.receive()) is not None:
            await _answer(frames, pieces, codec.decode(bytes(frame), 4096))
        await frames.aclose()
    except (codec.Malformed, FrameTooLarge, StreamClosed):
        await frames.reset()


async def _answer(frames: Frames, pieces: Pieces, asked: Any) -> None:
    match asked:
        case ["get", bytes(folder), bytes(pack), int(part), int(offset), int(length)]:
            given = 0
            may = pieces.may_have(frames.peer, folder) and 0 <= offset <= PACK_SIZE and 0 < length <= PACK_SIZE
            while may and given < length:  # in parts, so that many who ask for much cost little
                data = await pieces.read(folder, pack, part, offset + given, min(PART, length - given))
                if not data:
                    break
                await frames.send(codec.encode(["data", data]))
                given += len(data)
            if given == length:
                await frames.send(codec.encode(["end"]))
                pieces.on_read(frames.peer, folder, pack, given)
            else:
                await frames.send(codec.encode(["none", "not here"]))
        case ["prove", bytes(folder), bytes(pack), int(part), int(block)]:
            proof = None
            if pieces.may_have(frames.peer, folder) and block >= 0:
                proof = await pieces.prove(folder, pack, part, block)
            await frames.send(codec.encode(["none", "not here"] if proof is None else ["proof", *proof]))
        case _:
            raise codec.Malformed("not a question of this protocol")


class PieceClient:
    """Asks peers for pieces. `open_stream` opens a stream to a peer; it raises StreamClosed."""

    def __init__(self, open_stream: Callable[[bytes], Awaitable[Frames]]) -> None:
        self._open = open_stream
        self._idle: dict[bytes, list[Frames]] = {}

    async def get(self, peer: bytes, folder: bytes, pack: bytes, part: int, offset: int, length: int) -> bytes:
        """Return `length` bytes of a part, as the peer has them: unverified. Raises NotThere, StreamClosed."""
        parts: list[bytes] = []
        size = 0

        async def read(frames: Frames) -> bytes:
            nonlocal size
            parts.clear()
            size = 0
            while True:
                match await self._received(frames, ANSWERS_WITHIN):
                    case ["data", bytes(data)] if data and size + len(data) <= length:
                        parts.append(data)
                        size += len(data)
                    case ["end"] if size == length:
                        return b"".join(parts)
                    case ["none", str(why)]:
                        raise NotThere(why[:100])
                    case _:
                        raise codec.Malformed("not an answer")

        return await self._ask(peer, ["get", folder, pack, part, offset, length], read)

    async def prove(self, peer: bytes, folder: bytes, pack: bytes, part: int, block: int) -> tuple[bytes, list[bytes]]:
        """Return a block with its proof, unverified. Raises NotThere, StreamClosed."""

        async def read(frames: Frames) -> tuple[bytes, list[bytes]]:
            match await self._received(frames, PROVES_WITHIN):
                case ["proof", bytes(data), list(hashes)] if len(hashes) <= 64:
                    return data, [codec.as_bytes(each, 32) for each in hashes]
                case ["none", str(why)]:
                    raise NotThere(why[:100])
                case _:
                    raise codec.Malformed("not an answer")

        return await self._ask(peer, ["prove", folder, pack, part, block], read)

    async def _ask(self, peer: bytes, question: list[Any], read: Callable[[Frames], Awaitable[T]]) -> T:
        idle = self._idle.setdefault(peer, [])
        reused = bool(idle)
        frames = idle.pop() if idle else await self._open(peer)
        try:
            await frames.send(codec.encode(question))
            answer = await read(frames)
        except NotThere:
            self._keep(peer, frames)
            raise
        except StreamClosed:
            await _reset(frames)
            if reused:  # it may have ended since
                self.forget(peer)
                return await self._ask(peer, question, read)
            raise
        except (codec.Malformed, FrameTooLarge) as error:
            await _reset(frames)
            raise NotThere(f"the peer does not keep to the protocol: {error}") from error
        except BaseException:
            await _reset(frames)
            raise
        self._keep(peer, frames)
        return answer

    def _keep(self, peer: bytes, frames: Frames) -> None:
        idle = self._idle.setdefault(peer, [])
        if len(idle) < MOST_IDLE:
            idle.append(frames)

    def forget(self, peer: bytes) -> None:
        """A peer is gone: its streams are none any more."""
        self._idle.pop(peer, None)

    async def _received(self, frames: Frames, seconds: float) -> Any:
        with trio.move_on_after(seconds):
            frame = await frames.receive()
            if frame is None:
                raise StreamClosed("the peer ended the stream")
            return codec.decode(bytes(frame), MAX_FRAME)
        raise StreamClosed("the peer does not answer")


async def _reset(frames: Frames) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
        await frames.reset()
