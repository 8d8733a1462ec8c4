"""How much a peer may ask of this one: token buckets, by peer (no clock of their own)."""

from __future__ import annotations

from collections import OrderedDict

from shoal.dht.keyspace import PeerId

QUESTIONS = 200.0  # a second and peer
BURST = 1000.0
KEYS = 5000.0  # announced, a second and peer
KEYS_BURST = 250_000.0
PEERS = 4096  # whose use is remembered


class Buckets:
    """A bucket a peer. `rate`: what flows in by the second; `most`: what it holds."""

    def __init__(self, rate: float, most: float, peers: int = PEERS) -> None:
        self._rate = rate
        self._most = most
        self._peers = peers
        self._left: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()

    def take(self, peer: PeerId, amount: float, now: float) -> bool:
        """Take from a peer's bucket, if there is enough in it. `now`: seconds, monotonic."""
        left, at = self._left.pop(peer, (self._most, now))
        left = min(self._most, left + max(0.0, now - at) * self._rate)
        enough = left >= amount
        self._left[peer] = (left - amount if enough else left, now)
        if len(self._left) > self._peers:
            self._left.popitem(last=False)
        return enough
