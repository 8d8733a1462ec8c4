"""Hash trees over the blocks of a piece: who has the root can check one block without having the rest.

    leaf   = BLAKE3 keyed with LEAF of a block; blocks are 64 KiB, the last may be shorter
    parent = BLAKE3 keyed with NODE of its two children; one without a sibling goes up as it is
    root   = BLAKE3 keyed with TOP of the number of bytes (8) + the uppermost hash

The number of bytes in the root fixes the tree's shape, so no other sequence of blocks has it (compare RFC 6962, 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

BLOCK = 64 * 1024
_LEAF, _NODE, _TOP = (name.ljust(32, b"\0") for name in (b"shoal piece leaf", b"shoal piece node", b"shoal piece top"))


def leaves(data: bytes | bytearray | memoryview) -> list[bytes]:
    """Return the hashes of the blocks; of no bytes, that of one empty block."""
    view = memoryview(data)
    return [blake3(view[at : at + BLOCK], key=_LEAF).digest() for at in range(0, max(1, len(view)), BLOCK)]


def root(hashes: Sequence[bytes], size: int) -> bytes:
    """Return the root over a piece of `size` bytes with these leaves."""
    level = list(hashes)
    while len(level) > 1:
        level = _above(level)
    return blake3(size.to_bytes(8) + level[0], key=_TOP).digest()


def root_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return the root over a piece."""
    return root(leaves(data), len(data))


def proof(hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the hashes beside the way from a leaf to the top, from below."""
    level, found = list(hashes), []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            found.append(level[beside])
        level, index = _above(level), index // 2
    return tuple(found)


def verify(root: bytes, size: int, index: int, block: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether a block is number `index` of the piece of `size` bytes that has this root."""
    count = max(1, -(-size // BLOCK))
    if not 0 <= index < count or len(block) != min(BLOCK, size - index * BLOCK):
        return False
    digest, rest = blake3(block, key=_LEAF).digest(), list(proof)
    while count > 1:
        if index ^ 1 < count:
            if not rest or len(rest[0]) != 32:
                return False
            beside = rest.pop(0)
            digest = blake3(beside + digest if index & 1 else digest + beside, key=_NODE).digest()
        index, count = index // 2, -(-count // 2)
    return not rest and blake3(size.to_bytes(8) + digest, key=_TOP).digest() == root


def _above(level: Sequence[bytes]) -> list[bytes]:
    pairs = [blake3(level[at] + level[at + 1], key=_NODE).digest() for at in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs
