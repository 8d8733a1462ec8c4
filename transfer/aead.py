"""Boxes of the bulk channel: authenticated encryption in place, of buffers up to some MiB, by libsodium.

The functions of `nacl.bindings` make a zeroed buffer and a copy for each call, which costs five times what sealing
itself does; so libsodium is called as they call it, on a buffer of the caller's. Calls release the GIL.

A key is for one direction of one connection; its nonces are the numbers of its boxes, from 0: a box that is repeated,
left out or moved does not open.
"""

from __future__ import annotations

import enum

import nacl.bindings  # noqa: F401  it readies libsodium
from nacl._sodium import ffi, lib  # type: ignore[import-not-found]

KEY_SIZE = 32


class Cipher(enum.IntEnum):
    """The numbers are those on the wire."""

    AEGIS_256 = 1
    CHACHA20_POLY1305 = 2

    @property
    def tag_size(self) -> int:
        """Bytes that a box has more than what is in it."""
        return 32 if self is Cipher.AEGIS_256 else 16


class BadBox(Exception):
    """A box that was not sealed with this key and number: forged, damaged, or out of its place."""


def own_ciphers() -> tuple[Cipher, ...]:
    """Return what this device offers, what is quickest here first."""
    # libsodium says so of a CPU that has instructions for AES; without them AEGIS is slower than ChaCha20.
    has_aes = lib.crypto_aead_aes256gcm_is_available() == 1
    quickest_first = (Cipher.AEGIS_256, Cipher.CHACHA20_POLY1305)
    return quickest_first if has_aes else quickest_first[::-1]


def choose(theirs: tuple[int, ...], ours: tuple[Cipher, ...]) -> Cipher | None:
    """Return the cipher for two devices; both would rather have AEGIS-256, or one of them pays for it dearly."""
    both = [cipher for cipher in ours if cipher in theirs]
    if not both:
        return None
    if ours[0] in both and theirs and theirs[0] == ours[0]:
        return ours[0]
    return Cipher.CHACHA20_POLY1305 if Cipher.CHACHA20_POLY1305 in both else both[0]


def wipe(secret: bytes | bytearray) -> None:
    """Overwrite a secret with zeros. Of `bytes`, the caller must be the only owner."""
    lib.sodium_memzero(ffi.from_buffer(secret), len(secret))


class BoxKey:
    """The key of one direction. It is wiped when the connection ends, and then neither seals nor opens."""

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a key of {len(key)} bytes")
        self.cipher = cipher
        self._key = bytearray(key)
        self._wiped = False

    def seal(self, box: memoryview, number: int) -> None:
        """Seal as box `number`, in place, what is in `box` before the room for its tag at the end."""
        size = len(box) - self.cipher.tag_size
        if self._wiped or size < 0:
            raise ValueError("no key any more, or no room for a tag")
        at = ffi.from_buffer("unsigned char[]", box, require_writable=True)
        key = ffi.from_buffer("unsigned char[]", self._key)
        if self.cipher is Cipher.AEGIS_256:
            done = lib.crypto_aead_aegis256_encrypt(
                at, ffi.NULL, at, size, ffi.NULL, 0, ffi.NULL, number.to_bytes(32), key
            )
        else:
            done = lib.crypto_aead_chacha20poly1305_ietf_encrypt(
                at, ffi.NULL, at, size, ffi.NULL, 0, ffi.NULL, number.to_bytes(12), key
            )
        ffi.release(at)
        ffi.release(key)
        if done != 0:
            raise ValueError("libsodium cannot seal this")

    def open(self, box: memoryview, number: int) -> memoryview:
        """Open box `number` in place; return the part of it that holds what was sealed. Raises BadBox."""
        size = len(box) - self.cipher.tag_size
        if self._wiped:
            raise ValueError("no key any more")
        if size < 0:
            raise BadBox("a box shorter than its tag")
        at = ffi.from_buffer("unsigned char[]", box, require_writable=True)
        key = ffi.from_buffer("unsigned char[]", self._key)
        if self.cipher is Cipher.AEGIS_256:
            done = lib.crypto_aead_aegis256_decrypt(
                at, ffi.NULL, ffi.NULL, at, len(box), ffi.NULL, 0, number.to_bytes(32), key
            )
        else:
            done = lib.crypto_aead_chacha20poly1305_ietf_decrypt(
                at, ffi.NULL, ffi.NULL, at, len(box), ffi.NULL, 0, number.to_bytes(12), key
            )
        ffi.release(at)
        ffi.release(key)
        if done != 0:
            raise BadBox("a box that does not open")
        return box[:size]

    def wipe(self) -> None:
        """Forget the key. Nothing may be being sealed or opened."""
        self._wiped = True
        wipe(self._key)
