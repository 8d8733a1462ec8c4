"""What brings a part of the tree back to how it stood before: changes like any others, so nothing of since is lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shoal.crdt.model import ROOT, Content, FactId, NodeId, Version
from shoal.crdt.tree import Tree, version_order
from shoal.crdt.tree_index import NodeRecord


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


def revival(now: Tree, node: NodeId, versions: Iterable[Version]) -> Back | None:
    """Return what brings a dead node back with the last content it had; None for one that lives or never had any.
    `versions`: all of it."""
    record = now.index.get(node)
    last = max((each for each in versions if each.content is not None), key=version_order, default=None)
    if record is None or last is None or now.view(node) is not None:
        return None
    return Back(node, last.content, last_deletion(record), None)


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
