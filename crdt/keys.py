"""Keys: a device's signing key, the keys derived from a folder's secret, and sealing.

Sealing is XChaCha20-Poly1305 (IETF), with a random 24-byte nonce in front of the ciphertext. Keys for different uses
are derived with BLAKE3's derive_key, whose context strings are the constants below.
"""

from __future__ import annotations

from collections.abc import Mapping

import blake3
import nacl.bindings
import nacl.exceptions
import nacl.utils
from nacl.signing import SigningKey, VerifyKey

from shoal.crdt.model import DeviceId

LOG_CONTEXT = "shoal 2026-11 folder log key"
CONTENT_CONTEXT = "shoal 2026-11 folder content key"
DISCOVERY_CONTEXT = "shoal 2026-11 folder discovery key"
PACK_CONTEXT = "shoal 2026-11 folder pack key"
EPOCH_CONTEXT = "shoal 2026-11 folder epoch"
EPOCH_BITS = 32  # of its number that are the secret's
NONCE_SIZE = 24
TAG_SIZE = 16


class Unsealable(Exception):
    """The ciphertext was not made with this key and context, or was changed since."""


class DeviceKey:
    """A device's Ed25519 key. `id` is its public half, and the device's name on the network."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: 32 secret bytes."""
        self.seed = seed
        self._signing = SigningKey(seed)
        self.id = DeviceId(bytes(self._signing.verify_key))

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature over `data`."""
        return bytes(self._signing.sign(data).signature)


def verify_signature(device: bytes, data: bytes, signature: bytes) -> bool:
    """Return whether `signature` is the device's over `data`; False for anything malformed."""
    try:
        VerifyKey(device).verify(data, signature)
    except (nacl.exceptions.CryptoError, TypeError, ValueError):
        return False
    return True


class FolderKeys:
    """What a folder's members derive from its secrets, one for each epoch: a new one begins when somebody is to read no
    more. `epoch` is the newest, by which everything new is sealed; `log` and `discovery` are its keys. `content` is the
    same in all epochs, so that chunk ids stay what they are."""

    def __init__(self, secrets: Mapping[int, bytes]) -> None:
        """`secrets`: by epoch, 32 bytes each, at least one."""
        self.epoch = max(secrets)
        self.content = _derive(CONTENT_CONTEXT, secrets[min(secrets)])
        self.discovery = _derive(DISCOVERY_CONTEXT, secrets[self.epoch] + self.epoch.to_bytes(8))
        self._logs = {epoch: _derive(LOG_CONTEXT, secret + epoch.to_bytes(8)) for epoch, secret in secrets.items()}

    @classmethod
    def from_secret(cls, secret: bytes, epoch: int = 0) -> FolderKeys:
        """Return the keys of a folder that has had one secret, 32 bytes."""
        return cls({epoch: secret})

    @property
    def log(self) -> bytes:
        """The key that log entries are sealed with now."""
        return self._logs[self.epoch]

    def pack_of(self, epoch: int) -> bytes | None:
        """Return the key that packs of an epoch are sealed by, None where it is not known here."""
        key = self._logs.get(epoch)
        return _derive(PACK_CONTEXT, key) if key is not None else None

    def log_of(self, epoch: int) -> bytes | None:
        """Return the key that log entries of an epoch were sealed with, None where it is not known here."""
        return self._logs.get(epoch)


def later_epoch(epoch: int, secret: bytes) -> int:
    """Return the number of an epoch that follows another: greater, and the secret's own, so that two which begin at the
    same time do not have one number."""
    return ((epoch >> EPOCH_BITS) + 1) << EPOCH_BITS | int.from_bytes(_derive(EPOCH_CONTEXT, secret)[:4])


def is_epoch_of(epoch: int, secret: bytes) -> bool:
    """Return whether a number is that of an epoch with this secret."""
    return later_epoch(epoch, secret) & ((1 << EPOCH_BITS) - 1) == epoch & ((1 << EPOCH_BITS) - 1)


def _derive(context: str, material: bytes) -> bytes:
    return blake3.blake3(material, derive_key_context=context).digest()


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """Encrypt `plain`, bound to `context`; 40 bytes longer."""
    nonce = nacl.utils.random(NONCE_SIZE)
    return nonce + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, context, nonce, key)


def open_sealed(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return what was sealed. Raises Unsealable."""
    if len(sealed) < NONCE_SIZE + TAG_SIZE:
        raise Unsealable("too short")
    nonce, box = sealed[:NONCE_SIZE], sealed[NONCE_SIZE:]
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(box, context, nonce, key)
    except (nacl.exceptions.CryptoError, TypeError, ValueError) as error:
        raise Unsealable("wrong key, or changed on the way") from error
