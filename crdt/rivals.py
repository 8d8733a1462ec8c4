"""What two competing versions of a file have in common, and what each has that the other has not. Pure.

`judge` says which of two heads may go without a word, or what a three-way merge of both would start from. It is a
function of the facts alone, so that devices which know the same agree. An *edit* is a version that a person made; a
version that replaces two different contents is a *merge*, and adds nothing that its parents had not.

- A head whose own edits the other's history all has, by content, has nothing to add: the other stands. So an edit made
  alike on both sides of a partition is no conflict, whatever followed on one of them.
- Unless each side had what the other has now, as after a swap of a file with its own conflict copy: nobody overwrote
  either, a person decides.
- A head that is as the common ancestor was changed nothing in the end: the other stands.
- Else they are to be merged against the ancestor. Contents that both sides came to on their own count as common: two
  devices which merged alike, and went on from there, start from what they merged.
- Several greatest common ancestors of different content, or a history that is not all known: a person decides.

Nothing swings: a merge is made only where each side has an edit that the other lacks, so the set of edits behind it is
greater than behind either. The edits are finite, so are the depth of merges and their number, in whatever order devices
hear of each other, and even if two programs merged differently.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shoal.crdt.model import Content, DirContent, FactId, FileContent, LinkContent, Version

Lookup = Callable[[FactId], Version | None]

MAX_FACTS = 10_000  # looked at for one pair: further back nobody looks for what two heads have in common

_ONE, _OTHER, _STALE = 1, 2, 4
_BOTH = _ONE | _OTHER


@dataclass(frozen=True, slots=True)
class Stands:
    """`version` has all that `dropped` has."""

    version: Version
    dropped: Version


@dataclass(frozen=True, slots=True)
class Mergeable:
    """Both changed `base`, each in its own way."""

    base: Version
    one: Version
    other: Version


def judge(one: Version, other: Version, lookup: Lookup) -> Stands | Mergeable | None:
    """Return what to do with two heads of different content; None: leave them to a person."""
    painted = _paint(one, other, lookup)
    if painted is None:
        return None
    mine, theirs, common = painted
    adds, they_add = _adds(mine, theirs, lookup), _adds(theirs, mine, lookup)
    if not (adds and they_add):
        if adds == they_add or (_went_through(mine, other) and _went_through(theirs, one)):
            return None
        return Stands(one, other) if adds else Stands(other, one)
    base = _base(mine, theirs, common)
    if base is None or base.content is None:
        return None
    if _key(base.content) == _key(one.content):
        return Stands(other, one)
    if _key(base.content) == _key(other.content):
        return Stands(one, other)
    return Mergeable(base, one, other)


def is_merge(version: Version, lookup: Lookup) -> bool:
    """Return whether it brought different contents together."""
    found = (lookup(fact) for fact in version.replaces)
    return len({_key(each.content) for each in found if each is not None and each.content is not None}) > 1


def _paint(
    one: Version, other: Version, lookup: Lookup
) -> tuple[dict[FactId, Version], dict[FactId, Version], list[Version]] | None:
    """Return what is in the history of one head alone, each with the head itself, and the greatest that are in both;
    None where a fact is not known. From new to old, until all that is left is common."""
    known = {one.id: one, other.id: other}
    flags = {one.id: _ONE, other.id: _OTHER}
    queue = [(-one.lamport, one.id), (-other.lamport, other.id)]
    heapq.heapify(queue)
    while any(not flags[fact] & _STALE for _, fact in queue):
        _, fact = heapq.heappop(queue)
        mark = flags[fact]
        if mark & _BOTH == _BOTH:
            mark |= _STALE  # what is behind is common, and not the greatest
        for behind in known[fact].replaces:
            if behind not in known:
                found = lookup(behind)
                if found is None or len(known) >= MAX_FACTS:
                    return None
                known[behind] = found
            if flags.get(behind, 0) | mark != flags.get(behind):
                flags[behind] = flags.get(behind, 0) | mark
                heapq.heappush(queue, (-known[behind].lamport, behind))
    mine = {fact: known[fact] for fact, mark in flags.items() if mark == _ONE}
    theirs = {fact: known[fact] for fact, mark in flags.items() if mark == _OTHER}
    return mine, theirs, [known[fact] for fact, mark in flags.items() if mark == _BOTH]


def _adds(side: dict[FactId, Version], against: dict[FactId, Version], lookup: Lookup) -> bool:
    """Return whether a side has an edit that is not, by content, on the other one."""
    there = {_key(version.content) for version in against.values()}
    return any(
        version.content is not None and _key(version.content) not in there and not is_merge(version, lookup)
        for version in side.values()
    )


def _went_through(side: dict[FactId, Version], head: Version) -> bool:
    """Return whether a side had the content of the other side's head."""
    return _key(head.content) in {_key(version.content) for version in side.values()}


def _base(mine: dict[FactId, Version], theirs: dict[FactId, Version], common: list[Version]) -> Version | None:
    """Return the version to merge against: one content that both came to on their own, else the one common ancestor."""
    alike = {_key(v.content) for v in mine.values() if v.content is not None}
    alike &= {_key(v.content) for v in theirs.values() if v.content is not None}
    found = _greatest(mine, alike) + _greatest(theirs, alike) if alike else common
    if len({_key(version.content) for version in found}) != 1:
        return None
    return min(found, key=lambda version: version.id)


def _greatest(side: dict[FactId, Version], alike: set[object]) -> list[Version]:
    """Return those of a side's versions with a content that both have, which are behind no other such."""
    matched = [version for version in side.values() if _key(version.content) in alike]
    behind: set[FactId] = set()
    queue: list[FactId] = [fact for version in matched for fact in version.replaces]
    while queue:
        fact = queue.pop()
        if fact in side and fact not in behind:
            behind.add(fact)
            queue += side[fact].replaces
    return [version for version in matched if version.id not in behind]


def merged_meta(base: FileContent, one: FileContent, other: FileContent) -> tuple[int, int]:
    """Return mode and time of a merged file: each permission as whoever changed it wants, the later of the times."""
    mode = (one.mode & other.mode) | (~base.mode & (one.mode | other.mode))
    return mode, max(one.mtime_ns, other.mtime_ns)


def _key(content: Content | None) -> object:
    """Return what is equal for contents that are no conflict."""
    match content:
        case FileContent(size=size, chunks=chunks):
            return "file", size, chunks
        case LinkContent(target=target):
            return "link", target
        case DirContent():
            return ("dir",)
    return None


def alike(content: Content | None, versions: Iterable[Version]) -> tuple[FactId, ...]:
    """Return the ids of those versions whose content is no conflict with `content`."""
    return tuple(version.id for version in versions if _key(version.content) == _key(content))
