"""Conflicts as people see them: found by path, shown with device and time, settled by a word."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt.model import ROOT, Content, DeviceId, FileContent, LinkContent, NodeId, NodeView, Version
from shoal.crdt.naming import origin_name
from shoal.crdt.tree import version_order
from shoal.node.daemon import Node
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.folder.resolving import Unresolved
from shoal.node.merge3 import MAX_TEXT, is_text
from shoal.node.runtime import FolderRuntime
from shoal.transfer.chunking import FileChanged

TAG = 8  # hex digits of a copy's id, as in its name
FOLLOWS = 10.0  # seconds for which a settled conflict is followed to the disk


@dataclass(frozen=True, slots=True)
class Competing:
    """One of the versions. `tag`: the copy's short id, "" for the one that holds the name; `path`: absolute, where it
    is or will be on this disk; `here`: whether it is there."""

    tag: str
    name: str
    path: str
    version: Version
    device: str
    is_own: bool
    here: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file with competing versions; the first of them holds the name."""

    folder: FolderRuntime
    node: NodeId
    path: str
    versions: tuple[Competing, ...]

    @property
    def mine(self) -> Competing:
        """What this device wrote last, where it wrote one of them; else what holds the name."""
        own = [each for each in self.versions if each.is_own]
        return max(own, key=lambda each: version_order(each.version), default=self.versions[0])


def conflicts(node: Node) -> list[Conflict]:
    """Return the conflicts of all folders, by path."""
    found = [
        made
        for folder in node.folders.values()
        for each in folder.replica.conflicted
        if (view := folder.replica.view(each)) is not None
        if (made := _conflict(node, folder, view)) is not None
    ]
    return sorted(found, key=lambda conflict: conflict.path)


def count(folder: FolderRuntime) -> int:
    """Return how many conflicts a folder has."""
    return sum(folder.replica.view(each) is not None for each in folder.replica.conflicted)


def at(node: Node, path: str) -> tuple[Conflict, Competing]:
    """Return the conflict of the file at an absolute path, or of the copy there, and which version is meant. Raises
    UserError."""
    folder, relative = _locate(node, path)
    view = _view_at(folder, relative)
    owner = folder.replica.view(view.copy_of) if view is not None and view.copy_of is not None else view
    found = _conflict(node, folder, owner) if owner is not None else None
    if found is None or view is None:
        if view is None and not os.path.lexists(path):
            raise UserError("no-such-file", f"there is no {path}", "see: shoal conflicts", status=404)
        raise UserError("no-conflict", f"{path} has no conflict", "see: shoal conflicts", status=404)
    meant = next((each for each in found.versions if each.version.id == view.version.id), found.versions[0])
    return found, meant


def pick(conflict: Conflict, word: str, path: str = "") -> Competing | None:
    """Return the version that a word names: a copy's short id or file name, or the path of the file or a copy; None
    when it is none of these. Raises UserError."""
    copies = conflict.versions[1:]
    tagged = [each for each in copies if len(word) >= 4 and each.tag.startswith(word.lower())]
    if len(tagged) > 1:
        raise UserError(
            "ambiguous", f"{word!r} is the beginning of several copies' ids", _choices(conflict), EXIT_USAGE
        )
    named = [each for each in copies if word == each.name]
    placed = [each for each in conflict.versions if path and path == each.path]
    return next(iter((*tagged, *named, *placed)), None)


def theirs(conflict: Conflict) -> Competing:
    """Return the version that is not `mine`. Raises UserError when there are several."""
    others = [each for each in conflict.versions if each is not conflict.mine]
    if len(others) > 1:
        text = f"{conflict.path} has {len(others)} versions that are not yours: say which"
        raise UserError("ambiguous", text, _choices(conflict), EXIT_USAGE)
    return others[0]


async def resolve(node: Node, path: str, keep: str, keep_path: str) -> list[str]:
    """Settle a conflict everywhere; return the absolute paths of what there is now. `keep`: mine, theirs, both, a copy
    or a file; `keep_path`: that word as an absolute path. Raises UserError."""
    conflict, _ = at(node, path)
    _check_works(conflict.folder)
    resolver = conflict.folder.engine.resolver
    await resolver.catch_up(conflict.node)
    conflict = _again(node, conflict)
    made: list[str] = []
    try:
        if keep == "both":
            names = {each.tag: each.device for each in conflict.versions}
            made = await resolver.keep_both(conflict.node, lambda copy, taken: _free_name(copy, conflict, names, taken))
        elif (chosen := _chosen(conflict, keep, keep_path)) is not None:
            await resolver.keep(conflict.node, chosen.version)
        else:
            if not _is_file(keep_path):
                text = f"{keep!r} is neither mine, theirs nor both, nor a copy, nor a file"
                raise UserError("no-such-version", text, _choices(conflict), EXIT_USAGE)
            node.check_reachable(keep_path)
            await resolver.keep_file(conflict.node, keep_path)
    except Unresolved as error:
        raise UserError("unresolved", f"{conflict.path}: {error}", "see: shoal conflicts") from error
    except (OSError, FileChanged) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError("unresolved", f"{keep_path or conflict.path}: {reason}", "nothing was changed") from error
    node.events.add("resolved", f"{conflict.folder.entry.name}: {conflict.path}", folder=conflict.folder.entry.name)
    await _follow(conflict)
    directory = os.path.dirname(conflict.path)
    return [conflict.path, *(os.path.join(directory, name) for name in made)]


