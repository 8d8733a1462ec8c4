"""Large files are read beside what else there is to tell."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
from engines import Device, join, running, settle

from shoal.node.folder import large_files
from shoal.node.folder.disk import Disk
from shoal.transfer.chunking import chunk_id

SIZE = 1000


@pytest.fixture(autouse=True)
def small_ones_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_files, "LARGE", SIZE)


async def test_a_large_file_comes_whole_when_new_edited_and_moved(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    async with running(one, other):
        for text in ("a" * SIZE, "b" * 3 * SIZE):
            (one.root / "large").write_text(text)
            await settle(one, other)
            assert (other.root / "large").read_text() == text
        (one.root / "large").rename(one.root / "moved")
        await settle(one, other)
        assert (other.root / "moved").read_text() == "b" * 3 * SIZE
        assert not (other.root / "large").exists()
        (one.root / "moved").unlink()
        await settle(one, other)
        assert not (other.root / "moved").exists()


async def test_what_is_saved_while_a_large_file_is_read_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    reading, go_on = threading.Event(), threading.Event()
    real = Disk.read_content

    def slow(self: Disk, path: str, *arguments: Any) -> Any:
        if path.endswith("large"):
            reading.set()
            go_on.wait(30)
        return real(self, path, *arguments)

    monkeypatch.setattr(Disk, "read_content", slow)
    join(one, other)
    async with running(one, other):
        (one.root / "large").write_text("a" * SIZE)
        await trio.to_thread.run_sync(reading.wait, 30)
        try:
            (one.root / "note").write_text("soon")
            with trio.fail_after(20):
                while not (other.root / "note").exists():  # noqa: ASYNC110
                    await trio.sleep(0.05)
            assert not (other.root / "large").exists()
            assert not one.engine.is_idle()
        finally:
            go_on.set()
        await settle(one, other)
        assert (other.root / "large").read_text() == "a" * SIZE


async def test_a_large_file_that_changes_while_it_is_read_comes_as_it_is_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    real, times = Disk.read_content, 0

    def meddling(self: Disk, path: str, *arguments: Any) -> Any:
        nonlocal times
        if path.endswith("one/large") and times < 3:
            times += 1
            Path(path).write_text("b" * (SIZE + times))
        return real(self, path, *arguments)

    monkeypatch.setattr(Disk, "read_content", meddling)
    join(one, other)
    async with running(one, other):
        (one.root / "large").write_text("a" * SIZE)
        await settle(one, other)
        assert times == 3
        assert (other.root / "large").read_text() == "b" * (SIZE + 3)


async def test_large_files_that_both_have_already_are_not_fetched(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    for device in (one, other):
        (device.root / "large").write_text("same" * SIZE)
    join(one, other)
    async with running(one, other):
        await settle(one, other)
        assert one.fetched == other.fetched == 0
        assert [path.name for path in other.root.iterdir() if path.name != ".shoal"] == ["large"]


@pytest.mark.parametrize("replaces", [False, True])
async def test_what_has_come_can_be_had_while_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    named, go_on = threading.Event(), threading.Event()
    real = Disk.sync_directories

    def slow(self: Disk, paths: Iterable[str]) -> None:
        if str(other.root) in paths and (other.root / "file").exists():
            named.set()
            go_on.wait(30)
        real(self, paths)

    join(one, other)
    async with running(one, other):
        if replaces:
            (one.root / "file").write_text("before")
            await settle(one, other)
        monkeypatch.setattr(Disk, "sync_directories", slow)
        (one.root / "file").write_text("content")
        await trio.to_thread.run_sync(named.wait, 30)
        try:
            chunk = chunk_id(other.replica.content_key, b"content")
            with trio.fail_after(20):
                assert await other.engine.read_chunks([chunk]) == [b"content"]
        finally:
            go_on.set()
        await settle(one, other)
