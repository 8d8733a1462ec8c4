"""Files that took their names right before a crash, of which the store had not heard.

Taken for a person's new files, they would bring back what was deleted or replaced elsewhere meanwhile. What was about
to take a name is therefore written down before (`LocalIndex.intend`), with its inode, and looked for at the next start.
"""

from __future__ import annotations

import os
from dataclasses import replace

from shoal.node.folder.disk import Disk, is_same
from shoal.node.folder.local import LocalIndex


def recognise_placed(disk: Disk, root: str, index: LocalIndex) -> None:
    """Record the files that are in their places; the scan that follows reads them."""
    for record in index.intended():
        path = index.path(record.parent)
        there = disk.look_quietly(os.path.join(root, path, record.name)) if path is not None else None
        holder = index.child(record.parent, record.name)
        if there is not None and is_same(there, record.signature) and holder in (None, record.id):
            index.put(replace(record, signature=replace(there, ctime_ns=0)))
        index.forget_intention(record.id)
    index.commit(sync=True)