async def texts(conflict: Conflict, versions: list[Competing]) -> list[str | None]:
    """Return the versions' texts, None for what is no text. Raises UserError where one is not to be had."""
    contents: list[Content] = [each.version.content for each in versions if each.version.content is not None]
    small = [content for content in contents if not isinstance(content, FileContent) or content.size <= MAX_TEXT]
    if len(small) < len(versions):
        return [None] * len(versions)
    found = await conflict.folder.engine.contents.whole(small)
    for each, data in zip(versions, found, strict=True):
        if data is None:
            text = f"what {each.device} wrote in {conflict.path} is not here yet"
            raise UserError("not-here", text, f"it comes when {each.device} or who has it is connected")
    return [data.decode() if data is not None and is_text(data) else None for data in found]


def _chosen(conflict: Conflict, keep: str, keep_path: str) -> Competing | None:
    if keep == "mine":
        return conflict.mine
    if keep == "theirs":
        return theirs(conflict)
    return pick(conflict, keep, keep_path)


async def _follow(conflict: Conflict) -> None:
    """Wait until the settled conflict is so on this disk, or for a while."""
    replica = conflict.folder.replica
    with trio.move_on_after(FOLLOWS):
        while replica.dirty.is_marked(conflict.node):  # noqa: ASYNC110 - the engine does not say when
            await trio.sleep(0.02)


def _again(node: Node, conflict: Conflict) -> Conflict:
    view = conflict.folder.replica.view(conflict.node)
    found = _conflict(node, conflict.folder, view) if view is not None else None
    if found is None:
        raise UserError("no-conflict", f"{conflict.path} has no conflict any more", "see: shoal conflicts", status=404)
    return found


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def _check_works(folder: FolderRuntime) -> None:
    state = folder.engine.state()
    if state.status == "stopped":
        raise UserError("folder-stopped", f"the folder {folder.entry.name!r} is stopped: {state.reason}", "")


def _locate(node: Node, path: str) -> tuple[FolderRuntime, str]:
    """Return the folder that a path is in, and the path relative to it."""
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    for folder in node.folders.values():
        if real.startswith(folder.engine.root + "/"):
            return folder, real[len(folder.engine.root) + 1 :]
    raise UserError("not-in-folder", f"{path} is in no folder that is kept here", "see: shoal folder list", status=404)


def _view_at(folder: FolderRuntime, relative: str) -> NodeView | None:
    """Return what is shown at a path: as it is on this disk, or else in the document."""
    here = folder.engine.index.find(relative)
    if here is not None and (view := folder.replica.view(here)) is not None:
        return view
    parent, view = ROOT, None
    for name in relative.split("/"):
        view = folder.replica.child_named(parent, name)
        if view is None:
            return None
        parent = view.id
    return view


def _conflict(node: Node, folder: FolderRuntime, view: NodeView) -> Conflict | None:
    if not view.conflicts:
        return None
    directory = _directory(folder, view)
    devices = node.account.devices()
    shown = [view, *folder.replica.copies(view.id)]
    versions = tuple(
        Competing(
            tag=each.id.hex()[:TAG] if each.copy_of is not None else "",
            name=each.name,
            path=os.path.join(directory, each.name),
            version=each.version,
            device=_device_name(devices, each.version.device),
            is_own=each.version.device == node.key.id,
            here=(record := folder.engine.index.get(each.id)) is not None and record.version == each.version.id,
        )
        for each in shown
    )
    return Conflict(folder, view.id, os.path.join(directory, view.name), versions)


def _directory(folder: FolderRuntime, view: NodeView) -> str:
    names: list[str] = []
    parent = view.parent
    while parent != ROOT:
        above = folder.replica.view(parent)
        if above is None:
            break
        names.append(above.name)
        parent = above.parent
    return os.path.join(folder.path, *reversed(names))


def _device_name(devices: Mapping[DeviceId, str], device: DeviceId) -> str:
    return devices.get(device) or f"device {peer_id_text(device)[-8:]}"


def _choices(conflict: Conflict) -> str:
    copies = ", ".join(f"{each.tag} ({each.device})" for each in conflict.versions[1:])
    return f"--keep mine, theirs, both, FILE, or a copy: {copies}"


def _free_name(copy: NodeView, conflict: Conflict, devices: Mapping[str, str], taken: set[str]) -> str:
    device = devices.get(copy.id.hex()[:TAG], "another device")
    own = os.path.basename(conflict.path)
    number = 1
    while (name := origin_name(own, device, copy.version.time_ms, number)) in taken:
        number += 1
    return name


def size_of(content: Content | None) -> int:
    """Return the bytes of a content."""
    match content:
        case FileContent(size=size):
            return size
        case LinkContent(target):
            return len(target)
    return 0
