"""What must hold in the end, when all devices have come to rest."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from tests.sim.device import ROOT, Device
from tests.sim.person import Person, Texts

from shoal.crdt.model import Version

Tree = dict[str, tuple[int, bytes | str]]
"""Path -> mode, and a file's text or what else is there."""


class Failure(AssertionError):
    """What must not happen, happened. `kind`: the same for the same fault; `script`: what happened before."""

    def __init__(self, kind: str, detail: str, script: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.detail = detail
        self.script = script
        super().__init__("\n".join([f"{kind}: {detail}", *script]))


def check(people: Sequence[Person], texts: Texts) -> None:
    """Raises Failure."""
    for person in people:
        if person.device.trouble:
            raise Failure("a fault", f"device {person.device.number}: {person.device.trouble[0]}")
    trees = [_tree(person) for person in people]
    for number, tree in enumerate(trees):
        if tree != trees[0]:
            mine, theirs = set(trees[0].items()), set(tree.items())
            raise Failure("devices differ", f"0 has {sorted(mine - theirs)}, and {number} {sorted(theirs - mine)}")
    live = {content for _, content in trees[0].values() if isinstance(content, bytes)}
    if lost := texts.written - live - texts.destroyed.keys() - _kept(people):
        raise Failure("lost", str(sorted(lost)))
    if hidden := texts.written - live - texts.destroyed.keys():
        raise Failure("hidden", f"nobody overwrote or removed these, and they are only in history: {sorted(hidden)}")
    if back := {text for text in live & texts.written & texts.destroyed.keys() if not texts.may_come_back(text)}:
        raise Failure("came back", str(sorted(path for path, (_, text) in trees[0].items() if text in back)))
    for person in people:
        if left := [name for name, _ in person.fs.scan(f"{ROOT}/.shoal/tmp")]:
            raise Failure("temporaries are left", f"device {person.device.number}: {left}")


def _tree(person: Person) -> Tree:
    """Return what a device shows; under the names of the document, where its disk cannot hold those."""
    tree: Tree = {}
    own = {} if person.fs.rules.plain else _own_names(person)
    for path in person.paths():
        found = person.fs.lstat(path)
        content: bytes | str = person.text(path) if stat.S_ISREG(found.mode) else "folder"
        tree["/".join(own.get(part, part[1]) for part in _parts(path))] = found.mode, content
    return tree


def _parts(path: str) -> list[tuple[str, str]]:
    """Return the names in a path, each with the folder that it is in."""
    names = path.split("/")
    return [("/".join(names[:at]), name) for at, name in enumerate(names)]


def _own_names(person: Person) -> dict[tuple[str, str], str]:
    """Return what is called otherwise on a disk that cannot hold all names: folder and name -> the document's name. Of
    those that are one to the disk, one must have its own name there, as the disk spells it."""
    rules, device = person.fs.rules, person.device
    own: dict[tuple[str, str], str] = {}
    alike: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for path in person.paths():
        folder, name = _parts(path)[-1]
        node = device.engine.index.find(path.removeprefix(ROOT + "/"))
        view = device.replica.tree.view(node) if node is not None else None
        if view is None:
            raise Failure("unknown", f"device {device.number}: {path}")
        if view.name != name:
            own[folder, name] = view.name
        spelt = rules.spell(view.name)
        alike.setdefault((folder, rules.key(spelt)), []).append((name, spelt))
    for (folder, _), names in alike.items():
        if sum(name == spelt for name, spelt in names) != 1 or any(
            name != spelt and "(conflict " not in name for name, spelt in names
        ):
            raise Failure("misnamed", f"device {device.number}: in {folder}: {names}")
    return own


def _kept(people: Sequence[Person]) -> set[bytes]:
    kept = set()
    for person in people:
        versions = f"{ROOT}/.shoal/versions"
        kept |= {person.text(f"{versions}/{name}") for name, _ in person.fs.scan(versions)}
    return kept


def describe(device: Device) -> str:
    """Return what a device waits for."""
    if not device.up:
        return f"{device.number}: down"
    state = device.engine.state()
    lines = [f"{device.number}: {state.status} {state.reason} {[(p.path, p.reason) for p in state.problems]}"]
    for node in device.replica.dirty.first(6):
        view, record = device.replica.view(node), device.engine.index.get(node)
        wanted = f"{view.name!r} {_version(view.version)}" if view is not None else "gone"
        if view is not None:
            wanted += "".join(f", copy {_version(each)}" for each in view.conflicts)
        there = (
            f"{device.engine.index.path(node)!r} {record.version.hex()[:4]}" if record and record.version else "nothing"
        )
        lines.append(f"    {node.hex()[:6]} wanted {wanted}; there {there}")
    return "\n".join(lines)


def _version(version: Version) -> str:
    return f"{version.id.hex()[:4]} by {version.device.hex()[:4]} {type(version.content).__name__} at {version.lamport}"
