"""A copy of the account, of the list of kept folders and of what was chosen for them, beside the store: so that a lost
store costs no pairing, and brings nothing that was left out.

All else in the store can be had again: from the folders themselves, and from the other devices.
"""

from __future__ import annotations

from pathlib import Path

import cbor2

from shoal.node.account import ACCOUNT
from shoal.node.bans import BANS
from shoal.node.folder.selection import stored
from shoal.node.holding import HELD
from shoal.node.limits import LIMITS
from shoal.node.private import write_private
from shoal.node.seed_service import SEED
from shoal.node.shares import PEOPLE, SHARES
from shoal.node.store import Store

BACKUP = "account.backup"  # its name in the home
FOLDERS = b"folders"
KEYS = (ACCOUNT, FOLDERS, LIMITS, SHARES, PEOPLE, HELD, BANS, SEED)


def back_up(store: Store, path: Path) -> None:
    """Write the copy, if it is not as it should be. Raises OSError."""
    kept = {key: value for key in KEYS if (value := store.get("meta", key)) is not None}
    for folder in cbor2.loads(kept.get(FOLDERS, b"\xa0")):
        kept |= dict(stored(store, folder))
    data = cbor2.dumps(kept)
    if not path.exists() or path.read_bytes() != data:
        write_private(path, data)


def restore(store: Store, path: Path) -> bool:
    """Fill a store that has no account from the copy; return whether that was done. A damaged copy is left alone."""
    if store.get("meta", ACCOUNT) is not None or not path.exists():
        return False
    try:
        kept = cbor2.loads(path.read_bytes())
        rows = [(bytes(key), bytes(value)) for key, value in kept.items()]
    except (ValueError, TypeError, AttributeError, OSError, cbor2.CBORDecodeError):
        return False
    if ACCOUNT not in kept:
        return False
    store.write([("meta", key, value) for key, value in rows], sync=True)
    return True
