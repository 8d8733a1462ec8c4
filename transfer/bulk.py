"""The bulk channel: frames of the exchange protocol over plain TCP connections (lanes) beside libp2p. No I/O here.

The taker (whose exchange it is) and the giver agree over an authenticated libp2p stream of `/shoal/bulk/1`, in frames
of a `FrameStream`, integers big-endian:

    taker -> giver   B  lanes u8, then a cipher u8 each, the quickest here first
    giver -> taker   Y  cipher u8, port u16 (0: it cannot be dialled), secret 32, a token of 16 for each lane
                     N  the giver has no room, or no cipher is common: the exchange goes over libp2p
    taker -> giver   R  port u16: it could not reach the giver, which may dial the taker's port instead

Whoever dials opens a TCP connection for each token, to the address that the other's libp2p connection comes from. A
token is good once, for `TICKET_SECONDS`, for the device it was given to. The libp2p stream stays open beside: when it
ends, the lanes end, and the other way round.

    dialler -> listener   b"shoalbk1" || token || box 0, which is empty
    listener -> dialler   box 0, which is empty
    then, both ways       length u32 || box, boxes numbered from 1

Length is that of the box: a frame of the exchange protocol and the cipher's tag. An empty box ends its direction; a
connection that ends without was cut. Keys are BLAKE3's derive_key, context `CONTEXT`, of secret || token || (b"g" for
what the giver sends, b"t" for the taker; b"G" and b"T" after an R). Frames of the taker travel on the first lane, in
order; the giver's on any.

What it is to withstand is in docs/PROTOCOL.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import blake3

from shoal.transfer.aead import KEY_SIZE, BadBox, BoxKey, Cipher, wipe
from shoal.transfer.messages import CHUNK_HEAD, CHUNKS_HEAD, MAX_FRAME

PROTOCOL = "/shoal/bulk/1"
MAX_OFFER = 1024  # bytes of a frame in which the channel is agreed on
MAX_LANES = 8
TOKEN_SIZE = 16
TICKET_SECONDS = 15.0
MAGIC = b"shoalbk1"
CONTEXT = "shoal 2026-11 bulk channel"
HEADER = 4
MAX_TAG = 32
IN_PLACE = 32 * 1024  # bytes up to which a box is sealed or opened at once: less than the way to a thread costs

Role = Literal["giver", "taker"]
Take = Callable[[int], memoryview]
"""Returns a buffer of so many bytes, of any content."""


class BadBulk(Exception):
    """The peer sent what the bulk channel does not allow, or somebody else did."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The taker would like a bulk channel."""

    lanes: int
    ciphers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """The giver agrees."""

    cipher: Cipher
    port: int
    secret: bytes
    tokens: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The giver would rather not."""


@dataclass(frozen=True, slots=True)
class DialMe:
    """The taker cannot reach the giver."""

    port: int


Offer = Ask | Grant | Refusal | DialMe


def encode_offer(offer: Offer) -> bytes:
    """Return the message as one frame."""
    match offer:
        case Ask(lanes, ciphers):
            return b"B" + bytes((lanes, *ciphers))
        case Grant(cipher, port, secret, tokens):
            return b"".join((b"Y", bytes((cipher,)), port.to_bytes(2), secret, *tokens))
        case DialMe(port):
            return b"R" + port.to_bytes(2)
        case Refusal():
            return b"N"


def decode_offer(frame: bytes) -> Offer:
    """Read a message. Raises BadBulk."""
    body = frame[1:]
    match frame[:1]:
        case b"B" if 2 <= len(body) <= 33 and 0 < body[0] <= MAX_LANES:
            return Ask(body[0], tuple(body[1:]))
        case b"Y":
            count, rest = divmod(len(body) - 3 - KEY_SIZE, TOKEN_SIZE)
            if not rest and 0 < count <= MAX_LANES and body[0] in tuple(Cipher):
                at = 3 + KEY_SIZE
                tokens = tuple(body[at + n * TOKEN_SIZE : at + (n + 1) * TOKEN_SIZE] for n in range(count))
                if len(set(tokens)) == count:
                    return Grant(Cipher(body[0]), int.from_bytes(body[1:3]), body[3:at], tokens)
        case b"R" if len(body) == 2:
            return DialMe(int.from_bytes(body))
        case b"N" if not body:
            return Refusal()
    raise BadBulk("not a message of this protocol")


@dataclass(frozen=True, slots=True)
class LaneKeys:
    """The keys of one lane, as one of its ends has them."""

    sending: BoxKey
    receiving: BoxKey

    def wipe(self) -> None:
        """Forget both."""
        self.sending.wipe()
        self.receiving.wipe()


def lane_keys(grant: Grant, role: Role, *, reverse: bool = False) -> dict[bytes, LaneKeys]:
    """Return token -> keys, for the end that is `role`. `reverse`: it is the giver that dials."""
    made = {}
    for token in grant.tokens:
        sides = (b"G", b"T") if reverse else (b"g", b"t")
        giver, taker = (_derive(grant.cipher, grant.secret + token + side) for side in sides)
        made[token] = LaneKeys(giver, taker) if role == "giver" else LaneKeys(taker, giver)
    return made


def _derive(cipher: Cipher, material: bytes) -> BoxKey:
    key = blake3.blake3(material, derive_key_context=CONTEXT).digest()
    made = BoxKey(cipher, key)
    wipe(key)
    wipe(material)
    return made


def prelude_size(cipher: Cipher) -> int:
    """Return how many bytes the dialler sends first."""
    return len(MAGIC) + TOKEN_SIZE + cipher.tag_size


def prelude(keys: LaneKeys, token: bytes) -> bytes:
    """Return what the dialler sends first."""
    return MAGIC + token + empty_box(keys)


def token_of(start: bytes) -> bytes:
    """Return the token in the first `len(MAGIC) + TOKEN_SIZE` bytes of a connection. Raises BadBulk."""
    if len(start) != len(MAGIC) + TOKEN_SIZE or not start.startswith(MAGIC):
        raise BadBulk("no prelude of a bulk channel")
    return start[len(MAGIC) :]


def empty_box(keys: LaneKeys) -> bytes:
    """Return box 0 of a direction: the proof of having the key."""
    box = bytearray(keys.sending.cipher.tag_size)
    keys.sending.seal(memoryview(box), 0)
    return bytes(box)


def check_empty_box(keys: LaneKeys, box: bytes) -> None:
    """Check the other's proof. Raises BadBulk."""
    try:
        if len(keys.receiving.open(memoryview(bytearray(box)), 0)) == 0:
            return
    except BadBox:
        pass
    raise BadBulk("a proof that is none")


