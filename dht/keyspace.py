"""Where keys and peers are: 256-bit points, near each other as the XOR of the two is small (Maymounkov and Mazieres,
Kademlia, 2002, section 2.1).

As in `/ipfs/kad/1.0.0`, a point is the SHA-256 of a key's bytes, or of a peer id's.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from functools import lru_cache
from typing import NewType

BITS = 256
MOST_SHARED = 12  # bits for which a key is looked for: 2^13 tries

Key = NewType("Key", bytes)  # what is looked for: multihash bytes, as clients send them
PeerId = NewType("PeerId", bytes)  # a libp2p peer id's bytes
Point = NewType("Point", int)  # 0 to 2^256 - 1


@lru_cache(maxsize=65_536)
def point(of: Key | PeerId) -> Point:
    """Return where a key or a peer is."""
    return Point(int.from_bytes(hashlib.sha256(of).digest()))


def shared_bits(one: Point, other: Point) -> int:
    """Return how many bits from the first on two points have in common: 256 for the same."""
    return BITS - (one ^ other).bit_length()


def nearest(target: Point, peers: Iterable[PeerId], most: int) -> list[PeerId]:
    """Return up to `most` of the peers, the nearest to the target first."""
    return sorted(peers, key=lambda peer: target ^ point(peer))[:most]


def key_near(own: Point, target: Point, own_id: PeerId, rng: random.Random) -> Key:
    """Return a key that shares as many bits with this peer's point as `target` does: questions name keys, and only its
    SHA-256 says where a key is. Of what is very near to this peer, its own id stands for all."""
    shared = shared_bits(own, target)
    while shared <= MOST_SHARED:
        key = Key(rng.randbytes(32))
        if shared_bits(own, point(key)) == shared:
            return key
    return Key(own_id)
