"""Moves told by content, where inodes changed: by way of another disk, from a backup, by tools that copy and remove.

A file that is missing and one that appeared in the same look, with the same bytes, are one file that moved. Empty files
are all alike, and are never taken for each other. Where several have the same bytes, those of the same last name
belong together; among the others only a pair that has no rival does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from shoal.crdt.model import FileContent
from shoal.node.folder.disk import Seen, kind_of
from shoal.node.folder.local import LocalNode


def of_a_size(appeared: Iterable[Seen], missing: Iterable[LocalNode]) -> tuple[list[Seen], list[LocalNode]]:
    """Return those of both whose sizes make it worth while to read what appeared."""
    files = [(seen, seen.signature.size) for seen in appeared if seen.signature and kind_of(seen.signature) == "file"]
    wanted = {size for _, size in files if size}
    gone = [node for node in missing if isinstance(node.content, FileContent) and node.content.size in wanted]
    sizes = {node.content.size for node in gone if isinstance(node.content, FileContent)}
    return [seen for seen, size in files if size in sizes], gone


def alike(by_inode: Mapping[str, LocalNode]) -> set[str]:
    """Return the paths of moves that an inode says little of: others have the same size and time, and moved as well.
    What is freed is given out again."""
    counts = Counter((node.signature.size, node.signature.mtime_ns) for node in by_inode.values())
    return {path for path, node in by_inode.items() if counts[node.signature.size, node.signature.mtime_ns] > 1}


def match(read: Sequence[tuple[Seen, FileContent]], missing: Sequence[LocalNode]) -> dict[str, LocalNode]:
    """Return path -> the missing file that it is."""
    places: dict[bytes, list[Seen]] = defaultdict(list)
    for seen, content in read:
        places[content.chunks].append(seen)
    files: dict[bytes, list[LocalNode]] = defaultdict(list)
    for node in missing:
        if isinstance(node.content, FileContent):
            files[node.content.chunks].append(node)
    found: dict[str, LocalNode] = {}
    for chunks, rivals in places.items():
        for seen, node in _pairs(rivals, files.get(chunks, [])):
            found[seen.path] = node
    return found


def _pairs(places: list[Seen], files: list[LocalNode]) -> list[tuple[Seen, LocalNode]]:
    pairs = []
    for name in {seen.name for seen in places} & {node.name for node in files}:
        here = [seen for seen in places if seen.name == name]
        there = [node for node in files if node.name == name]
        if len(here) == len(there) == 1:
            pairs.append((here[0], there[0]))
    taken = {seen.path for seen, _ in pairs}
    gone = {node.id for _, node in pairs}
    left = [seen for seen in places if seen.path not in taken]
    lost = [node for node in files if node.id not in gone]
    if len(left) == len(lost) == 1:
        pairs.append((left[0], lost[0]))
    return pairs
