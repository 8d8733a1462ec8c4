"""What one device tells the others of a large file that it is still reading: the chunks that it has cut by now.

They may fetch them ahead of the entry that says what they are for. In a session:

    ["coming", folder id, upload (16 bytes), near (16 bytes), pieces]    a piece: offset (8), chunk id (32), length (4)
"""

from __future__ import annotations

from dataclasses import dataclass

import blake3

from shoal.crdt import codec
from shoal.crdt.model import NodeId
from shoal.node.folder.signature import Signature
from shoal.transfer.chunking import MAX_CHUNK

Piece = tuple[int, bytes, int]
"""Offset in the file, the chunk's id, its length."""

PIECE = 44  # bytes
MOST = 8192  # pieces of one file; the rest of it comes when it was read
FURTHEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Coming:
    """Chunks of a file. `upload`: the same for all of it, another when it changed; `near`: its node, or the folder that
    it is in or below."""

    upload: bytes
    near: NodeId
    pieces: tuple[Piece, ...]

    def encode(self) -> list[bytes]:
        """Return it as the last parts of a message."""
        packed = b"".join(at.to_bytes(8) + chunk + length.to_bytes(4) for at, chunk, length in self.pieces)
        return [self.upload, self.near, packed]


def decode(upload: bytes, near: bytes, packed: bytes) -> Coming:
    """Return what the parts of a message say. Raises Malformed."""
    if len(upload) != 16 or len(near) != 16 or len(packed) % PIECE or len(packed) > MOST * PIECE:
        raise codec.Malformed("not a message of a file that is coming")
    pieces = []
    for at in range(0, len(packed), PIECE):
        piece = packed[at : at + PIECE]
        offset, length = int.from_bytes(piece[:8]), int.from_bytes(piece[40:])
        if offset > FURTHEST or not 0 < length <= MAX_CHUNK:
            raise codec.Malformed("a chunk that no file has")
        pieces.append((offset, piece[8:40], length))
    return Coming(upload, NodeId(near), tuple(pieces))


def upload_of(key: bytes, path: str, signature: Signature) -> bytes:
    """Return the name of a reading of a file; it tells nothing to whoever lacks the key."""
    said = "\0".join([path, *(str(part) for part in signature)])
    return blake3.blake3(said.encode("utf-8", "surrogateescape"), key=key).digest(16)
