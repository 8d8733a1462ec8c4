"""Messages of the DHT: protobuf as in `/ipfs/kad/1.0.0` (libp2p specs, kad-dht), so that other libp2p implementations
can ask; each frame is led by its length as an unsigned varint.

    Message   type 1, key 2, record 3, closerPeers 8 (repeated), providerPeers 9 (repeated), clusterLevelRaw 10
    Peer      id 1, addrs 2 (repeated), connection 3
    Record    key 1, value 2, timeReceived 5
    types     PUT_VALUE 0, GET_VALUE 1, ADD_PROVIDER 2, GET_PROVIDERS 3, FIND_NODE 4, PING 5

Read strictly in size and number, and leniently in what is not known, which protobuf skips. Written and read by hand:
two kinds of fields, and limits that a generated parser does not keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MAX_MESSAGE = 64 * 1024
MAX_PEERS = 64
MAX_ADDRESSES = 16
MAX_KEY = 256
MAX_ADDRESS = 512
MAX_VALUE = 16 * 1024
_VARINT, _BYTES = 0, 2  # wire types


class Malformed(Exception):
    """Not a message of this protocol, or over a limit; the message says why."""


class Type(IntEnum):
    """What is asked or told."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that is named. `id`: peer id bytes; `addresses`: multiaddrs, binary; `connection`: 0 to 3, as the specs
    number them."""

    id: bytes
    addresses: tuple[bytes, ...] = ()
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A value that is kept under a key."""

    key: bytes
    value: bytes
    received: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A question or an answer."""

    type: Type
    key: bytes = b""
    record: Record | None = None
    closer: tuple[Peer, ...] = ()
    providers: tuple[Peer, ...] = ()

    def encode(self) -> bytes:
        """Return the message's bytes, without the length before it."""
        out = _number(1, self.type) if self.type else b""
        out += _field(2, self.key) if self.key else b""
        if self.record is not None:
            record = _field(1, self.record.key) + _field(2, self.record.value)
            record += _field(5, self.record.received.encode()) if self.record.received else b""
            out += _field(3, record)
        out += b"".join(_field(8, _encode_peer(peer)) for peer in self.closer)
        return out + b"".join(_field(9, _encode_peer(peer)) for peer in self.providers)

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Raises Malformed."""
        if len(data) > MAX_MESSAGE:
            raise Malformed("a message that is too large")
        kind, key, record = 0, b"", None
        closer: list[Peer] = []
        providers: list[Peer] = []
        for number, value in _fields(data):
            match number, value:
                case 1, int(kind):
                    pass
                case 2, bytes(key):
                    pass
                case 3, bytes(encoded):
                    record = _decode_record(encoded)
                case 8, bytes(encoded):
                    closer.append(_decode_peer(encoded))
                case 9, bytes(encoded):
                    providers.append(_decode_peer(encoded))
                case ((1 | 2 | 3 | 8 | 9), _):
                    raise Malformed("a field of another kind")
            if len(closer) > MAX_PEERS or len(providers) > MAX_PEERS or len(key) > MAX_KEY:
                raise Malformed("more than one message may say")
        try:
            return cls(Type(kind), key, record, tuple(closer), tuple(providers))
        except ValueError as error:
            raise Malformed("a message of no known type") from error


def with_length(data: bytes) -> bytes:
    """Return a frame: the length as a varint, then the data."""
    return varint(len(data)) + data


def varint(number: int) -> bytes:
    """Return an unsigned LEB128 number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number, and where what follows it begins. Raises Malformed."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a number that does not end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = read_varint(data, at)
            yield number, value
        elif wire == _BYTES:
            size, at = read_varint(data, at)
            if size > len(data) - at:
                raise Malformed("a field that does not end")
            yield number, data[at : at + size]
            at += size
        elif wire in (1, 5):  # fixed sizes, of fields that are not known
            at += 8 if wire == 1 else 4
            if at > len(data):
                raise Malformed("a field that does not end")
        else:
            raise Malformed("a field of no known kind")


def _number(field: int, value: int) -> bytes:
    return varint(field << 3 | _VARINT) + varint(value)


def _field(field: int, value: bytes) -> bytes:
    return varint(field << 3 | _BYTES) + varint(len(value)) + value


def _encode_peer(peer: Peer) -> bytes:
    out = _field(1, peer.id) + b"".join(_field(2, address) for address in peer.addresses)
    return out + (_number(3, peer.connection) if peer.connection else b"")


def _decode_peer(data: bytes) -> Peer:
    peer, connection = b"", 0
    addresses: list[bytes] = []
    for number, value in _fields(data):
        match number, value:
            case 1, bytes(peer):
                pass
            case 2, bytes(address):
                addresses.append(address)
            case 3, int(connection):
                pass
            case ((1 | 2 | 3), _):
                raise Malformed("a field of another kind")
    if not peer or len(peer) > MAX_KEY or connection > 3:
        raise Malformed("a peer that is none")
    if len(addresses) > MAX_ADDRESSES or any(len(address) > MAX_ADDRESS for address in addresses):
        raise Malformed("a peer with too many addresses")
    return Peer(peer, tuple(addresses), connection)


def _decode_record(data: bytes) -> Record:
    key, value, received = b"", b"", ""
    for number, found in _fields(data):
        match number, found:
            case 1, bytes(key):
                pass
            case 2, bytes(value):
                pass
            case 5, bytes(encoded):
                received = encoded[:64].decode("utf-8", "replace")
            case ((1 | 2 | 5), _):
                raise Malformed("a field of another kind")
    if len(key) > MAX_KEY or len(value) > MAX_VALUE:
        raise Malformed("a record that is too large")
    return Record(key, value, received)
