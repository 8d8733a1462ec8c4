"""What a temporary holds before anything is copied or fetched for it: what a crash left, or the blocks of the version
that it replaces, where the file system shares them (FICLONE: Btrfs, XFS). Every chunk of it is verified where it is.
"""

from __future__ import annotations

from collections.abc import Collection

from shoal.crdt.model import FileContent
from shoal.node.folder.disk import Disk
from shoal.transfer.chunking import chunk_id

CLONED = 4 * 1024 * 1024  # bytes from which on a file is worth it


def chunks_in_place(before: FileContent, content: FileContent) -> set[int]:
    """Return the offsets at which two contents have the same chunk."""
    return {at for at, _ in places(before).items() & places(content).items()}


def begin_with(
    disk: Disk, path: str, before: FileContent, temporary: str, content: FileContent, key: bytes, zeros: dict[int, int]
) -> set[int] | None:
    """Have a temporary share the blocks of the file at `path`, which held `before` when it was last looked at. Returns
    the offsets of the chunks that are right in it; None where it was not made. Raises OSError."""
    same = chunks_in_place(before, content)
    if (
        not same - zeros.keys() or zeros.keys() - same
    ):  # bytes that became zeros are to be holes, and none is made in a clone
        return None
    disk.remove_quietly(temporary)
    if not disk.clone(path, temporary):
        return None
    return verified(disk, temporary, content, key, zeros, same)


def verified(
    disk: Disk,
    path: str,
    content: FileContent,
    key: bytes,
    zeros: dict[int, int],
    likely: Collection[int] | None = None,
) -> set[int]:
    """Return the offsets of a temporary's chunks that are there and right; those of `zeros`, offset -> length, are made
    so. `likely`: the only ones that may be right."""
    found = set()
    at = 0
    for chunk, length in content.refs():
        if at in zeros:
            disk.clear_piece(path, at, length)
        elif likely is None or at in likely:
            data = disk.read_piece(path, at, length)
            if data is not None and chunk_id(key, data) == chunk:
                found.add(at)
        at += length
    return found


def places(content: FileContent) -> dict[int, tuple[bytes, int]]:
    """Return offset -> (chunk id, length)."""
    found: dict[int, tuple[bytes, int]] = {}
    at = 0
    for chunk, length in content.refs():
        found[at] = chunk, length
        at += length
    return found
