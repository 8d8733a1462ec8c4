"""The store's disk is full for a moment, right when a change is carried out: nothing is deleted, reverted or hidden."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from engines import Device, join, part, running, settle
from tests.node.test_crash_matrix import Fate, MortalStore, device, scan

from shoal.crdt.model import ROOT
from shoal.node.folder.apply import Applier
from shoal.node.folder.install import Installer, Target
from shoal.node.folder.signature import Signature
from shoal.node.store import StoreFull


class FullHome(Fate):
    """Fails the next `fails` writes of the store."""

    fails = 0

    def step(self, name: str) -> None:
        if name == "store" and self.fails:
            self.fails -= 1
            raise StoreFull("No space left on device")


def texts(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and ".shoal" not in path.parts)
    return {str(path.relative_to(root)): path.read_text() for path in files}


async def in_sync(base: Path, home: FullHome) -> tuple[Device, Device]:
    one = device(1, base / "one", MortalStore(FullHome()), FullHome())
    other = device(2, base / "other", MortalStore(home), home)
    (one.root / "old").mkdir()
    (one.root / "old" / "x").write_text("x")
    (one.root / "edited").write_text("base")
    join(one, other)
    async with running(one, other):
        await settle(one, other)
    part(one, other)
    return one, other


async def carry_out(one: Device, other: Device) -> None:
    async with running(one):
        await scan(one)
    join(one, other)
    async with running(one, other):
        await trio.sleep(3)
        await settle(one, other)
        for each in (one, other):
            each.engine.scan_soon()
        await trio.sleep(8)
        await settle(one, other)


def test_a_renamed_folder_stays_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = FullHome()
    real = Applier._rename

    def rename(self: Applier, *arguments: Any) -> bool:
        if self._root.endswith("other") and "old" in home.last:
            home.fails, home.last = 2, ""
        return real(self, *arguments)

    async def live() -> None:
        one, other = await in_sync(tmp_path, home)
        (one.root / "old").rename(one.root / "fresh")
        home.last = "old"
        monkeypatch.setattr(Applier, "_rename", rename)
        await carry_out(one, other)
        assert texts(one.root) == texts(other.root) == {"edited": "base", "fresh/x": "x"}

    trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not home.last


def test_new_and_edited_files_that_could_not_be_placed_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = FullHome()
    real = Installer._take_name
    left = {"new", "edited"}

    def take_name(self: Installer, target: Target, made: Signature) -> Any:
        name = Path(target.path).name
        if "/other/" in target.path and name in left:
            left.discard(name)
            home.fails = 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, target, made)

    async def live() -> None:
        one, other = await in_sync(tmp_path, home)
        (one.root / "new").write_text("new")
        (one.root / "edited").write_text("edited by one")
        monkeypatch.setattr(Installer, "_take_name", take_name)
        await carry_out(one, other)
        assert texts(one.root) == texts(other.root) == {"edited": "edited by one", "new": "new", "old/x": "x"}

    trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not left


def test_temporaries_that_somebody_cleared_away_say_nothing_of_what_was_placed(tmp_path: Path) -> None:
    async def live() -> None:
        home = FullHome()
        one, other = await in_sync(tmp_path, home)
        (one.root / "new").write_text("new")
        async with running(one):
            await scan(one)
        (view,) = [view for view in one.replica.children(ROOT) if view.name == "new"]
        async with running(one, other):
            pass
        join(one, other)
        async with running(one, other):
            await settle(one, other)
        record = other.engine.index.get(view.id)
        assert record is not None
        # As after a crash right before it took its name, and `rm .shoal/tmp/*`.
        (other.root / "new").unlink()
        other.engine.index.remove(view.id)
        other.engine.index.intend(record)
        other.engine.index.commit(sync=True)
        other.replica.mark_dirty([view.id])
        async with running(one, other):
            await settle(one, other)
        assert texts(one.root) == texts(other.root)
        assert texts(one.root)["new"] == "new"

    trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
