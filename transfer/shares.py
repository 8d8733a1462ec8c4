"""Who of several devices that lack the same asks whom: so that one source sends each chunk little more than once.

The devices that need a folder at the same time are rivals for what its full holders can send, and holders for each
other of what they have got by now. Each chunk has an owner among them, by rendezvous hashing: every device computes the
same, and one that comes or goes moves only its share. A device asks full holders for what it owns, and its rivals for
what they say that they have. What is a rival's is asked of a full holder only when that rival is late: it says nothing
for `STALL` seconds, or needs more than `TAIL` seconds for the rest of its share; and from the end of it, which it
comes to last. What a rival says is never needed for the end: a liar costs time, `STALL` at a time. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import blake3

STALL = 3.0  # seconds
TAIL = 4.0  # seconds
REMEMBERED = 60.0  # seconds that it is known of a former rival how it did
KNOWN = 200_000  # chunk ids that are kept of what a rival said
_MIX, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


@dataclass(slots=True)
class _Rival:
    since: float  # when it was first heard of, and its share waited for
    news_at: float
    seed: int
    has: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    offers: OrderedDict[bytes, None] = field(default_factory=OrderedDict)  # of it, what may be open
    told: int = 0  # bytes of its share that it said it has
    left: int = 0  # bytes of its share that are open here


class Shares:
    """The rivals for one folder, seen by one of them. Chunks are named by id; times are of any monotonic clock."""

    def __init__(self, own: bytes) -> None:
        self.own = own
        self.rivals: dict[bytes, _Rival] = {}
        self._own_seed = _seed(own)
        self._former: dict[bytes, tuple[_Rival, float]] = {}  # those that left, and when

    def set_rivals(self, devices: Iterable[bytes], now: float) -> None:
        """Say who they are now; no chunk may be open. One that left and comes again is not waited for anew."""
        known, self.rivals = self.rivals, {}
        for device in sorted(devices):
            rival = known.pop(device) if device in known else self._again(device, now)
            self.rivals[device] = rival
        self._former.update((device, (rival, now)) for device, rival in known.items())

    def _again(self, device: bytes, now: float) -> _Rival:
        former, left_at = self._former.pop(device, (None, 0.0))
        if former is None or now - left_at > REMEMBERED:
            return _Rival(now, now, _seed(device))
        away = now - left_at
        return _Rival(former.since + away, former.news_at + away, former.seed, told=former.told)

    def owner(self, chunk: bytes) -> bytes:
        """Return the device whose share a chunk is in."""
        value = int.from_bytes(chunk[:8])
        best, owner = _rank(value, self._own_seed), self.own
        for device, rival in self.rivals.items():
            rank = _rank(value, rival.seed)
            if (rank, device) > (best, owner):
                best, owner = rank, device
        return owner

    def on_open(self, chunk: bytes, length: int, owner: bytes | None) -> None:
        """A chunk is wanted, and nobody is asked for it."""
        for rival in self.rivals.values():
            if chunk in rival.has:
                rival.offers[chunk] = None
        if owner in self.rivals:
            self.rivals[owner].left += length

    def on_taken(self, chunk: bytes, length: int, owner: bytes | None) -> None:
        """It is asked for, or wanted no more."""
        if owner in self.rivals:
            self.rivals[owner].left -= length

    def on_have(self, device: bytes, chunk: bytes, length: int, now: float) -> None:
        """A rival says that it has a chunk. `length`: its bytes, 0 when it is not wanted here now."""
        rival = self.rivals.get(device)
        if rival is None:
            return
        if chunk not in rival.has:
            if self.owner(chunk) == device:
                rival.told += length
                rival.news_at = now
            rival.has[chunk] = None
            if len(rival.has) > KNOWN:
                rival.has.popitem(last=False)
        rival.offers[chunk] = None

    def is_late(self, device: bytes, now: float) -> bool:
        """Return whether a rival's share is not to be waited for."""
        rival = self.rivals.get(device)
        if rival is None:
            return True
        if now - rival.news_at > STALL:
            return True
        rate = rival.told / max(now - rival.since, 0.5)
        return now - rival.since > STALL and rival.left > TAIL * rate

    def offers(self, device: bytes) -> OrderedDict[bytes, None]:
        """Return what a rival said that it has, and that may be open; the caller removes what is not."""
        rival = self.rivals.get(device)
        return rival.offers if rival is not None else OrderedDict()


def _seed(device: bytes) -> int:
    return int.from_bytes(blake3.blake3(b"shoal share" + device).digest(8))


def _rank(chunk: int, seed: int) -> int:
    value = ((chunk ^ seed) * _MIX) & _MASK
    return ((value ^ (value >> 32)) * _MIX) & _MASK
