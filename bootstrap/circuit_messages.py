"""Messages of circuit relay v2 and of hole punching, as libp2p's specs have them (relay/circuit-v2, relay/DCUtR):
protobuf, each frame led by its length as an unsigned varint, 4 KiB at most.

    HopMessage    type 1 (RESERVE 0, CONNECT 1, STATUS 2), peer 2, reservation 3, limit 4, status 5
    StopMessage   type 1 (CONNECT 0, STATUS 1), peer 2, limit 3, status 4
    Peer          id 1, addrs 2 (repeated)
    Reservation   expire 1 (Unix seconds), addrs 2 (repeated), voucher 3
    Limit         duration 1 (seconds), data 2 (bytes)
    HolePunch     type 1 (CONNECT 100, SYNC 300), ObsAddrs 2 (repeated)

A HOP stream goes to the relay, a STOP stream from the relay to the target; after an OK both carry the circuit's bytes.
Read strictly in size and number; fields that are not known are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import trio

from shoal.dht.protobuf import Malformed, field, fields, number_field, read_varint, with_length
from shoal.transfer.stream import ByteStream, StreamClosed

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
DCUTR = "/libp2p/dcutr"

MAX_MESSAGE = 4096  # bytes
MAX_ADDRESSES = 16
MAX_ADDRESS = 512  # bytes
MAX_ID = 128  # bytes

E = TypeVar("E", bound=IntEnum)


class HopType(IntEnum):
    """What is asked of a relay."""

    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopType(IntEnum):
    """What a relay tells the target of a circuit."""

    CONNECT = 0
    STATUS = 1


class PunchType(IntEnum):
    """The steps of DCUtR."""

    CONNECT = 100
    SYNC = 300


class Status(IntEnum):
    """How a request ended."""

    UNUSED = 0
    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True, slots=True)
class CircuitPeer:
    """Who is asked for, or asks: peer id bytes, and addresses as binary multiaddrs."""

    id: bytes
    addresses: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """A place at a relay. `expires`: Unix seconds; `addresses`: the relay's, binary multiaddrs."""

    expires: int
    addresses: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class CircuitLimit:
    """What a circuit may carry: `seconds` and `size` (bytes, each way), 0 for any."""

    seconds: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class HopMessage:
    """Between a peer and a relay."""

    type: HopType
    peer: CircuitPeer | None = None
    reservation: Reservation | None = None
    limit: CircuitLimit | None = None
    status: Status = Status.UNUSED

    def encode(self) -> bytes:
        """Return the message's bytes, without the length before it."""
        out = number_field(1, self.type)
        out += field(2, _encode_peer(self.peer)) if self.peer is not None else b""
        out += field(3, _encode_reservation(self.reservation)) if self.reservation is not None else b""
        out += field(4, _encode_limit(self.limit)) if self.limit is not None else b""
        return out + (number_field(5, self.status) if self.status else b"")

    @classmethod
    def decode(cls, data: bytes) -> HopMessage:
        """Raises Malformed."""
        kind, peer, reservation, limit, status = 0, None, None, None, 0
        for number, value in fields(data):
            match number, value:
                case 1, int(kind):
                    pass
                case 2, bytes(encoded):
                    peer = _decode_peer(encoded)
                case 3, bytes(encoded):
                    reservation = _decode_reservation(encoded)
                case 4, bytes(encoded):
                    limit = _decode_limit(encoded)
                case 5, int(status):
                    pass
                case ((1 | 2 | 3 | 4 | 5), _):
                    raise Malformed("a field of another kind")
        return cls(_known(HopType, kind), peer, reservation, limit, _known(Status, status))


@dataclass(frozen=True, slots=True)
class StopMessage:
    """Between a relay and the target of a circuit. `peer`: who asks for it."""

    type: StopType
    peer: CircuitPeer | None = None
    limit: CircuitLimit | None = None
    status: Status = Status.UNUSED

    def encode(self) -> bytes:
        """Return the message's bytes, without the length before it."""
        out = number_field(1, self.type)
        out += field(2, _encode_peer(self.peer)) if self.peer is not None else b""
        out += field(3, _encode_limit(self.limit)) if self.limit is not None else b""
        return out + (number_field(4, self.status) if self.status else b"")

    @classmethod
    def decode(cls, data: bytes) -> StopMessage:
        """Raises Malformed."""
        kind, peer, limit, status = 0, None, None, 0
        for number, value in fields(data):
            match number, value:
                case 1, int(kind):
                    pass
                case 2, bytes(encoded):
                    peer = _decode_peer(encoded)
                case 3, bytes(encoded):
                    limit = _decode_limit(encoded)
                case 4, int(status):
                    pass
                case ((1 | 2 | 3 | 4), _):
                    raise Malformed("a field of another kind")
        return cls(_known(StopType, kind), peer, limit, _known(Status, status))