class LaidOut(list[memoryview | None]):
    """Chunks, None where one is missing, that lie in a buffer as they do in the frame that they are sent in: with room
    before each, before all and behind."""

    def __init__(self, lengths: Sequence[int], take: Take) -> None:
        super().__init__()
        self.room = take(HEADER + CHUNKS_HEAD + sum(CHUNK_HEAD + length for length in lengths) + MAX_TAG)
        at = HEADER + CHUNKS_HEAD
        for length in lengths:
            at += CHUNK_HEAD
            self.append(self.room[at : at + length])
            at += length


class Sealer:
    """The sending half of a lane. Numbers are drawn in the order of sending; sealing itself may be done in a thread."""

    def __init__(self, key: BoxKey) -> None:
        self._key = key
        self._next = 1

    def draw_number(self) -> int:
        """Return the number of the next box to be sent."""
        self._next += 1
        return self._next - 1

    def seal(
        self, parts: Sequence[bytes | memoryview], number: int, take: Take, room: memoryview | None = None
    ) -> memoryview:
        """Return a frame, given in parts, as it goes over the wire, in a buffer of `take`; or in `room`, that of a
        `LaidOut`, where its chunks are in their places. Raises ValueError when it is over the limit."""
        size = sum(map(len, parts))
        if size > MAX_FRAME:
            raise ValueError(f"frame of {size} bytes is over the limit of {MAX_FRAME}")
        tag = self._key.cipher.tag_size
        wire = room[: HEADER + size + tag] if room is not None else take(HEADER + size + tag)
        wire[:HEADER] = (size + tag).to_bytes(HEADER)
        at = HEADER
        for part in parts:
            if room is None or not isinstance(part, memoryview):
                wire[at : at + len(part)] = part
            at += len(part)
        self._key.seal(wire[HEADER:], number)
        return wire


@dataclass(frozen=True, slots=True)
class Box:
    """A box as it came."""

    sealed: memoryview
    number: int


class Unsealer:
    """The receiving half of a lane: says where the next bytes are to be put, and makes boxes of them."""

    def __init__(self, key: BoxKey, max_frame: int, take: Take) -> None:
        """`take`: gives the buffers of boxes of some size."""
        self._key = key
        self._take = take
        self._tag = key.cipher.tag_size
        self._most = max_frame + self._tag
        self._header = memoryview(bytearray(HEADER))
        self._into = self._header
        self._filled = 0
        self._in_box = False
        self._next = 1

    def space(self) -> memoryview:
        """Return where the next bytes go; what is longer than they are is filled later."""
        return self._into[self._filled :]

    def fill(self, size: int) -> Box | None:
        """`size` bytes were put there: return the box that is whole with them. Raises BadBulk."""
        self._filled += size
        if self._filled < len(self._into):
            return None
        self._filled = 0
        if not self._in_box:
            length = int.from_bytes(self._header)
            if not self._tag <= length <= self._most:
                raise BadBulk(f"a box of {length} bytes")
            self._in_box = True
            self._into = self._take(length) if length > IN_PLACE else memoryview(bytearray(length))
            return None
        box = Box(self._into, self._next)
        self._next += 1
        self._into, self._in_box = self._header, False
        return box

    def open(self, box: Box) -> memoryview | None:
        """Open a box, in a thread perhaps; return the frame, None for the end. Raises BadBulk."""
        try:
            frame = self._key.open(box.sealed, box.number)
        except BadBox as error:
            raise BadBulk("a box that does not open: forged, damaged, repeated or out of order") from error
        return frame if len(frame) else None
