"""What a device says of its account's devices: signed statements, each linked by hash to the newest its author knew.

    statement = CBOR [fields..., signature];   hash = BLAKE3 of the statement;   account id = hash of the genesis
    genesis   fields = ["genesis", device, name, time_ms]
    add       fields = ["add", account, links, device, name, time_ms, by]              a device joins
    paper     fields = ["paper", account, links, device, name, consent, time_ms, by]   a key on paper joins
    rename    fields = ["rename", account, links, device, name, time_ms, by]
    revoke    fields = ["revoke", account, links, device, erase, time_ms, by]          for good; `erase`: its copies too
    key       fields = ["key", account, links, [[device, box]...], time_ms, by]        a new account secret, for each
    links     = [hashes of the newest statements known]
    consent   = Ed25519 by the key on paper over b"shoal paper" + account
    signature = Ed25519 by the genesis device, or `by`, over b"shoal roster" + CBOR of the fields
    box       = libsodium's sealed box to the X25519 form of the device's Ed25519 key

A key on paper consents, as whoever recovers an account by it has to know that this is the account it was made for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import blake3
import nacl.bindings
import nacl.exceptions

from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, Unsealable, verify_signature
from shoal.crdt.model import DeviceId
from shoal.crdt.remembered import Remembered

CONTEXT = b"shoal roster"
PAPER = b"shoal paper"
MAX_STATEMENT = 64 * 1024
MAX_NAME = 64
MAX_LINKS = 256
SECRET = 32  # bytes of an account's secret
_BOX = SECRET + nacl.bindings.crypto_box_SEALBYTES

NOBODY = DeviceId(b"")

Kind = Literal["genesis", "add", "paper", "rename", "revoke", "key"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement whose signature is good. `time_ms`: what its author's clock said, for people; `links`: none for the
    genesis; `account`: None for the genesis."""

    encoded: bytes = field(repr=False)
    hash: bytes
    kind: Kind
    account: bytes | None
    links: tuple[bytes, ...]
    by: DeviceId
    time_ms: int
    device: DeviceId = NOBODY
    name: str = ""
    erase: bool = False
    boxes: tuple[tuple[DeviceId, bytes], ...] = field(default=(), repr=False)


def sign(key: DeviceKey, fields: Sequence[Any]) -> bytes:
    """Return the statement with these fields, the last of them its author where it is no genesis."""
    fields = list(fields)
    return codec.encode([*fields, key.sign(CONTEXT + codec.encode(fields))])


def read(encoded: bytes) -> Statement | None:
    """Read a statement and check its signature; None when it is none that holds."""
    return _remembered(encoded)


def _checked(encoded: bytes) -> Statement | None:
    try:
        signed = codec.as_list(codec.decode(encoded, MAX_STATEMENT))
        said = _read(encoded, signed[:-1])
        whole = CONTEXT + codec.encode(signed[:-1])
        return said if verify_signature(said.by, whole, codec.as_bytes(signed[-1], 64)) else None
    except codec.Malformed:
        return None


_remembered = Remembered(_checked, MAX_STATEMENT)


def _read(encoded: bytes, fields: list[Any]) -> Statement:
    digest = blake3.blake3(encoded).digest()
    match fields:
        case ["genesis", device, name, time_ms]:
            first = _device(device)
            return Statement(encoded, digest, "genesis", None, (), first, codec.as_int(time_ms), first, _name(name))
        case [kind, account, links, *rest, time_ms, by]:
            common = codec.as_bytes(account, 32), read_links(links), _device(by), codec.as_int(time_ms)
        case _:
            raise codec.Malformed("no statement")
    match kind, rest:
        case "paper", [device, name, consent]:
            if not verify_signature(_device(device), PAPER + account, codec.as_bytes(consent, 64)):
                raise codec.Malformed("a key on paper that did not consent")
            return Statement(encoded, digest, "paper", *common, _device(device), _name(name))
        case (("add" | "rename"), [device, name]):
            return Statement(encoded, digest, kind, *common, _device(device), _name(name))
        case "revoke", [device, erase]:
            return Statement(encoded, digest, "revoke", *common, _device(device), erase=codec.as_bool(erase))
        case "key", [boxes]:
            return Statement(encoded, digest, "key", *common, boxes=read_boxes(boxes))
    raise codec.Malformed("a statement of no known kind")


def _device(value: Any) -> DeviceId:
    return DeviceId(codec.as_bytes(value, 32))


def _name(value: Any) -> str:
    return codec.as_text(value, MAX_NAME)


def read_links(value: Any) -> tuple[bytes, ...]:
    """Return the links of a statement. Raises codec.Malformed."""
    links = tuple(codec.as_bytes(link, 32) for link in codec.as_list(value, most=MAX_LINKS))
    if not links or list(links) != sorted(set(links)):
        raise codec.Malformed("links that are not in order")
    return links


def read_boxes(value: Any) -> tuple[tuple[DeviceId, bytes], ...]:
    """Return the boxes of a statement, by device. Raises codec.Malformed."""
    pairs = [codec.as_list(pair, length=2) for pair in codec.as_list(value)]
    boxes = tuple((_device(device), codec.as_bytes(box, _BOX)) for device, box in pairs)
    if [device for device, _ in boxes] != sorted({device for device, _ in boxes}):
        raise codec.Malformed("boxes that are not in order")
    return boxes


def boxes_for(devices: Iterable[DeviceId], secret: bytes) -> list[list[bytes]]:
    """Seal a secret to each device. One whose id is no key gets none."""
    boxes: list[list[bytes]] = []
    for device in sorted(devices):
        public = _box_key(device)
        if public is not None:
            boxes.append([device, nacl.bindings.crypto_box_seal(secret, public)])
    return boxes


def can_open(devices: Iterable[DeviceId]) -> set[DeviceId]:
    """Return those of the devices that a secret can be sealed to: an account may name ids that are no keys."""
    return {device for device in devices if _box_key(device) is not None}


@lru_cache(maxsize=4096)
def _box_key(device: DeviceId) -> bytes | None:
    try:
        key: bytes = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(device)
        return key
    except (nacl.exceptions.CryptoError, RuntimeError):
        return None


def open_box(key: DeviceKey, said: Statement) -> bytes:
    """Return the secret that a key statement has for this device. Raises Unsealable."""
    return open_box_of(key, said.boxes)


def open_box_of(key: DeviceKey, boxes: Iterable[tuple[DeviceId, bytes]]) -> bytes:
    """Return what is in this device's box, of several. Raises Unsealable."""
    box = dict(boxes).get(key.id)
    if box is None:
        raise Unsealable("it is not for this device")
    whole = key.seed + key.id
    secret = nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(whole)
    public = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(key.id)
    try:
        return nacl.bindings.crypto_box_seal_open(box, public, secret)
    except nacl.exceptions.CryptoError as error:
        raise Unsealable("its box was not made for this device") from error
