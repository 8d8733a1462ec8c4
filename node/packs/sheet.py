"""What is on a device's sheet of a folder's board (`crdt.board`), in canonical CBOR.

    about            {"zone": text, "offer": bytes that it holds of this folder at most, "plain": whether it has all of
                     the folder as files, "online": per mille of the time that it runs, "full": whether it takes no more
                     than it holds}
    b"d" + pack      a pack that there is: [size, root, k, m, roots of its pieces or empty, epoch, sealed list of
                     chunks]
    b"x" + pack      it is one no more: [time_ms]
    b"h" + pack + i  this device holds piece i of it, on its disk: empty
    b"p" + zero      the folder's policy: [time_ms, copies, k, m, zones at least, grace seconds]
    b"t" + pack      it is read much from zones, which are to have a copy more for a time: [zone...]
    b"f" + device    that device failed an audit of this one's: [time_ms]

What packs there are, and the policy, count of devices that may write to the folder. The newest policy counts, by time
and device. The list of chunks is 36 bytes for each: id, sealed size; sealed as a log entry's body is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.crdt import codec
from shoal.transfer.packs import PACK_SIZE
from shoal.transfer.placement import Policy

DECLARED, DROPPED, HOLDS, POLICY, FAILED, HOT = b"d", b"x", b"h", b"p", b"f", b"t"
MOST_ZONES = 16  # that a pack is hot for
POLICY_KEY = POLICY + b"\0"
GRACE = 24 * 3600  # seconds
MOST_GRACE = 365 * 24 * 3600
MAX_ZONE = 64
MAX_OFFER = 1 << 60


@dataclass(frozen=True, slots=True)
class About:
    """What a device says of itself."""

    zone: str = ""
    offer: int = 0
    plain: bool = False
    online: int = 1000
    full: bool = False

    def encode(self) -> bytes:
        return codec.encode(
            {
                "zone": self.zone,
                "offer": self.offer,
                "plain": self.plain,
                "online": self.online,
                "full": self.full,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> About:
        """Raises Malformed."""
        said = codec.decode(data, 4096)
        if not isinstance(said, dict):
            raise codec.Malformed("not what a device says of itself")
        return cls(
            codec.as_text(said.get("zone", ""), MAX_ZONE),
            codec.as_int(said.get("offer", 0), most=MAX_OFFER),
            codec.as_bool(said.get("plain", False)),
            codec.as_int(said.get("online", 1000), most=1000),
            codec.as_bool(said.get("full", False)),
        )


@dataclass(frozen=True, slots=True)
class Declared:
    """A pack. `root`: of all of it; `roots`: of its pieces, where it is split into k + m of them; `epoch`: of the keys
    that its chunks and its list of them, `sealed`, are sealed by."""

    size: int
    root: bytes
    k: int
    m: int
    roots: tuple[bytes, ...]
    epoch: int
    sealed: bytes

    def encode(self) -> bytes:
        fields = [self.size, self.root, self.k, self.m, b"".join(self.roots), self.epoch, self.sealed]
        return codec.encode(fields)

    @classmethod
    def decode(cls, data: bytes) -> Declared:
        """Raises Malformed."""
        size, root, k, m, roots, epoch, sealed = codec.as_list(codec.decode(data, 1 << 20), length=7)
        k, m = codec.as_int(k, most=64), codec.as_int(m, most=64)
        joined = codec.as_bytes(roots, 32 * (k + m))
        split = tuple(joined[at : at + 32] for at in range(0, len(joined), 32))
        codec.as_int(size, least=1, most=PACK_SIZE)
        if m and not k:
            raise codec.Malformed("pieces of no code")
        return cls(
            size, codec.as_bytes(root, 32), k, m, split, codec.as_int(epoch, most=1 << 63), codec.as_bytes(sealed)
        )

    @property
    def pieces(self) -> int:
        """How many different pieces it has."""
        return self.k + self.m or 1

    def root_of(self, index: int) -> bytes:
        """Return the root of a piece."""
        return self.roots[index] if self.k else self.root

    def size_of(self, index: int) -> int:
        """Return the bytes of a piece."""
        return -(-self.size // self.k) if self.k else self.size


@dataclass(frozen=True, slots=True)
class FolderPolicy:
    """How a folder's packs are to be held. `grace`: seconds for which a holder may be away before it is replaced."""

    policy: Policy = field(default_factory=Policy)
    grace: int = GRACE
    time_ms: int = 0

    def encode(self) -> bytes:
        p = self.policy
        return codec.encode([self.time_ms, p.copies, p.k, p.m, p.min_zones, self.grace])

    @classmethod
    def decode(cls, data: bytes) -> FolderPolicy:
        """Raises Malformed."""
        time_ms, copies, k, m, zones, grace = map(codec.as_int, codec.as_list(codec.decode(data, 256), length=6))
        try:
            policy = Policy(copies, k, m, zones)
        except ValueError as error:
            raise codec.Malformed(str(error)) from error
        if k > 64 or m > 64 or not 1 <= grace <= MOST_GRACE:
            raise codec.Malformed("a policy that nobody can follow")
        return cls(policy, grace, time_ms)
