"""What a peer says of its own addresses, signed: libp2p's signed envelope (RFC 0002) with a peer record (RFC 0003).

    Envelope     public_key 1, payload_type 2, payload 3, signature 5
    PeerRecord   peer_id 1, seq 2, addresses 3 (repeated: multiaddr 1)

Whoever passes a record on cannot change it, and the one with the greatest `seq` is the newest. Only Ed25519 keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import nacl.bindings
import nacl.exceptions

from shoal.dht.keyspace import PeerId
from shoal.dht.protobuf import Malformed, field, fields, number_field, varint

MOST_ADDRESSES = 16
MOST_BYTES = 2048
_DOMAIN = b"libp2p-peer-record"
_PAYLOAD_TYPE = b"\x03\x01"
_PEER_PREFIX = bytes.fromhex("0024")  # identity multihash of the 36 bytes of the key
_KEY_PREFIX = bytes.fromhex("08011220")  # protobuf: type Ed25519, 32 bytes


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """`seq`: Unix milliseconds when it was made; `addresses`: binary multiaddrs; `envelope`: as it was signed."""

    peer: PeerId
    seq: int
    addresses: tuple[bytes, ...]
    envelope: bytes


def make(peer: PeerId, seq: int, addresses: tuple[bytes, ...], sign: Callable[[bytes], bytes]) -> PeerRecord:
    """Return this peer's own record. `sign`: with the key that the peer id is of."""
    payload = field(1, peer) + number_field(2, seq)
    payload += b"".join(field(3, field(1, address)) for address in addresses[:MOST_ADDRESSES])
    signature = sign(_signed(payload))
    envelope = field(1, peer[2:]) + field(2, _PAYLOAD_TYPE) + field(3, payload) + field(5, signature)
    return PeerRecord(peer, seq, addresses[:MOST_ADDRESSES], envelope)


def read(envelope: bytes) -> PeerRecord:
    """Check a record's signature and return it. Raises Malformed."""
    if len(envelope) > MOST_BYTES:
        raise Malformed("a peer record that is too large")
    key, kind, payload, signature = (_only(envelope, number) for number in (1, 2, 3, 5))
    if not key.startswith(_KEY_PREFIX) or len(key) != 36 or kind != _PAYLOAD_TYPE or len(signature) != 64:
        raise Malformed("not a peer record of an Ed25519 key")
    try:
        nacl.bindings.crypto_sign_open(signature + _signed(payload), key[4:])
    except nacl.exceptions.CryptoError as error:
        raise Malformed("a peer record that was not signed by its peer") from error
    peer, seq, addresses = b"", 0, []
    for number, value in fields(payload):
        match number, value:
            case 1, bytes(peer):
                pass
            case 2, int(seq):
                pass
            case 3, bytes(address):
                addresses.append(_only(address, 1))
    if peer != _PEER_PREFIX + key or len(addresses) > MOST_ADDRESSES:
        raise Malformed("a peer record of another peer, or with too many addresses")
    return PeerRecord(PeerId(peer), seq, tuple(addresses), envelope)


def _signed(payload: bytes) -> bytes:
    return b"".join(varint(len(part)) + part for part in (_DOMAIN, _PAYLOAD_TYPE, payload))


def _only(data: bytes, wanted: int) -> bytes:
    found = b""
    for number, value in fields(data):
        if number == wanted and isinstance(value, bytes):
            found = value
    return found
