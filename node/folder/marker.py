"""The folder's marker, `.shoal/folder`: proof that what is at the path is the folder, and not an unmounted disk."""

from __future__ import annotations

import contextlib
import os
import time

from shoal.crdt.model import FolderId
from shoal.node.folder.local import PRIVATE

PART = ".part"  # temporaries, being filled
SWAP = ".swap"  # temporaries that are changing places with the file that they replace
KEEP_SECONDS = 30 * 24 * 3600  # how long replaced and removed files are kept


def make_marker(root: str, folder: FolderId) -> None:
    """Mark `root` as the folder, and make Shoal's private places in it. Raises OSError."""
    private = os.path.join(root, PRIVATE)
    for name in ("", "tmp", "versions"):
        os.makedirs(os.path.join(private, name), mode=0o700, exist_ok=True)
    temporary = os.path.join(private, "tmp", "marker")
    with open(temporary, "w") as file:
        file.write(folder.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(private, "folder"))


def has_marker(root: str, folder: FolderId) -> bool:
    """Return whether `root` is there and is marked as this folder."""
    try:
        with open(os.path.join(root, PRIVATE, "folder")) as file:
            return file.read().strip() == folder.hex()
    except OSError:
        return False


def tidy(root: str, keep: set[str]) -> tuple[set[str], list[str]]:
    """Remove temporaries that nobody needs, and kept versions that are past their time; return what is there of the
    paths to `keep`, and the names of the kept versions that went."""
    kept = set()
    expired = []
    temporaries = os.path.join(root, PRIVATE, "tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(temporaries):
            path = os.path.join(temporaries, name)
            if path in keep:
                kept.add(path)
            elif name.endswith(SWAP):  # a crash in the middle of a swap: a person's file, perhaps
                with contextlib.suppress(OSError):
                    os.rename(path, os.path.join(root, PRIVATE, "versions", name))
            elif name.endswith(PART):
                with contextlib.suppress(OSError):
                    os.unlink(path)
    versions = os.path.join(root, PRIVATE, "versions")
    with contextlib.suppress(OSError):
        for name in os.listdir(versions):
            path = os.path.join(versions, name)
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(path).st_ctime > KEEP_SECONDS:
                    os.unlink(path)
                    expired.append(name)
    return kept, expired
