"""Device ids as libp2p peer ids, without importing libp2p: the identity multihash of the public key's protobuf."""

from __future__ import annotations

from shoal.crdt.model import DeviceId

_PREFIX = bytes.fromhex("002408011220")  # identity multihash, 36 bytes; protobuf: type Ed25519, 32 bytes of key
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def peer_id_bytes(device: DeviceId) -> bytes:
    """Return the peer id as libp2p's bytes."""
    return _PREFIX + device


def peer_id_text(device: DeviceId) -> str:
    """Return the peer id in base58, `12D3Koo...`."""
    number = int.from_bytes(_PREFIX + device)
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" + text  # the prefix starts with one zero byte


def device_from_bytes(peer_id: bytes) -> DeviceId:
    """Return the device of a peer id. Raises ValueError when it is not an Ed25519 key's."""
    if len(peer_id) != 38 or not peer_id.startswith(_PREFIX):
        raise ValueError("not the peer id of an Ed25519 key")
    return DeviceId(peer_id[len(_PREFIX) :])


def device_from_text(text: str) -> DeviceId:
    """Read `12D3Koo...`. Raises ValueError."""
    number = 0
    for character in text:
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise ValueError(f"{text!r} is not a peer id")
        number = number * 58 + digit
    if number.bit_length() > 38 * 8:
        raise ValueError(f"{text!r} is not a peer id")
    return device_from_bytes(number.to_bytes(38))
