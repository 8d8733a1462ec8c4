"""Files that took their names right before a crash, of which the store had not heard; and those that lost theirs.

Taken for a person's new files, they would bring back what was deleted or replaced elsewhere meanwhile. What was about
to take a name is therefore written down before (`LocalIndex.intend`), with its inode, and looked for at the next start.

What came out of the exchange of two files, and is not the one that was to be replaced, is what a person saved in that
moment; so is what was taken off the disk, and is not the file that was to go. It was to go back; where the crash was
quicker, it goes back at the next start.
"""

from __future__ import annotations

import os
from dataclasses import replace

from shoal.crdt.model import NodeId
from shoal.crdt.naming import conflict_name
from shoal.node.folder.disk import Disk, is_same
from shoal.node.folder.kept import kept_path
from shoal.node.folder.local import PRIVATE, VERSIONS, LocalIndex, LocalNode
from shoal.node.folder.marker import PART, PLACING, SWAP


def give_back(disk: Disk, root: str, index: LocalIndex) -> None:
    """Give what persons saved its name back. Before temporaries are tidied away, and before `recognise_placed`. Raises
    OSError."""
    temporaries = os.path.join(root, PRIVATE, "tmp")
    for made in index.intended():
        directory, record = index.path(made.parent), index.get(made.id)
        if directory is None or record is None or made.version is None:
            continue
        _, swap = _temporaries(root, made)
        path = os.path.join(root, directory, made.name)
        out, there = disk.look_quietly(swap), disk.look_quietly(path)
        if out is None or is_same(out, record.signature) or is_same(out, made.signature):
            continue
        given = is_same(there, made.signature) and disk.fs.exchange(swap, path)
        if given and not is_same(disk.look_quietly(swap), made.signature):
            disk.fs.exchange(swap, path)  # they saved it once more, over what had come, in this very moment
            given = False
        if not given:  # what they saved since stays, and this stands beside it
            beside = conflict_name(made.name, made.version.hex()[:8])
            disk.rename_new(swap, os.path.join(root, directory, beside))
        disk.sync_directories({temporaries, os.path.dirname(path)})


def give_back_removed(disk: Disk, root: str, index: LocalIndex) -> None:
    """Give its name back to what was kept as removed, of which the store has not heard, and which is not what was to
    go. Before the kept files are made known. Raises OSError."""
    versions = os.path.join(root, VERSIONS)
    names = disk.list_directory(versions.rstrip("/"))
    for name, found in sorted(names):
        node, _, rest = name.partition("-")
        record = index.get(NodeId(bytes.fromhex(node))) if rest and _is_hex(node) else None
        path = index.path(record.id) if record is not None else None
        if record is None or path is None or index.places.chunks_of(name) is not None:
            continue
        if os.path.basename(kept_path(root, record)) != name or is_same(found, record.signature):
            continue
        target = os.path.join(root, path)
        if disk.look_quietly(target) is None and disk.look_quietly(os.path.dirname(target)) is not None:
            disk.rename_new(os.path.join(versions, name), target)
            disk.sync_directories({versions.rstrip("/"), os.path.dirname(target)})


def _is_hex(text: str) -> bool:
    return len(text) == 32 and all(letter in "0123456789abcdef" for letter in text)


def recognise_placed(disk: Disk, root: str, index: LocalIndex) -> None:
    """Record the files that have taken their names, whatever became of them since: what has the name is what a person
    made of them. The scan that follows reads them. Before temporaries are tidied away."""
    sure = disk.look_quietly(os.path.join(root, PRIVATE, "tmp", PLACING)) is not None
    for record in index.intended():
        holder = index.holder(record.parent, record.name)
        is_placed = not any(is_same(disk.look_quietly(path), record.signature) for path in _temporaries(root, record))
        if not sure:  # somebody cleared the temporaries away: only what is there says anything
            above = index.path(record.parent)
            there = disk.look_quietly(os.path.join(root, above, record.name)) if above is not None else None
            is_placed = is_same(there, record.signature)
        if is_placed and index.path(record.parent) is not None and holder in (None, record.id):
            index.put(replace(record, signature=record.signature._replace(ctime_ns=0)))
        index.forget_intention(record.id)
    index.commit(sync=True)


def _temporaries(root: str, made: LocalNode) -> list[str]:
    """Return the paths that a file has before it takes its name; from the intention on, until it is forgotten, it is
    at one of these unless it did."""
    assert made.version is not None
    base = os.path.join(root, PRIVATE, "tmp", f"{made.id.hex()}-{made.version.hex()}")
    return [base + PART, base + SWAP]
