"""A node's identity in one file, to be it again on another machine: its key, its account, and whom it serves.

CBOR {"shoal identity": 1, "key", "account", "vault"}: the files of the home, as they are; a key that a password seals
stays sealed.
"""

from __future__ import annotations

import os
from pathlib import Path

import cbor2

from shoal.node.backup import BACKUP
from shoal.node.errors import UserError
from shoal.node.home import Home
from shoal.node.private import write_private
from shoal.node.vault import way_of

MARK = "shoal identity"
MOST_BYTES = 64 << 20


def save(home: Home, file: Path) -> None:
    """Write the identity of a home. Raises UserError."""
    if home.vault.exists() and way_of(home) != "password":
        raise UserError(
            "sealed-here",
            "this node's key is sealed by this machine's keyring",
            "seal it by a password: shoal account protect",
        )
    if file.exists():
        raise UserError("file-exists", f"{file} is there already", "choose another name")
    try:
        said = {
            MARK: 1,
            "key": home.key.read_bytes(),
            "account": (home.path / BACKUP).read_bytes(),
            "vault": home.vault.read_bytes() if home.vault.exists() else b"",
        }
    except FileNotFoundError as error:
        raise UserError("no-identity", f"{home.path} has no identity yet", "start it once") from error
    try:
        write_private(file, cbor2.dumps(said))
    except OSError as error:
        raise UserError("cannot-write", f"cannot write {file}: {error.strerror}", "choose another place") from error


def load(home: Home, file: Path) -> None:
    """Give a home without one the identity of a file. Raises UserError."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        said = cbor2.loads(file.read_bytes())
        parts = [said["key"], said["account"], said["vault"]]
        if said[MARK] != 1 or not all(isinstance(part, bytes) for part in parts):
            raise ValueError("not of this kind")
    except OSError as error:
        raise UserError("cannot-read", f"cannot read {file}: {error.strerror}", "") from error
    except (ValueError, TypeError, KeyError, cbor2.CBORDecodeError) as error:
        raise UserError("bad-file", f"{file} is no identity that Shoal wrote, or is damaged", "") from error
    home.ensure()
    lock = home.hold_lock()
    try:
        if home.key.exists() or home.store.exists():
            raise UserError("home-in-use", f"{home.path} has an identity already", "choose a fresh --home")
        if said["vault"]:
            write_private(home.vault, said["vault"])
        write_private(home.path / BACKUP, said["account"])
        write_private(home.key, said["key"])
    finally:
        os.close(lock)
