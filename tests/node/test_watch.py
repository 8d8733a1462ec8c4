"""What the watcher tells of, and what it does not follow."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from shoal.node.folder.watch import watch

KEPT = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


class Heard:
    """What a watch has said so far."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.lost = 0

    def lose(self) -> None:
        self.lost += 1


@asynccontextmanager
async def watching(root: Path) -> AsyncIterator[Heard]:
    heard = Heard()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch, str(root), heard.paths.update, heard.lose)
        yield heard
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()


async def test_names_of_all_sorts_are_told(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    async with watching(tmp_path) as heard:
        (tmp_path / "d" / "f").write_text("x")
        (tmp_path / ".shoalignore").write_text("*.log")
        os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    assert {"d/f", ".shoalignore", "caf\udce9"} <= heard.paths
    assert not heard.lost


async def test_what_is_made_in_a_new_folder_is_told_wherever_the_folder_goes(tmp_path: Path) -> None:
    async with watching(tmp_path) as heard:
        (tmp_path / "new" / "deep").mkdir(parents=True)
        await trio.sleep(0.1)
        (tmp_path / "new" / "deep" / "f").touch()
        await trio.sleep(0.1)
        (tmp_path / "new").rename(tmp_path / "moved")
        await trio.sleep(0.1)
        heard.paths.clear()
        (tmp_path / "moved" / "deep" / "g").touch()
    assert heard.paths == {"moved/deep/g"}


async def test_shoals_own_places_and_what_links_point_at_are_not_watched(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / ".shoal" / "tmp").mkdir(parents=True)
    outside.mkdir()
    (root / "link").symlink_to(outside)
    async with watching(root) as heard:
        (outside / "secret").write_text("x")
        (root / ".shoal" / "tmp" / "t").touch()
    assert heard.paths == set()


async def test_a_folder_moved_out_is_watched_no_more(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    async with watching(root) as heard:
        (root / "d").rename(tmp_path / "elsewhere")
        await trio.sleep(0.1)
        (tmp_path / "elsewhere" / "f").touch()
    assert heard.paths == {"d"}


async def test_more_events_than_the_kernel_keeps_are_told_as_a_loss(tmp_path: Path) -> None:
    async with watching(tmp_path) as heard:
        for number in range(KEPT // 2):  # each is several events; and nothing is read meanwhile
            (tmp_path / str(number)).write_text("x")
        with trio.fail_after(30):
            while not heard.lost:  # noqa: ASYNC110 - it comes after the thousands that were kept
                await trio.sleep(0.05)
