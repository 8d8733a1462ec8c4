"""Sealed chunks: what holders keep that may not read them. One chunk of one epoch has one sealed form, on every device.

    key    = BLAKE3 derive_key("shoal 2026-11 sealed chunk") of the folder's pack key (32) + chunk id (32)
    sealed = AEGIS-256 (RFC draft irtf-cfrg-aegis-aead) under that key with a nonce of zeros, tag of 32 bytes at the end

A key is made for one chunk alone, so that a nonce of zeros is used with it once. The cipher is the same on every
machine: where there are no instructions for AES it is slow, and what is sealed is the same.
"""

from __future__ import annotations

from blake3 import blake3
from nacl._sodium import ffi, lib  # type: ignore[import-not-found]

import shoal.transfer.aead  # noqa: F401  it readies libsodium

CONTEXT = "shoal 2026-11 sealed chunk"
OVERHEAD = 32  # bytes
_NONCE = bytes(32)


class BadSeal(Exception):
    """What was not sealed with this key for this chunk, or was changed since."""


def _key(secret: bytes, chunk: bytes) -> bytes:
    if len(secret) != 32 or len(chunk) != 32:
        raise ValueError("a key or a chunk's id that is not of 32 bytes")
    return blake3(secret + chunk, derive_key_context=CONTEXT).digest()


def seal_into(secret: bytes, chunk: bytes, plain: bytes | memoryview, out: memoryview) -> None:
    """Seal a chunk into `out`, which is `OVERHEAD` bytes longer."""
    if len(out) != len(plain) + OVERHEAD:
        raise ValueError("not the room that a sealed chunk needs")
    to = ffi.from_buffer("unsigned char[]", out, require_writable=True)
    source = ffi.from_buffer("unsigned char[]", plain)
    key = _key(secret, chunk)
    lib.crypto_aead_aegis256_encrypt(to, ffi.NULL, source, len(plain), ffi.NULL, 0, ffi.NULL, _NONCE, key)
    ffi.release(to)
    ffi.release(source)


def seal(secret: bytes, chunk: bytes, plain: bytes | memoryview) -> bytes:
    """Return a chunk sealed."""
    out = bytearray(len(plain) + OVERHEAD)
    seal_into(secret, chunk, plain, memoryview(out))
    return bytes(out)


def open_sealed(secret: bytes, chunk: bytes, sealed: bytes | memoryview) -> bytes:
    """Return what was sealed. Raises BadSeal."""
    if len(sealed) < OVERHEAD:
        raise BadSeal("too short")
    out = bytearray(len(sealed) - OVERHEAD)
    to = ffi.from_buffer("unsigned char[]", out, require_writable=True)
    source = ffi.from_buffer("unsigned char[]", sealed)
    key = _key(secret, chunk)
    done = lib.crypto_aead_aegis256_decrypt(to, ffi.NULL, ffi.NULL, source, len(sealed), ffi.NULL, 0, _NONCE, key)
    ffi.release(to)
    ffi.release(source)
    if done != 0:
        raise BadSeal("it was not sealed with this key for this chunk")
    return bytes(out)
