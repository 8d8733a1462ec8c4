"""What brings a part of the tree back to how it stood before: changes like any others, so nothing of since is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shoal.crdt.model import ROOT, Content, FactId, NodeId, Version
from shoal.crdt.tree import Tree, version_order
from shoal.crdt.tree_index import NodeRecord

TOGETHER_MS = 10_000  # deletions of one device that lie closer together are one act of a person


@dataclass(frozen=True, slots=True)
class Back:
    """One node's way back. `content`: what it is to hold again, None as it is; `base`: the version that this replaces;
    `place`: parent and own name that it is to have again, None as they are."""

    node: NodeId
    content: Content | None
    base: FactId | None
    place: tuple[NodeId, str] | None


@dataclass(frozen=True, slots=True)
class Rewind:
    """`back`: parents before what is in them; `newer`: live nodes that were not there then, what is in them first."""

    back: tuple[Back, ...]
    newer: tuple[NodeId, ...]


def rewind(old: Tree, now: Tree, top: NodeId) -> Rewind:
    """Compare what was in `top` with what is. Where `top` itself was moved since, it stays; its content comes back."""
    back: list[Back] = []
    stood: set[NodeId] = set()
    queue = [top]
    while queue:
        node = queue.pop(0)
        stood.add(node)
        if node != ROOT:
            stands = _standing_for(old, now, node)
            stood.add(stands)
            way = _way_back(old, now, node, stands, is_top=node == top)
            if way is not None:
                back.append(way)
        queue += [view.id for view in old.children(node) if view.copy_of is None]
    newer = [node for node in _inside(now, top) if node not in stood and old.view(node) is None]
    return Rewind(tuple(back), tuple(reversed(newer)))


def revival(now: Tree, node: NodeId, versions: Iterable[Version]) -> list[Back]:
    """Return what brings a dead node back with the content it had last; with all of its contents, the one that had the
    name at last, where they were in conflict and went together. Nothing for a node that lives or never had any.
    `versions`: all of it."""
    known = {version.id: version for version in versions}
    record = now.index.get(node)
    last = max((each for each in known.values() if each.content is not None), key=version_order, default=None)
    if record is None or last is None or now.view(node) is not None:
        return []
    found: dict[FactId, FactId] = {}  # content version -> the deletion of it
    if record.kind != "dir":
        found = {gone.id: deletion.id for deletion in _one_act(record) if (gone := _deleted(deletion, known))}
    if len(found) < 2:
        return [Back(node, last.content, last_deletion(record), None)]
    return [
        Back(node, known[gone].content, found[gone], None)
        for gone in sorted(found, key=lambda each: version_order(known[each]))
    ]


def _one_act(record: NodeRecord) -> list[Version]:
    """Return the deletions among the heads that were made with the last one."""
    found: list[Version] = []
    deletions = (head for head in record.heads if head.content is None)
    for each in sorted(deletions, key=lambda head: (head.time_ms, head.id), reverse=True):
        last = found[-1] if found else each
        if each.device == last.device and last.time_ms - each.time_ms <= TOGETHER_MS:
            found.append(each)
    return found


def _deleted(deletion: Version, known: Mapping[FactId, Version]) -> Version | None:
    """Return the version whose content a deletion took away."""
    queue, seen = [deletion], {deletion.id}
    while queue:
        replaced = [known[each] for each in queue.pop(0).replaces if each in known and each not in seen]
        whole = [each for each in replaced if each.content is not None]
        if whole:
            return max(whole, key=version_order)
        seen.update(each.id for each in replaced)
        queue += replaced
    return None


def last_deletion(record: NodeRecord) -> FactId | None:
    """Return the head that a version which revives the node replaces."""
    heads = [head for head in record.heads if head.content is None]
    return max(heads, key=version_order).id if heads else None


def _standing_for(old: Tree, now: Tree, node: NodeId) -> NodeId:
    """Return the node itself; for a file that was deleted and made anew, the one that has its place now."""
    then, was = old.view(node), old.index.get(node)
    if then is None or was is None or was.parent is None or then.kind == "dir" or now.view(node) is not None:
        return node
    for other in now.index.named(was.parent, was.name):
        view = now.view(other)
        if view is not None and view.kind == "file" and old.view(other) is None:
            return other
    return node


def _way_back(old: Tree, now: Tree, node: NodeId, stands: NodeId, *, is_top: bool) -> Back | None:
    then, was, record = old.view(node), old.index.get(node), now.index.get(stands)
    if then is None or was is None or was.parent is None or record is None:
        return None
    shown = now.view(stands)
    base = shown.version.id if shown is not None else last_deletion(record)
    content = then.version.content if shown is None or shown.version.content != then.version.content else None
    moved = not is_top and (record.parent, record.name) != (was.parent, was.name)
    place = (was.parent, was.name) if moved else None
    return Back(stands, content, base, place) if content is not None or place is not None else None


def _inside(tree: Tree, top: NodeId) -> list[NodeId]:
    found: list[NodeId] = []
    queue = [top]
    while queue:
        for view in tree.children(queue.pop(0)):
            if view.copy_of is None:
                found.append(view.id)
                queue.append(view.id)
    return found
