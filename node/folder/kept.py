"""Kept files that the store has not heard of: the power went between the rename that kept a file and the store's word.

Their content may be what others wait for, or what the document shows here: a kept file is then its only copy.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

from shoal.crdt.model import Content
from shoal.node.folder.chunk_places import PACKED
from shoal.node.folder.disk import Disk
from shoal.node.folder.local import VERSIONS, LocalNode
from shoal.transfer.chunking import FileChanged


def kept_path(root: str, record: LocalNode) -> str:
    """Return where the file is kept once it is replaced or removed."""
    version = record.version.hex() if record.version is not None else "0"
    return os.path.join(root, VERSIONS, f"{record.id.hex()}-{version}-{record.signature.ctime_ns}")


def find_unknown(disk: Disk, root: str, known: Collection[str], key: bytes) -> list[tuple[str, Content]]:
    """Read the kept files whose names are not `known` to the store; return their names and contents. What cannot be
    read is left out. Its calls belong in a thread."""
    found: list[tuple[str, Content]] = []
    folder = os.path.join(root, VERSIONS)
    try:
        names = sorted(disk.list_directory(folder.rstrip("/")))
    except OSError:
        return found
    for name, signature in names:
        if stat.S_ISREG(signature.mode) and signature.size and name not in known and not name.endswith(PACKED):
            try:
                found.append((name, disk.read_content(folder + name, key, signature)))
            except (OSError, FileChanged):
                continue
    return found