@dataclass(frozen=True, slots=True)
class PunchMessage:
    """A step of DCUtR. `addresses`: where the sender may be reached, binary multiaddrs."""

    type: PunchType
    addresses: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the message's bytes, without the length before it."""
        return number_field(1, self.type) + b"".join(field(2, address) for address in self.addresses)

    @classmethod
    def decode(cls, data: bytes) -> PunchMessage:
        """Raises Malformed."""
        kind = 0
        addresses: list[bytes] = []
        for number, value in fields(data):
            match number, value:
                case 1, int(kind):
                    pass
                case 2, bytes(address):
                    addresses.append(address)
                case ((1 | 2), _):
                    raise Malformed("a field of another kind")
        return cls(_known(PunchType, kind), _addresses(addresses))


async def send_message(stream: ByteStream, message: HopMessage | StopMessage | PunchMessage) -> None:
    """Send one frame. Raises StreamClosed."""
    await stream.send_all(with_length(message.encode()))


async def receive_message(stream: ByteStream, seconds: float) -> bytes:
    """Return the next frame's bytes, and read nothing that follows it. Raises StreamClosed, and when it takes longer
    than that; Malformed."""
    with trio.move_on_after(seconds):
        head = b""
        while not head or head[-1] >= 0x80:
            if len(head) == 2:  # 4096 takes two
                raise Malformed("a message that is too large")
            head += await _exactly(stream, 1)
        size, _ = read_varint(head, 0)
        if size > MAX_MESSAGE:
            raise Malformed("a message that is too large")
        return await _exactly(stream, size)
    raise StreamClosed("no message came in time")


async def _exactly(stream: ByteStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise StreamClosed("the stream ended inside a message")
        data += more
    return data


def _known(kind: type[E], value: int) -> E:
    try:
        return kind(value)
    except ValueError as error:
        raise Malformed(f"no known {kind.__name__}") from error


def _addresses(found: list[bytes]) -> tuple[bytes, ...]:
    if len(found) > MAX_ADDRESSES or any(len(address) > MAX_ADDRESS for address in found):
        raise Malformed("too many addresses")
    return tuple(found)


def _encode_peer(peer: CircuitPeer) -> bytes:
    return field(1, peer.id) + b"".join(field(2, address) for address in peer.addresses)


def _decode_peer(data: bytes) -> CircuitPeer:
    peer = b""
    addresses: list[bytes] = []
    for number, value in fields(data):
        match number, value:
            case 1, bytes(peer):
                pass
            case 2, bytes(address):
                addresses.append(address)
            case ((1 | 2), _):
                raise Malformed("a field of another kind")
    if not 0 < len(peer) <= MAX_ID:
        raise Malformed("a peer that is none")
    return CircuitPeer(peer, _addresses(addresses))


def _encode_reservation(reservation: Reservation) -> bytes:
    return number_field(1, reservation.expires) + b"".join(field(2, address) for address in reservation.addresses)


def _decode_reservation(data: bytes) -> Reservation:
    expires = 0
    addresses: list[bytes] = []
    for number, value in fields(data):
        match number, value:
            case 1, int(expires):
                pass
            case 2, bytes(address):
                addresses.append(address)
            case ((1 | 2), _):
                raise Malformed("a field of another kind")
    return Reservation(expires, _addresses(addresses))


def _encode_limit(limit: CircuitLimit) -> bytes:
    return number_field(1, limit.seconds) + number_field(2, limit.size)


def _decode_limit(data: bytes) -> CircuitLimit:
    seconds = size = 0
    for number, value in fields(data):
        match number, value:
            case 1, int(seconds):
                pass
            case 2, int(size):
                pass
            case ((1 | 2), _):
                raise Malformed("a field of another kind")
    return CircuitLimit(seconds, size)
