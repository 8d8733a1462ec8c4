"""A device dies at every single system call and write of its store while it carries out a plan of twelve steps on real
files; each time it comes back to the other device's tree, with nothing lost and nothing left behind."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from engines import Device, join, listing, part, running, settle
from tests.sim.device import InlineTurns
from trio_typing import TaskStatus

from shoal.node.folder.engine import FolderEngine
from shoal.node.folder.linux import Linux
from shoal.node.store import MemoryStore
from shoal.node.store.port import Op

CHANGING = {
    "mkdir", "rmdir", "unlink", "link", "symlink", "set_link_time", "rename", "rename_new", "exchange", "sync_all",
    "write", "truncate", "chmod", "set_time", "sync",
}  # fmt: skip
EVERY_IN_CI = 9


class Killed(BaseException):
    """The device died at this line."""


class Fate:
    """When a device dies: at its `left`-th change of disk or store from when it was set. The dead change nothing."""

    def __init__(self) -> None:
        self.left = 1 << 60
        self.dead = False
        self.last = ""

    def step(self, name: str) -> None:
        """Count one change; raises Killed."""
        self.left -= 1
        if self.left < 0 and not self.dead:
            self.dead, self.last = True, name
        if self.dead:
            raise Killed


class Mortal:
    """A file system, or a file of it, whose changes are counted."""

    def __init__(self, inner: Any, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "open":
            return self._open
        if name not in CHANGING:
            return found

        @functools.wraps(found)
        def counted(*arguments: Any, **named: Any) -> Any:
            self._fate.step(name)
            return found(*arguments, **named)

        return counted

    def _open(self, path: str, how: Any) -> Mortal:
        if how == "write":
            self._fate.step("open")
        return Mortal(self._inner.open(path, how), self._fate)


class MortalStore(MemoryStore):
    """A store whose writes are counted; what was not synced is lost with the device."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate = fate

    def write(self, ops: Sequence[Op], *, sync: bool) -> None:
        self.fate.step("store")
        super().write(ops, sync=sync)


async def see_nothing(
    root: str,
    saw: Callable[[set[str]], None],
    lost_track: Callable[[], None],
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    task_status.started()
    await trio.sleep_forever()


def device(number: int, root: Path, store: MemoryStore, fate: Fate) -> Device:
    made = Device(number, root, store)
    made.engine = FolderEngine(
        str(root),
        store,
        made.replica,
        made._fetch,
        lambda: 0,
        fs=Mortal(Linux(str(root)), fate),
        turns=InlineTurns(),
        watch=see_nothing,
    )
    return made


def start(root: Path) -> None:
    for folder in ("old", "going", "up/in", "shape"):
        (root / folder).mkdir(parents=True)
    for name in ("old/x", "a", "b", "edit", "name", "gone", "going/y", "modes", "up/in/deep", "shape/z"):
        (root / name).write_text(f"{name} at first")


def change(root: Path) -> None:
    (root / "made").mkdir()
    (root / "made" / "new").write_text("made/new")
    (root / "edit").write_text("edit, and longer")
    (root / "name").rename(root / "renamed")
    (root / "old").rename(root / "fresh")
    (root / "a").rename(root / "t")
    (root / "b").rename(root / "a")
    (root / "t").rename(root / "b")
    (root / "gone").unlink()
    (root / "going" / "y").unlink()
    (root / "going").rmdir()
    (root / "modes").chmod(0o600)
    (root / "link").symlink_to("edit")
    (root / "up" / "in" / "deep").rename(root / "deep")
    (root / "shape" / "z").unlink()
    (root / "shape").rmdir()
    (root / "shape").write_text("a file by now")


def texts_in(root: Path) -> set[bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.read_bytes() for path in files if ".shoal" not in path.relative_to(root).parts}


async def scan(one: Device) -> None:
    await one.engine.scan()
    await settle(one)


async def live(base: Path, die_at: int) -> str | None:
    """Return the call at which the device died, None when the plan ended before; raises AssertionError."""
    sound, fate = Fate(), Fate()
    one = device(1, base / "one", MortalStore(sound), sound)
    store = MortalStore(fate)
    other = device(2, base / "other", store, fate)
    start(one.root)
    join(one, other)
    async with running(one, other):
        await settle(one, other)
        assert listing(one.root) == listing(other.root)
    texts = texts_in(other.root)
    part(one, other)
    change(one.root)
    async with running(one):
        await scan(one)
    meant = listing(one.root)
    join(one, other)  # the whole plan is known, and none of it done
    fate.left = die_at
    try:
        async with running(other):
            await settle(other)
    except* Killed:
        pass
    if fate.dead:
        part(one, other)
        store.crash()
        store.fate = Fate()
        other = device(2, base / "other", store, store.fate)
        join(one, other)
    fate.left = 1 << 60  # whoever lived through the plan does not die of what comes after it
    async with running(one, other):
        await scan(other)
        await settle(one, other)
    assert listing(one.root) == listing(other.root) == meant
    assert texts <= texts_in(other.root) | texts_in(other.root / ".shoal" / "versions")
    assert os.listdir(other.root / ".shoal" / "tmp") == []
    return fate.last if fate.dead else None


def matrix(base: Path, every: int) -> list[str]:
    """Live through every `every`-th death; return at which calls they were."""
    deaths: list[str] = []
    number = 0
    while True:
        clock = trio.testing.MockClock(autojump_threshold=0)
        (base / str(number)).mkdir()
        try:
            died = trio.run(live, base / str(number), number, clock=clock)
        except BaseException as error:
            error.add_note(f"killed at change number {number}")
            raise
        if died is None:
            return deaths
        deaths.append(died)
        number += every


def test_a_device_that_dies_now_and_then_in_a_plan_comes_back_whole(tmp_path: Path) -> None:
    deaths = matrix(tmp_path, EVERY_IN_CI)
    assert len(deaths) > 5


@pytest.mark.soak
def test_a_device_that_dies_at_any_call_of_a_plan_comes_back_whole(tmp_path: Path) -> None:
    deaths = matrix(tmp_path, 1)
    assert {"mkdir", "rename_new", "exchange", "unlink", "symlink", "chmod", "rmdir", "store"} <= set(deaths)
