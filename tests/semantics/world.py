"""Devices that are apart do one thing each, then meet: what do all of them show in the end?

The devices are the simulator's: the real engine, replica and sessions, on a disk, a network and a time that are not.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Sequence
from dataclasses import replace

import trio
import trio.testing
from tests.semantics.case import Case, Disk, Tree, tree
from tests.sim.device import ROOT, Machine
from tests.sim.end import Failure, check
from tests.sim.person import Person
from tests.sim.world import World

from shoal.node.name_rules import NameRules

NAMES = "ABC"
HANDLING = {"move", "swap", "carry", "chmod", "touch", "backup"}  # what is deleted elsewhere may live by these
COPY = re.compile(r" \(conflict \d{4}-\d\d-\d\d [0-9a-f]{8,}\)")
TWIN = re.compile(r" \(conflict [0-9a-f]{12,}\)")
TWIN_SIGN = "(twin)"
RULES: dict[Disk, NameRules] = {
    "folding": NameRules(case="full", forms=True, ignores=True),
    "storing": NameRules(case="full", forms=True, stores="NFD", ignores=True, utf8=True),
    "refusing": NameRules(case="simple", forbids=True, trims=True, reserves=True, utf8=True),
}


class Hand:
    """Carries out what a case says a person did. `name` is the person's; what they write has it in it."""

    def __init__(self, person: Person, name: str) -> None:
        self.person = person
        self.fs = person.fs
        self.name = name
        self._texts = person.texts

    def do(self, operations: str) -> None:
        """Do what a line such as `move a b; edit b` says."""
        self.person.device.by_hand = True
        try:
            for operation in operations.split("; "):
                verb, *paths = operation.replace(" (twin)", TWIN_SIGN).split(" ")
                paths = [self._real(path) for path in paths]
                for path in paths:
                    if verb in HANDLING and self.person.exists(f"{ROOT}/{path}"):
                        self.person._handle(f"{ROOT}/{path}")
                getattr(self, verb)(*(f"{ROOT}/{path}" for path in paths))
        finally:
            self.person.device.by_hand = False
        self.fs.settle()

    def _real(self, path: str) -> str:
        """Return the path with the names that twins are shown under."""
        for name in {path.rpartition("/")[2] for path in self.person.paths()}:
            path = path.replace(TWIN.sub(TWIN_SIGN, name), name) if TWIN.search(name) else path
        return path

    def plant(self, start: Tree) -> None:
        """Make the tree that all start from: folders end in a slash."""
        for path, text in start.items():
            if path.endswith("/"):
                self.fs.mkdir(f"{ROOT}/{path[:-1]}")
            else:
                self._write(f"{ROOT}/{path}", text)
        self.fs.settle()

    def create(self, path: str) -> None:
        self._write(path, f"new by {self.name}")

    def add(self, path: str) -> None:
        """Make a file that says the same, whoever makes it."""
        self._write(path, "the same")

    def mkdir(self, path: str) -> None:
        self.fs.mkdir(path)

    def edit(self, path: str) -> None:
        self._destroy(path)
        self._write(path, f"edit by {self.name}")

    def save(self, path: str) -> None:
        """As many editors do: a new file takes the name."""
        self._write(f"{path}~", f"edit by {self.name}")
        self._destroy(path)
        self.fs.rename(f"{path}~", path)

    def delete(self, path: str) -> None:
        if stat.S_ISDIR(self.fs.lstat(path).mode):
            for name, _ in sorted(self.fs.scan(path)):
                self.delete(f"{path}/{name}")
            self.fs.rmdir(path)
        else:
            self._destroy(path)
            self.fs.unlink(path)

    def move(self, path: str, target: str) -> None:
        """Onto a file that is there, as `mv` does it, the file is replaced."""
        with contextlib.suppress(FileNotFoundError):
            if self.fs.lstat(target).inode != self.fs.lstat(path).inode:  # one file to a disk that folds names
                self._destroy(target)
        self.fs.rename(path, target)

    def swap(self, one: str, other: str) -> None:
        """With a third name, as people do it."""
        self.fs.rename(one, f"{one}.swap")
        self.fs.rename(other, one)
        self.fs.rename(f"{one}.swap", other)

    def folder(self, path: str) -> None:
        """Replace a file by a folder with a file in it."""
        self.delete(path)
        self.fs.mkdir(path)
        self._write(f"{path}/in", f"in by {self.name}")

    def file(self, path: str) -> None:
        """Replace a folder by a file."""
        self.delete(path)
        self._write(path, f"file by {self.name}")

    def chmod(self, path: str) -> None:
        self.fs.open(path, "look").chmod(0o700)

    def carry(self, path: str, target: str) -> None:
        """Move as from one disk to another: it is copied, and removed."""
        self._write(target, self.person.text(path).decode())
        self.fs.open(target, "write").set_time(self.fs.lstat(path).mtime_ns)
        self.fs.unlink(path)

    def backup(self, path: str) -> None:
        """Save as some editors do: what was there gets another name first."""
        self.fs.rename(path, f"{path}~")
        self._write(path, f"edit by {self.name}")

    def touch(self, path: str) -> None:
        self.fs.open(path, "write").set_time(1)

    def _write(self, path: str, text: str) -> None:
        data = text.encode()
        self._texts.written.add(data)
        self._texts.destroyed.pop(data, None)
        file = self.fs.open(path, "write")
        file.truncate(0)
        file.write(data, 0)

    def _destroy(self, path: str) -> None:
        if stat.S_ISREG(self.fs.lstat(path).mode):
            self._texts.destroyed.setdefault(self.person.text(path), set()).add(self.person.device.number)


