"""The exchange protocol, `/shoal/exchange/1`: one side wants chunks by id, the other sends them. Frames of a
`FrameStream`, integers big-endian; the first byte says which.

    W  want     request u32, folder 16, then 32 bytes an id; at most `MAX_WANTED` ids
    C  chunks   request u32, then for each chunk: place in the request u32, length u32, bytes
    M  missing  request u32, then for each chunk that the sender lacks: place in the request u32

Every wanted place is answered once, by C or M, in any order; requests may be answered one after the other. Small chunks
travel many to a frame of about `FRAME_TARGET` bytes; a frame is never over `MAX_FRAME`. The receiver verifies each
chunk against the id that it asked for. A frame that breaks these rules ends the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PROTOCOL = "/shoal/exchange/1"
MAX_WANTED = 4096
FRAME_TARGET = 1024 * 1024
MAX_FRAME = 5 * 1024 * 1024


class BadMessage(Exception):
    """The peer sent a frame that the protocol does not know: it misbehaves."""


@dataclass(frozen=True, slots=True)
class Want:
    """Chunks of a folder that the sender lacks."""

    request: int
    folder: bytes
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks, each with its place in the request."""

    request: int
    chunks: Sequence[tuple[int, bytes | memoryview]]


@dataclass(frozen=True, slots=True)
class Missing:
    """Places in the request that the sender cannot give."""

    request: int
    places: tuple[int, ...]


Message = Want | Chunks | Missing


def encode(message: Message) -> bytes:
    """Return the message as one frame."""
    number = message.request.to_bytes(4)
    match message:
        case Want(_, folder, ids):
            return b"".join((b"W", number, folder, *ids))
        case Chunks(_, chunks):
            parts: list[bytes | memoryview] = [b"C", number]
            for place, data in chunks:
                parts += (place.to_bytes(4) + len(data).to_bytes(4), data)
            return b"".join(parts)
        case Missing(_, places):
            return b"".join((b"M", number, *(place.to_bytes(4) for place in places)))


def decode(frame: bytes) -> Message:
    """Read a frame; the chunks are views of it. Raises BadMessage."""
    if len(frame) < 5:
        raise BadMessage("a frame of fewer than 5 bytes")
    request = int.from_bytes(frame[1:5])
    body = memoryview(frame)[5:]
    match frame[:1]:
        case b"W":
            count, rest = divmod(len(body) - 16, 32)
            if rest or not 0 < count <= MAX_WANTED:
                raise BadMessage("a want of a wrong size")
            return Want(request, bytes(body[:16]), tuple(bytes(body[at : at + 32]) for at in range(16, len(body), 32)))
        case b"C":
            chunks = []
            at = 0
            while at < len(body):
                place, length = int.from_bytes(body[at : at + 4]), int.from_bytes(body[at + 4 : at + 8])
                if at + 8 + length > len(body):
                    raise BadMessage("a chunk that ends beyond its frame")
                chunks.append((place, body[at + 8 : at + 8 + length]))
                at += 8 + length
            return Chunks(request, chunks)
        case b"M":
            if len(body) % 4:
                raise BadMessage("a list of missing chunks of a wrong size")
            return Missing(request, tuple(int.from_bytes(body[at : at + 4]) for at in range(0, len(body), 4)))
    raise BadMessage(f"unknown message {frame[:1]!r}")
