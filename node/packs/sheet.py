"""What is on a device's sheet of a folder's board (`crdt.board`), in canonical CBOR.

    about            {"zone": text, "offer": bytes that it holds of this folder at most, "plain": whether it has all of
                     the folder as files, "online": per mille of the time that it runs, "full": whether it takes no more
                     than it holds}
    b"d" + pack      a pack that there is: [size, root, k, m, roots of its pieces or empty, time_ms of the policy
                     that it is split by, epoch, sealed list of chunks]
    b"x" + pack      it is one no more: [time_ms]
    b"h" + pack + p  this device holds a part of it, on its disk: empty
    b"p" + zero      the folder's policy: [time_ms, copies, k, m, zones at least, grace seconds]
    b"t" + pack      it is read much from zones, which are to have a copy more for a time: [zone...]
    b"f" + device    that device failed an audit of this one's: [time_ms]

A part, 3 bytes, is k, m and index of a piece, or zeros for all of the pack: pieces of another code are other bytes, so
while a folder goes from one policy to another, who holds what is never mistaken.

What packs there are, and the policy, count of devices that may write to the folder. The newest policy counts, by time
and device; of a pack, how it is split by the newest policy. The list of chunks is 36 bytes for each: id, sealed size;
sealed as a log entry's body is. Who may not write says no more than `MOST_SAID` bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.crdt import codec
from shoal.transfer.packs import PACK_SIZE
from shoal.transfer.placement import Policy

DECLARED, DROPPED, HOLDS, POLICY, FAILED, HOT = b"d", b"x", b"h", b"p", b"f", b"t"
MOST_ZONES = 16  # that a pack is hot for
WHOLE = 0
PART = 3  # bytes of a part's number
MOST_PIECES = 64  # of k, and of m
MOST_SAID = 16 * 1024 * 1024
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


def part_of(k: int, m: int, index: int) -> int:
    """Return the number of a part: all of a pack is 0, where k is."""
    return k << 16 | m << 8 | index if k else WHOLE


def split_part(part: int) -> tuple[int, int, int]:
    """Return k, m and index of a part."""
    return part >> 16, part >> 8 & 255, part & 255


@dataclass(frozen=True, slots=True)
class Form:
    """What a pack is made of. `root`: of all of it; `roots`: of its pieces, where it is split into k + m of them;
    `time_ms`: of the policy that it is split by."""

    size: int
    root: bytes
    k: int = 0
    m: int = 0
    roots: tuple[bytes, ...] = ()
    time_ms: int = 0

    @property
    def pieces(self) -> int:
        """How many different pieces it has."""
        return self.k + self.m or 1

    def part(self, index: int) -> int:
        """Return the part that a piece is."""
        return part_of(self.k, self.m, index)

    def root_of(self, index: int) -> bytes:
        """Return the root of a piece."""
        return self.roots[index] if self.k else self.root

    def size_of(self, index: int) -> int:
        """Return the bytes of a piece."""
        return -(-self.size // self.k) if self.k else self.size


@dataclass(frozen=True, slots=True)
class Declared:
    """A pack, as a device says that there is one. `epoch`: of the keys that its chunks, and its list of them, `sealed`,
    are sealed by."""

    form: Form
    epoch: int
    sealed: bytes

    def encode(self) -> bytes:
        form = self.form
        roots = b"".join(form.roots)
        return codec.encode([form.size, form.root, form.k, form.m, roots, form.time_ms, self.epoch, self.sealed])

    @classmethod
    def decode(cls, data: bytes) -> Declared:
        """Raises Malformed."""
        size, root, k, m, roots, time_ms, epoch, sealed = codec.as_list(codec.decode(data, 1 << 20), length=8)
        k, m = codec.as_int(k, most=MOST_PIECES), codec.as_int(m, most=MOST_PIECES)
        joined = codec.as_bytes(roots, 32 * (k + m))
        split = tuple(joined[at : at + 32] for at in range(0, len(joined), 32))
        codec.as_int(size, least=1, most=PACK_SIZE)
        if m and not k:
            raise codec.Malformed("pieces of no code")
        form = Form(size, codec.as_bytes(root, 32), k, m, split, codec.as_int(time_ms))
        return cls(form, codec.as_int(epoch, most=1 << 63), codec.as_bytes(sealed))


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
        if k > MOST_PIECES or m > MOST_PIECES or not 1 <= grace <= MOST_GRACE:
            raise codec.Malformed("a policy that nobody can follow")
        return cls(policy, grace, time_ms)
