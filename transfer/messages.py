"""The exchange protocol, `/shoal/exchange/1`: one side wants chunks by id, the other sends them. Frames of a
`FrameStream`, integers big-endian; the first byte says which.

    W  want     request u32, folder 16, then 32 bytes an id; 1 to `MAX_WANTED` ids
    U  urgent   the same, of what a person waits for: it is answered before what was wanted earlier
    X  cancel   request u32: its chunks are of no use any more
    C  chunks   request u32, then for each chunk: place in the request u32, length u32, bytes; at least one
    M  missing  request u32, then for each chunk that the sender lacks: place in the request u32; at least one

The wanting side sends W, U and X, the giving side C and M. Every wanted place is answered once, by C or M, in any
order; requests may be answered one after the other. After X the giving side may answer what is left with M, whether it
has the chunks or not; X for a request that is answered already means nothing. A request's number may be used again when
all of its places are answered. Small chunks travel many to a frame of about 1 MiB (4 on a bulk channel); a frame is
never over `MAX_FRAME`. The wanting side keeps at most `MAX_REQUESTS` requests open, reads whatever is on its way, and
verifies each chunk against the id that it asked for. A frame that breaks these rules ends the stream.

A peer that may not read a folder is answered M for all of it, as if the folder were not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PROTOCOL = "/shoal/exchange/1"
FOLDER_SIZE = 16
ID_SIZE = 32
MAX_WANTED = 4096
MAX_REQUESTS = 32
CHUNKS_HEAD = 5  # bytes of a message of chunks before the first
CHUNK_HEAD = 8  # bytes before each chunk
MAX_FRAME = 5 * 1024 * 1024
MAX_WANT = 5 + FOLDER_SIZE + MAX_WANTED * ID_SIZE  # bytes of the largest frame that the wanting side sends


class BadMessage(Exception):
    """The peer sent what the protocol does not allow: it misbehaves."""


@dataclass(frozen=True, slots=True)
class Want:
    """Chunks of a folder that the sender lacks. `urgent`: before what was wanted earlier."""

    request: int
    folder: bytes
    ids: tuple[bytes, ...]
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """The rest of a request is of no use any more."""

    request: int


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


Message = Want | Cancel | Chunks | Missing


def encode(message: Message) -> bytes:
    """Return the message as one frame."""
    return b"".join(parts_of(message))


def parts_of(message: Message) -> list[bytes | memoryview]:
    """Return the message as one frame, in parts: chunks are not copied."""
    number = message.request.to_bytes(4)
    match message:
        case Want(_, folder, ids, urgent):
            return [b"U" if urgent else b"W", number, folder, *ids]
        case Cancel():
            return [b"X", number]
        case Chunks(_, chunks):
            parts: list[bytes | memoryview] = [b"C", number]
            for place, data in chunks:
                parts += (place.to_bytes(4) + len(data).to_bytes(4), data)
            return parts
        case Missing(_, places):
            return [b"M", number, *(place.to_bytes(4) for place in places)]


def decode(frame: bytes | memoryview) -> Message:
    """Read a frame; the chunks are views of it. Raises BadMessage."""
    if len(frame) < 5:
        raise BadMessage("a frame of fewer than 5 bytes")
    request = int.from_bytes(frame[1:5])
    match bytes(frame[:1]):
        case b"W" | b"U":
            return _want(request, bytes(frame))
        case b"X":
            if len(frame) != 5:
                raise BadMessage("a cancel of a wrong size")
            return Cancel(request)
        case b"C":
            return _chunks(request, frame)
        case b"M":
            if len(frame) == 5 or (len(frame) - 5) % 4:
                raise BadMessage("a list of missing chunks of a wrong size")
            return Missing(request, tuple(int.from_bytes(frame[at : at + 4]) for at in range(5, len(frame), 4)))
    raise BadMessage(f"unknown message {bytes(frame[:1])!r}")


def _want(request: int, frame: bytes) -> Want:
    start = 5 + FOLDER_SIZE
    count, rest = divmod(len(frame) - start, ID_SIZE)
    if rest or not 0 < count <= MAX_WANTED:
        raise BadMessage("a want of a wrong size")
    ids = tuple(frame[at : at + ID_SIZE] for at in range(start, len(frame), ID_SIZE))
    return Want(request, frame[5:start], ids, frame[:1] == b"U")


def _chunks(request: int, frame: bytes | memoryview) -> Chunks:
    body = memoryview(frame)
    chunks: list[tuple[int, bytes | memoryview]] = []
    at = 5
    while at < len(frame):
        data = at + 8
        end = data + int.from_bytes(frame[at + 4 : data])
        if end > len(frame):
            raise BadMessage("a chunk that ends beyond its frame")
        chunks.append((int.from_bytes(frame[at : at + 4]), body[data:end]))
        at = end
    if not chunks or at != len(frame):
        raise BadMessage("chunks of a wrong size")
    return Chunks(request, chunks)
