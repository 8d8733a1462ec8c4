"""Whether the home is a copy: put back from a backup, or cloned. What its logs say after that must not be what another
device may have heard otherwise, so their writing begins anew.

The store knows the inode and change time of a file beside it, which no copy keeps. A disk that is rolled back as a
whole is not noticed here, but when a peer shows the log as it was (`Replica.on_own_log_diverged`).
"""

from __future__ import annotations

from pathlib import Path

from shoal.node.private import write_private
from shoal.node.store import Store

INSTANCE = b"instance"


def is_copy(store: Store, home: Path) -> bool:
    """Return whether the store was at work in another home, as far as can be told."""
    known = store.get("meta", INSTANCE)
    return known is not None and known != _stamp(home / "instance")


def mark_own(store: Store, home: Path) -> None:
    """Note that this is the store's home. Raises OSError, StoreFull."""
    path = home / "instance"
    if not path.exists():
        write_private(path, b"Lets Shoal notice when this folder is a copy.\n")
    stamp = _stamp(path)
    if store.get("meta", INSTANCE) != stamp:
        store.write([("meta", INSTANCE, stamp)], sync=True)


def _stamp(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError:
        return b""
    return f"{found.st_ino} {found.st_ctime_ns}".encode()
