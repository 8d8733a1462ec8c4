"""Files that took their names right before a crash, of which the store had not heard; and those that lost theirs.

Taken for a person's new files, they would bring back what was deleted or replaced elsewhere meanwhile. What was about
to take a name is therefore written down before (`LocalIndex.intend`), with its inode, and looked for at the next start.

What came out of the exchange of two files, and is not the one that was to be replaced, is what a person saved in that
moment. It was to go back; where the crash was quicker, it goes back at the next start.
"""

from __future__ import annotations

import os
from dataclasses import replace

from shoal.node.folder.disk import Disk, is_same
from shoal.node.folder.local import PRIVATE, LocalIndex
from shoal.node.folder.marker import SWAP


def give_back(disk: Disk, root: str, index: LocalIndex) -> None:
    """Give what persons saved its name back. Before temporaries are tidied away, and before `recognise_placed`. Raises
    OSError."""
    temporaries = os.path.join(root, PRIVATE, "tmp")
    for made in index.intended():
        directory, record = index.path(made.parent), index.get(made.id)
        if directory is None or record is None or made.version is None:
            continue
        swap = os.path.join(temporaries, f"{made.id.hex()}-{made.version.hex()}{SWAP}")
        path = os.path.join(root, directory, made.name)
        out, there = disk.look_quietly(swap), disk.look_quietly(path)
        if out is None or is_same(out, record.signature) or is_same(out, made.signature):
            continue
        if is_same(there, made.signature) and disk.fs.exchange(swap, path):
            disk.sync_directories({temporaries, os.path.dirname(path)})


def recognise_placed(disk: Disk, root: str, index: LocalIndex) -> None:
    """Record the files that are in their places; the scan that follows reads them."""
    for record in index.intended():
        path = index.path(record.parent)
        there = disk.look_quietly(os.path.join(root, path, record.name)) if path is not None else None
        holder = index.child(record.parent, record.name)
        if there is not None and is_same(there, record.signature) and holder in (None, record.id):
            index.put(replace(record, signature=there._replace(ctime_ns=0)))
        index.forget_intention(record.id)
    index.commit(sync=True)
