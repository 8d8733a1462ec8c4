"""Packs: sealed chunks one after the other, up to 32 MiB. Whoever has a pack can check it by its name, without a key.

pack id = BLAKE3 of its bytes;  as a CID: version 1, raw (0x55), multihash of BLAKE3 (0x1e), 32 bytes
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from shoal.transfer import merkle, sealing

PACK_SIZE = 32 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """A chunk in a pack: its id, and where its sealed form is."""

    id: bytes
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack. `root`: of its blocks, see `merkle`."""

    id: bytes
    size: int
    root: bytes
    chunks: tuple[PackedChunk, ...]


def build(secret: bytes, chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> tuple[Pack, bytearray]:
    """Seal chunks, (id, bytes) each, into a pack. Raises ValueError where there is none, or too much."""
    size = sum(len(plain) + sealing.OVERHEAD for _, plain in chunks)
    if not chunks or size > PACK_SIZE:
        raise ValueError(f"{len(chunks)} chunks of {size} bytes make no pack")
    data = bytearray(size)
    view = memoryview(data)
    packed: list[PackedChunk] = []
    at = 0
    for chunk, plain in chunks:
        end = at + len(plain) + sealing.OVERHEAD
        sealing.seal_into(secret, chunk, plain, view[at:end])
        packed.append(PackedChunk(chunk, at, end - at))
        at = end
    view.release()
    return Pack(blake3(data).digest(), size, merkle.root_of(data), tuple(packed)), data


def multihash(pack: bytes) -> bytes:
    """Return a pack's id as a multihash: the key that it has in the DHT."""
    return b"\x1e\x20" + pack


def cid(pack: bytes) -> str:
    """Return a pack's id as a CID."""
    return "b" + base64.b32encode(b"\x01\x55" + multihash(pack)).decode().rstrip("=").lower()
