"""Secrets at rest: what a home holds that makes whoever has it this device, sealed under a key that is not in it.

That is the device key and the account's record with its secrets, in the store and in the copy beside it. They are
sealed with a master key of 32 random bytes, which is itself sealed in the file `vault` under a key that comes from a
password (Argon2id, RFC 9106) or lies in the keyring of the operating system. Nobody has to have one: without that
file everything is as it is, readable by the owner of the home alone.

    vault = CBOR [1, way, salt, operations, memory in bytes, sealed master key];   way = "password" or "keyring"
    sealed secret = b"shoal sealed 1" + XChaCha20-Poly1305 under the master key, with its use as context
"""

from __future__ import annotations

import base64
import secrets
from typing import Literal

import nacl.pwhash

from shoal.crdt import codec
from shoal.crdt.keys import Unsealable, open_sealed, seal
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.home import Home
from shoal.node.private import write_private

Way = Literal["password", "keyring"]
MAGIC = b"shoal sealed 1"
CONTEXT = b"shoal vault"
SERVICE = "shoal"  # in the keyring
KEY, SALT = 32, nacl.pwhash.argon2id.SALTBYTES
OPERATIONS = nacl.pwhash.argon2id.OPSLIMIT_MODERATE
MEMORY = nacl.pwhash.argon2id.MEMLIMIT_MODERATE
MOST_OPERATIONS, MOST_MEMORY = 100, 1 << 32  # of a file that somebody changed


class Vault:
    """Seals and opens; without a master key it leaves everything as it is."""

    def __init__(self, master: bytes | None = None) -> None:
        self._master = master

    @property
    def is_sealing(self) -> bool:
        """Whether what is written is sealed."""
        return self._master is not None

    def seal(self, plain: bytes, use: bytes) -> bytes:
        """Return what is to be written."""
        return MAGIC + seal(self._master, plain, use) if self._master is not None else plain

    def open(self, data: bytes, use: bytes) -> bytes:
        """Return what was written, sealed or not. Raises UserError."""
        if not is_sealed(data):
            return data
        if self._master is None:
            raise UserError(
                "vault-missing",
                "this home's secrets are sealed, and the file that opens them is not there",
                "put the file vault back into the home from a backup",
            )
        try:
            return open_sealed(self._master, data[len(MAGIC) :], use)
        except Unsealable as error:
            raise UserError(
                "secrets-damaged", "this home's sealed secrets are damaged", "put the home back from a backup"
            ) from error


OPEN = Vault()
"""The vault of a home whose secrets nobody asked to seal."""


def is_sealed(data: bytes) -> bool:
    """Return whether bytes are a sealed secret."""
    return data.startswith(MAGIC)


def way_of(home: Home) -> Way | None:
    """Return how a home's secrets are sealed, None where they are not. Raises UserError."""
    fields = _read(home)
    return fields[0] if fields is not None else None


def make(home: Home, password: str | None) -> Vault:
    """Seal a home's secrets from now on, by a password, or by the system's keyring (None): write the file. Slow.
    Raises UserError, OSError."""
    master = secrets.token_bytes(KEY)
    salt = secrets.token_bytes(SALT)
    if password is not None:
        way, key = "password", _derive(password, salt, OPERATIONS, MEMORY)
    else:
        way, key = "keyring", secrets.token_bytes(KEY)
        _keyring_put(home, key)
    sealed = seal(key, master, CONTEXT)
    write_private(home.vault, codec.encode([1, way, salt, OPERATIONS, MEMORY, sealed]))
    return Vault(master)


def open_vault(home: Home, password: str | None) -> Vault:
    """Return a home's vault. Slow where it is by a password. Raises UserError when that is wrong, or lacking."""
    fields = _read(home)
    if fields is None:
        return Vault()
    way, salt, operations, memory, sealed = fields
    if way == "keyring":
        key = _keyring_get(home)
    elif password is None:
        raise UserError("locked", "this node's keys are sealed with a password", "start it with: shoal unlock")
    else:
        key = _derive(password, salt, operations, memory)
    try:
        return Vault(open_sealed(key, sealed, CONTEXT))
    except Unsealable as error:
        if way == "keyring":
            raise UserError(
                "keyring-other", "the system's keyring has another key than the one that this home was sealed with", ""
            ) from error
        raise UserError("wrong-password", "the password is wrong", "", EXIT_USAGE) from error


def remove(home: Home) -> None:
    """Seal nothing any more. Everything must have been written unsealed before."""
    way = way_of(home)
    home.vault.unlink(missing_ok=True)
    if way == "keyring":
        _keyring_remove(home)


def _read(home: Home) -> tuple[Way, bytes, int, int, bytes] | None:
    try:
        data = home.vault.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError("vault-unreadable", f"cannot read {home.vault}: {error.strerror}", "") from error
    try:
        version, way, salt, operations, memory, sealed = codec.as_list(codec.decode(data, 1024), length=6)
        if version != 1 or way not in ("password", "keyring"):
            raise codec.Malformed("another version")
        operations = codec.as_int(operations, 1, MOST_OPERATIONS)
        memory = codec.as_int(memory, nacl.pwhash.argon2id.MEMLIMIT_MIN, MOST_MEMORY)
        return way, codec.as_bytes(salt, SALT), operations, memory, codec.as_bytes(sealed)
    except codec.Malformed as error:
        raise UserError(
            "vault-damaged",
            f"{home.vault} is damaged, and without it this home's secrets cannot be opened",
            "put it back from a backup",
        ) from error


def _derive(password: str, salt: bytes, operations: int, memory: int) -> bytes:
    return nacl.pwhash.argon2id.kdf(KEY, password.encode(), salt, opslimit=operations, memlimit=memory)


# -- the keyring -------------------------------------------------------------------------------------------------------


def _keyring_put(home: Home, key: bytes) -> None:
    import keyring
    import keyring.errors

    try:
        keyring.set_password(SERVICE, str(home.path), base64.b64encode(key).decode())
        if keyring.get_password(SERVICE, str(home.path)) is None:
            raise keyring.errors.KeyringError("it keeps nothing")
    except keyring.errors.KeyringError as error:
        raise UserError(
            "no-keyring", f"this system has no keyring that can be used: {error}", "seal with a password instead"
        ) from error


def _keyring_get(home: Home) -> bytes:
    import keyring
    import keyring.errors

    try:
        found = keyring.get_password(SERVICE, str(home.path))
    except keyring.errors.KeyringError as error:
        raise UserError("locked", f"the system's keyring cannot be opened: {error}", "log in to it first") from error
    if found is None:
        raise UserError("locked", "the system's keyring has no key for this home", "is this the user who sealed it?")
    return base64.b64decode(found)


def _keyring_remove(home: Home) -> None:
    import contextlib

    import keyring
    import keyring.errors

    with contextlib.suppress(keyring.errors.KeyringError):
        keyring.delete_password(SERVICE, str(home.path))
