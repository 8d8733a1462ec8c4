"""The folder's marker, `.shoal/folder`: proof that what is at the path is the folder, and not an unmounted disk."""

from __future__ import annotations

import contextlib
from os.path import join

from shoal.crdt.model import FolderId, NodeId
from shoal.node.folder.disk import Disk
from shoal.node.folder.local import PRIVATE

PART = ".part"  # temporaries, being filled
PLACING = "placing.part"  # there while files take their names: the others of `.shoal/tmp` were not cleared away
SWAP = ".swap"  # temporaries that are changing places with the file that they replace


def make_marker(disk: Disk, root: str, folder: FolderId) -> None:
    """Mark `root` as the folder, and make Shoal's private places in it. Raises OSError."""
    private = join(root, PRIVATE)
    with contextlib.suppress(FileExistsError):
        disk.fs.mkdir(private, 0o700)
    make_places(disk, root)
    disk.write_whole(join(private, "folder"), join(private, "tmp", "marker"), folder.hex().encode() + b"\n")


def make_places(disk: Disk, root: str) -> None:
    """Make the places inside `.shoal` that are not there: people remove them to free space. Raises OSError."""
    for name in ("tmp", "versions", "objects"):
        path = join(root, PRIVATE, name)
        if disk.look(path) is None:
            disk.fs.mkdir(path, 0o700)


def has_marker(disk: Disk, root: str, folder: FolderId) -> bool:
    """Return whether `root` is there and is marked as this folder."""
    try:
        return disk.read_text(join(root, PRIVATE, "folder")).strip() == folder.hex()
    except OSError:
        return False


def marked_as(disk: Disk, path: str) -> FolderId | None:
    """Return the folder that `path` is marked as the root of; None where it is none."""
    marker = join(path, PRIVATE, "folder")
    if disk.look_quietly(marker) is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        return FolderId(bytes.fromhex(disk.read_text(marker).strip()))
    return None


def temporaries_of(disk: Disk, root: str) -> set[NodeId]:
    """Return the nodes that have temporaries, which are named after them."""
    found = set()
    with contextlib.suppress(OSError):
        for name, _ in disk.list_directory(join(root, PRIVATE, "tmp")):
            with contextlib.suppress(ValueError):
                if name.endswith(PART):
                    found.add(NodeId(bytes.fromhex(name.partition("-")[0])))
    return found


def tidy(disk: Disk, root: str, keep: set[str]) -> set[str]:
    """Remove temporaries that nobody needs; return what is there of the paths to `keep`."""
    kept = set()
    temporaries, versions = join(root, PRIVATE, "tmp"), join(root, PRIVATE, "versions")
    with contextlib.suppress(OSError):
        for name in sorted(name for name, _ in disk.list_directory(temporaries)):
            path = join(temporaries, name)
            with contextlib.suppress(OSError):
                if path in keep:
                    kept.add(path)
                elif name.endswith(SWAP):  # a crash in the middle of a swap: a person's file, perhaps
                    disk.fs.rename(path, join(versions, name))
                elif name.endswith(PART):
                    disk.fs.unlink(path)
    return kept
