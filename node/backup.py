"""A copy of the account and of the list of kept folders, beside the store: so that a lost store costs no pairing.

All else in the store can be had again: from the folders themselves, and from the other devices.
"""

from __future__ import annotations

from pathlib import Path

import cbor2

from shoal.node.account import ACCOUNT
from shoal.node.home import write_private
from shoal.node.store import Store

BACKUP = "account.backup"  # its name in the home
FOLDERS = b"folders"
KEYS = (ACCOUNT, FOLDERS)


def back_up(store: Store, path: Path) -> None:
    """Write the copy, if it is not as it should be. Raises OSError."""
    kept = {key: value for key in KEYS if (value := store.get("meta", key)) is not None}
    data = cbor2.dumps(kept)
    if not path.exists() or path.read_bytes() != data:
        write_private(path, data)


def restore(store: Store, path: Path) -> bool:
    """Fill a store that has no account from the copy; return whether that was done. A damaged copy is left alone."""
    if store.get("meta", ACCOUNT) is not None or not path.exists():
        return False
    try:
        kept = cbor2.loads(path.read_bytes())
        rows = [(key, bytes(kept[key])) for key in KEYS if key in kept]
    except (ValueError, TypeError, OSError, cbor2.CBORDecodeError):
        return False
    if ACCOUNT not in kept:
        return False
    store.write([("meta", key, value) for key, value in rows], sync=True)
    return True
