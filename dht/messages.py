"""Messages of the DHT: protobuf as in `/ipfs/kad/1.0.0` (libp2p specs, kad-dht), so that other libp2p implementations
can ask; each frame is led by its length as an unsigned varint.

    Message   type 1, key 2, record 3, closerPeers 8 (repeated), providerPeers 9 (repeated), clusterLevelRaw 10
    Peer      id 1, addrs 2 (repeated), connection 3
    Record    key 1, value 2, timeReceived 5
    types     PUT_VALUE 0, GET_VALUE 1, ADD_PROVIDER 2, GET_PROVIDERS 3, FIND_NODE 4, PING 5

and, beyond those specs, where others skip it:

    Message   senderRecord 11: the signed peer record of who asks, if it answers questions itself
              keys 16 (repeated): of an ADD_PROVIDER for many keys at once; it is answered by one that has the keys
              which were refused
    Peer      signedRecord 4: what the peer itself says of its addresses, see `peer_records`

Read strictly in size and number, and leniently in what is not known, which protobuf skips.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from shoal.dht.protobuf import Malformed, field, fields, number_field

MAX_MESSAGE = 64 * 1024
MAX_PEERS = 64
MAX_ADDRESSES = 16
MAX_KEY = 256
MAX_KEYS = 1500
MAX_RECORD = 4096
MAX_ADDRESS = 512
MAX_VALUE = 16 * 1024


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
    number them; `record`: its signed peer record, or b""."""

    id: bytes
    addresses: tuple[bytes, ...] = ()
    connection: int = 0
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Record:
    """A value that is kept under a key."""

    key: bytes
    value: bytes
    received: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A question or an answer. `sender`: the signed peer record of who sends it, or b""; `keys`: of a batch."""

    type: Type
    key: bytes = b""
    record: Record | None = None
    closer: tuple[Peer, ...] = ()
    providers: tuple[Peer, ...] = ()
    sender: bytes = b""
    keys: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the message's bytes, without the length before it."""
        out = number_field(1, self.type) if self.type else b""
        out += field(2, self.key) if self.key else b""
        if self.record is not None:
            record = field(1, self.record.key) + field(2, self.record.value)
            record += field(5, self.record.received.encode()) if self.record.received else b""
            out += field(3, record)
        out += b"".join(field(8, _encode_peer(peer)) for peer in self.closer)
        out += b"".join(field(9, _encode_peer(peer)) for peer in self.providers)
        out += field(11, self.sender) if self.sender else b""
        return out + b"".join(field(16, key) for key in self.keys)

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Raises Malformed."""
        if len(data) > MAX_MESSAGE:
            raise Malformed("a message that is too large")
        kind, key, record, sender = 0, b"", None, b""
        keys: list[bytes] = []
        closer: list[Peer] = []
        providers: list[Peer] = []
        for number, value in fields(data):
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
                case 11, bytes(sender):
                    pass
                case 16, bytes(encoded):
                    keys.append(encoded)
                case ((1 | 2 | 3 | 8 | 9 | 11 | 16), _):
                    raise Malformed("a field of another kind")
        if len(keys) > MAX_KEYS or len(sender) > MAX_RECORD:
            raise Malformed("more than one message may say")
        if len(key) > MAX_KEY or any(not 0 < len(each) <= MAX_KEY for each in keys):
            raise Malformed("a key that is none")
        try:
            named = tuple(closer[:MAX_PEERS]), tuple(providers[:MAX_PEERS])  # others set no limit
            return cls(Type(kind), key, record, *named, sender, tuple(keys))
        except ValueError as error:
            raise Malformed("a message of no known type") from error


def _encode_peer(peer: Peer) -> bytes:
    out = field(1, peer.id) + b"".join(field(2, address) for address in peer.addresses)
    out += number_field(3, peer.connection) if peer.connection else b""
    return out + (field(4, peer.record) if peer.record else b"")


def _decode_peer(data: bytes) -> Peer:
    peer, connection, record = b"", 0, b""
    addresses: list[bytes] = []
    for number, value in fields(data):
        match number, value:
            case 1, bytes(peer):
                pass
            case 2, bytes(address):
                addresses.append(address)
            case 3, int(connection):
                pass
            case 4, bytes(record):
                pass
            case ((1 | 2 | 3 | 4), _):
                raise Malformed("a field of another kind")
    if not peer or len(peer) > MAX_KEY or connection > 3 or len(record) > MAX_RECORD:
        raise Malformed("a peer that is none")
    fit = [address for address in addresses if len(address) <= MAX_ADDRESS]
    return Peer(peer, tuple(fit[:MAX_ADDRESSES]), connection, record)


def _decode_record(data: bytes) -> Record:
    key, value, received = b"", b"", ""
    for number, found in fields(data):
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