class Meeting(World):
    """Plays one case."""

    def __init__(self, case: Case, order: Sequence[int], seed: int = 0) -> None:
        """`order`: which device does the case's first operation, its second, and so on."""
        super().__init__(seed, devices=len(case.acts))
        for device in self.devices:
            device.machine = Machine(skew_s=0.0, grain_ns=1, watches_badly=False)
            device.fs._grain_ns = 1
        for at, kind in case.disks:
            device = self.devices[order[at]]
            device.machine = replace(device.machine, names=RULES[kind])
            device.fs.rules = RULES[kind]
        self._case = case
        self._order = order
        self.outcome: tuple[Tree, Tree] = {}, {}

    async def live(self) -> None:
        hands = [Hand(self.people[number], NAMES[at]) for at, number in enumerate(self._order)]
        async with trio.open_nursery() as self._nursery:
            for device in self.devices:
                self._nursery.start_soon(self._keep_up, device)
            for pair in self.links:
                self._nursery.start_soon(self._keep_talking, *pair)
            await trio.sleep(0.5)
            hands[0].plant(tree(self._case.start))
            await self._make_peace()
            for link in self.links.values():
                link.open = False
                link.scope.cancel()
            await trio.sleep(1)
            for hand, act in zip(hands, self._case.acts, strict=True):
                hand.do(act)
            await trio.sleep(5)
            await self._make_peace()
            if self._case.then:
                hands[0].do(self._case.then)
                await trio.sleep(5)
                await self._make_peace()
            check(self.people, self.texts)
            trees = [shown(person) for person in self.people]
            other = [tree for tree, person in zip(trees, self.people, strict=True) if not person.fs.rules.plain]
            usual = [tree for tree, person in zip(trees, self.people, strict=True) if person.fs.rules.plain]
            self.outcome = (usual or other)[0], (other or usual)[0]
            self._nursery.cancel_scope.cancel()


def shown(person: Person) -> Tree:
    """Return what a device shows, as a case says it: the marks of conflict copies and twins without their numbers."""
    found: Tree = {}
    for path in person.paths():
        name = TWIN.sub(" (twin)", COPY.sub(" (copy)", path.removeprefix(f"{ROOT}/")))
        is_dir = stat.S_ISDIR(person.fs.lstat(path).mode)
        name += "/" if is_dir else ""
        while name in found:
            name += "'"
        found[name] = "" if is_dir else person.text(path).decode()
    return found


def play(case: Case, order: Sequence[int], seed: int = 0) -> tuple[Tree, Tree]:
    """Play a case; return the tree that all devices show, and what those with other disks do. Raises Failure."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio._core._run._r.seed(seed)  # type: ignore[attr-defined]
    meeting = Meeting(case, order, seed)
    try:
        trio.run(meeting.live, clock=trio.testing.MockClock(autojump_threshold=0))
    except* Failure as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise Failure(case.id, str(error)) from None
    return meeting.outcome
