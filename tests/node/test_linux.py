"""Below its root a folder's disk is reached without following a link, whenever one comes into the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from engines import Device, join, part, running, settle
from trio_typing import TaskStatus

from shoal.node.folder import linux
from shoal.node.folder.engine import FolderEngine
from shoal.node.folder.linux import Linux

CALLS: dict[str, Callable[[Linux, str], object]] = {
    "open to read": lambda fs, way: fs.open(f"{way}/f", "read"),
    "open to write": lambda fs, way: fs.open(f"{way}/new", "write"),
    "look into": lambda fs, way: fs.open(f"{way}/f", "look"),
    "open folder": lambda fs, way: fs.open(f"{way}/in", "folder"),
    "lstat": lambda fs, way: fs.lstat(f"{way}/f"),
    "scan": lambda fs, way: fs.scan(f"{way}/in"),
    "mkdir": lambda fs, way: fs.mkdir(f"{way}/new"),
    "rmdir": lambda fs, way: fs.rmdir(f"{way}/in"),
    "unlink": lambda fs, way: fs.unlink(f"{way}/f"),
    "link from": lambda fs, way: fs.link(f"{way}/f", f"{os.path.dirname(way)}/g"),
    "link to": lambda fs, way: fs.link(f"{os.path.dirname(way)}/here", f"{way}/g"),
    "symlink": lambda fs, way: fs.symlink("f", f"{way}/new"),
    "readlink": lambda fs, way: fs.readlink(f"{way}/l"),
    "set_link_time": lambda fs, way: fs.set_link_time(f"{way}/l", 1),
    "rename from": lambda fs, way: fs.rename(f"{way}/f", f"{os.path.dirname(way)}/g"),
    "rename to": lambda fs, way: fs.rename(f"{os.path.dirname(way)}/here", f"{way}/g"),
    "rename_new": lambda fs, way: fs.rename_new(f"{os.path.dirname(way)}/here", f"{way}/g"),
    "exchange": lambda fs, way: fs.exchange(f"{os.path.dirname(way)}/here", f"{way}/f"),
    "sync_all": lambda fs, way: fs.sync_all(f"{way}/in"),
}


@pytest.fixture(params=["openat2", "part by part"])
def root(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which `link` leads outside, to where things of the same names are."""
    if request.param == "part by part":
        monkeypatch.setattr(linux, "_knows_openat2", lambda: False)
    root = tmp_path / "root"
    for place in (root / "real", root / "deep" / "real", tmp_path / "outside"):
        (place / "in").mkdir(parents=True)
        (place / "f").write_text("f")
        (place / "l").symlink_to("f")
    for place in (root, root / "deep"):
        (place / "here").write_text("here")
        (place / "link").symlink_to(tmp_path / "outside")
    yield root
    assert sorted(os.listdir(tmp_path / "outside")) == ["f", "in", "l"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("deep", ["", "deep/"])
def test_every_call_goes_through_folders_and_through_no_link(root: Path, call: str, deep: str) -> None:
    fs = Linux(str(root))
    with pytest.raises(NotADirectoryError):
        CALLS[call](fs, f"{root}/{deep}link")
    opened = CALLS[call](fs, f"{root}/{deep}real")
    if isinstance(opened, linux.LinuxFile):
        opened.close()


def test_a_folder_is_reached_with_a_slash_at_its_end_too(root: Path) -> None:
    assert [name for name, _ in Linux(str(root)).scan(f"{root}/deep/real/in/")] == []
    assert len(Linux(str(root)).scan(f"{root}/deep/")) == len(os.listdir(root / "deep"))


def test_nothing_may_be_written_where_a_link_leads(root: Path) -> None:
    assert Linux(str(root)).may_write(f"{root}/real/in")
    assert not Linux(str(root)).may_write(f"{root}/link/in")


@pytest.mark.parametrize("call", ["lstat", "scan"])
def test_what_is_no_part_of_the_folder_is_reached_as_ever(root: Path, call: str) -> None:
    CALLS[call](Linux(str(root / "real")), f"{root}/link")


def test_a_link_in_the_place_of_a_folder_is_no_folder(root: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        Linux(str(root)).scan(f"{root}/link")


def test_what_is_held_stays_the_folder_that_it_was_and_is_let_go(root: Path, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    fs = Linux(str(root))
    with fs.held():
        fs.lstat(f"{root}/real/f")
        (root / "real").rename(root / "elsewhere")
        (root / "real").symlink_to(tmp_path / "outside")
        fs.mkdir(f"{root}/real/new")
        for number in range(200):
            (root / str(number)).mkdir()
            fs.mkdir(f"{root}/{number}/in")
        assert len(os.listdir("/proc/self/fd")) < len(before) + 100
    assert (root / "elsewhere" / "new").is_dir()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    with pytest.raises(NotADirectoryError):
        fs.lstat(f"{root}/real/f")


class Treacherous:
    """A file system on which a program swaps the folder `d` for a link to elsewhere right before the `left`-th call."""

    def __init__(self, root: Path, outside: Path) -> None:
        self._inner = Linux(str(root))
        self._root = root
        self._outside = outside
        self.left = 1 << 60

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("held", "space", "real_path"):
            return found

        def call(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                (self._root / "d").rename(self._root / "away")
                (self._root / "d").symlink_to(self._outside)
            return found(*arguments)

        return call


async def see_nothing(
    root: str,
    saw: Callable[[set[str]], None],
    lost_track: Callable[[], None],
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    task_status.started()
    await trio.sleep_forever()


def listing(folder: Path) -> list[tuple[str, int, bytes]]:
    return sorted(
        (str(path.relative_to(folder)), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    )


@pytest.mark.parametrize(
    "call", [*range(5, 200, 13), *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 400))]
)
async def test_a_folder_swapped_for_a_link_at_any_call_leads_nothing_outside(tmp_path: Path, call: int) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    outside = tmp_path / "outside"
    disk = Treacherous(other.root, outside)
    other.engine = FolderEngine(
        str(other.root), other.store, other.replica, other._fetch, lambda: 0, fs=disk, watch=see_nothing
    )
    for name in ("d/edit", "d/gone", "d/old", "d/mode", "d/sub/x", "d/out", "in"):
        (one.root / name).parent.mkdir(parents=True, exist_ok=True)
        (one.root / name).write_text(f"{name} at first")
    join(one, other)
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        (one.root / "d" / "edit").write_text("edited, and longer")
        (one.root / "d" / "gone").unlink()
        (one.root / "d" / "old").rename(one.root / "d" / "fresh")
        (one.root / "d" / "mode").chmod(0o600)
        (one.root / "d" / "sub").rename(one.root / "d" / "bus")
        (one.root / "d" / "out").rename(one.root / "out")
        (one.root / "in").rename(one.root / "d" / "in")
        (one.root / "d" / "made").mkdir()
        (one.root / "d" / "made" / "new").write_text("new")
        await one.engine.scan()
        await settle(one)
        for name in ("edit", "gone", "old", "mode", "sub/x", "out"):
            (outside / name).parent.mkdir(parents=True, exist_ok=True)
            (outside / name).write_text("of another")
        before = listing(outside)
        disk.left = call
        join(one, other)
        with trio.move_on_after(1.5):
            await settle(one, other)
    assert listing(outside) == before
