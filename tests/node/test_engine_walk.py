"""A look at everything, taken in pieces: other work has its turn between them, and it finds what one look would."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, running, settle

from shoal.node.folder import looking


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "FIRST_PIECE", 0.0)
    monkeypatch.setattr(looking, "PIECE", 0.0)
    monkeypatch.setattr(looking, "WALK_FILES", 10)


def fill(root: Path) -> None:
    for number in range(120):
        path = root / f"d{number % 12}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text {number}")


@pytest.mark.usefixtures("in_pieces")
async def test_a_new_folder_is_told_of_whole(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    fill(one.root)
    async with running(one, other):
        await settle(one, other)
        assert listing(one.root) == listing(other.root)
        assert one.engine.index.count == 132


@pytest.mark.usefixtures("in_pieces")
async def test_what_changed_while_the_node_was_down_is_found_and_what_moved_is_no_deletion(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    fill(one.root)
    async with running(one, other):
        await settle(one, other)
        folder, file = one.engine.index.find("d3"), one.engine.index.find("d5/f5")
    (one.root / "d3").rename(one.root / "d0" / "moved")  # found before, and after, the place where it is missed
    (one.root / "d5" / "f5").rename(one.root / "d11" / "z")
    shutil.rmtree(one.root / "d7")
    (one.root / "d8" / "f8").write_text("edited")
    again = Device(1, one.root, one.store)
    join(again, other)
    async with running(again, other):
        await settle(again, other)
        assert listing(again.root) == listing(other.root)
        assert (again.engine.index.find("d0/moved"), again.engine.index.find("d11/z")) == (folder, file)
        assert again.engine.index.count == 132 - 11


@pytest.mark.usefixtures("in_pieces")
async def test_a_change_is_told_and_another_devices_comes_while_the_start_looks_at_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    fill(one.root)
    async with running(one, other):
        await settle(one, other)
    again = Device(1, one.root, one.store)
    join(again, other)
    walk_on = again.engine._scanner.go_on

    async def never_done(walk: object, until: float, most: int) -> None:
        await walk_on(walk, until, most)  # type: ignore[arg-type]
        walk.queue = walk.queue or [("d1", again.engine.index.find("d1"))]  # type: ignore[attr-defined]
        await trio.sleep(0.01)

    monkeypatch.setattr(again.engine._scanner, "go_on", never_done)
    async with running(again, other):
        await trio.sleep(0.2)
        (again.root / "mine").write_text("x")
        (other.root / "theirs").write_text("y")
        with trio.fail_after(20):
            while not ((other.root / "mine").exists() and (again.root / "theirs").exists()):  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert again.engine.state().status != "idle"
        monkeypatch.undo()
