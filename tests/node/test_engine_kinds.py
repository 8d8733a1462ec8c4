"""Names, depths and files of uncommon kinds: what can be held arrives, what cannot is told and harms nothing else."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, running, settle

from shoal.node.folder.filesystem import How
from shoal.node.folder.linux import Linux, LinuxFile
from shoal.node.folder.signature import Signature


def make_deep(root: Path, name: str, levels: int, data: str) -> None:
    """Make folders in each other, deeper than a path can name, and a file in the last."""
    at = os.open(root, os.O_RDONLY)
    try:
        for _ in range(levels):
            os.mkdir(name, dir_fd=at)
            at, above = os.open(name, os.O_RDONLY, dir_fd=at), at
            os.close(above)
        fd = os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=at)
        os.write(fd, data.encode())
        os.close(fd)
    finally:
        os.close(at)


async def test_two_hundred_levels_arrive_and_are_moved_and_go(pair: tuple[Device, Device]) -> None:
    one, other = pair
    make_deep(one.root, "d", 200, "deep down")
    deep = Path(*["d"] * 199, "f")
    async with running(one, other):
        await settle(one, other)
        assert (other.root / "d" / deep).read_text() == "deep down"
        (one.root / "d").rename(one.root / "moved")
        await trio.sleep(0.5)
        await settle(one, other)
        assert (other.root / "moved" / deep).read_text() == "deep down"
        (one.root / "moved" / deep).write_text("edited")
        await trio.sleep(0.5)
        await settle(one, other)
        assert (other.root / "moved" / deep).read_text() == "edited"
        assert listing(one.root) == listing(other.root)


async def test_a_path_longer_than_the_limit_is_told_and_the_rest_is_synced(pair: tuple[Device, Device]) -> None:
    one, other = pair
    make_deep(one.root, "n" * 250, 20, "out of reach")
    (one.root / "beside").write_text("beside")
    async with running(one, other):
        await settle(one, other)
        assert (other.root / "beside").read_text() == "beside"
        (problem,) = one.engine.state().problems
        assert "long" in problem.reason
        assert problem.path.startswith("nnn")
        (one.root / "beside").write_text("still at work")
        await trio.sleep(0.4)
        await settle(one, other)
        assert (other.root / "beside").read_text() == "still at work"


async def test_a_path_that_only_the_other_device_cannot_hold_is_told_there(tmp_path: Path) -> None:
    one = Device(1, tmp_path / "one")
    above = tmp_path / ("x" * 200)
    above.mkdir()
    other = Device(2, above / "other")
    join(one, other)
    levels = (4095 - 2 - len(os.fsencode(one.engine.root))) // 201
    make_deep(one.root, "n" * 200, levels, "too long there")
    (one.root / "beside").write_text("beside")
    async with running(one, other):
        with trio.fail_after(20):
            while not (other.engine.state().problems and (other.root / "beside").exists()):  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert one.engine.state().problems == ()
        assert all("long" in problem.reason for problem in other.engine.state().problems)
        (one.root / ("n" * 200)).rename(one.root / "n")  # short enough for both
        await trio.sleep(0.5)
        other.engine.retry_now()
        await settle(one, other)
        assert other.engine.state().problems == ()
    assert listing(one.root) == listing(other.root)


async def test_a_name_that_the_other_disk_refuses_is_told_and_the_rest_arrives(pair: tuple[Device, Device]) -> None:
    class Narrow(Linux):
        """A disk that holds no colons, as a stick with FAT."""

        def rename_new(self, source: str, target: str) -> bool:
            if ":" in os.path.basename(target):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), target)
            return super().rename_new(source, target)

        def mkdir(self, path: str, mode: int = 0o777) -> None:
            if ":" in os.path.basename(path):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
            super().mkdir(path, mode)

    one, other = pair
    other.engine._disk.fs = Narrow()
    (one.root / "12:30").write_text("a time")
    (one.root / "13:30").mkdir()
    (one.root / "13:30" / "in").write_text("in")
    (one.root / "plain").write_text("plain")
    async with running(one, other):
        with trio.fail_after(20):
            while len(other.engine.state().problems) < 2 or not (other.root / "plain").exists():  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert {problem.path for problem in other.engine.state().problems} >= {"12:30", "13:30"}
        (one.root / "12:30").rename(one.root / "12.30")
        (one.root / "13:30").rename(one.root / "13.30")
        await trio.sleep(0.5)
        other.engine.retry_now()
        await settle(one, other)
        assert other.engine.state().problems == ()
    assert listing(one.root) == listing(other.root)


async def test_names_of_all_bytes_arrive(pair: tuple[Device, Device]) -> None:
    one, other = pair
    for name in {bytes([byte]) for byte in range(1, 256)} - {b"/"}:
        (one.root / ("a" + os.fsdecode(name))).write_text("x")
    (one.root / ("y" * 255)).write_text("as long as it gets")
    async with running(one, other):
        await settle(one, other)
    assert listing(one.root) == listing(other.root)
    assert len(list(other.root.iterdir())) == 254 + 2


class Closed(Linux):
    """A disk on which some paths may not be read, as their modes forbid it to all but root."""

    def __init__(self, *paths: Path) -> None:
        super().__init__()
        self.paths = {str(path) for path in paths}

    def check(self, path: str) -> None:
        if path in self.paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def open(self, path: str, how: How) -> LinuxFile:
        if how == "read":
            self.check(path)
        return super().open(path, how)

    def scan(self, path: str) -> list[tuple[str, Signature]]:
        self.check(path)
        return super().scan(path)


async def test_what_cannot_be_read_is_told_and_skipped_and_comes_when_it_can(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "closed").mkdir()
    (one.root / "closed" / "f").write_text("in a closed folder")
    (one.root / "secret").write_text("may not be read")
    (one.root / "plain").write_text("plain")
    disk = Closed(one.root / "closed", one.root / "secret")
    one.engine._disk.fs = disk
    async with running(one, other):
        await settle(one, other)
        assert (other.root / "plain").read_text() == "plain"
        assert not (other.root / "secret").exists()
        problems = {problem.path: problem.reason for problem in one.engine.state().problems}
        assert problems == {"closed": "Permission denied", "secret": "Permission denied"}
        disk.paths.clear()
        await one.engine.scan()
        await settle(one, other)
        assert one.engine.state().problems == ()
    assert listing(one.root) == listing(other.root)


async def test_what_cannot_be_read_any_more_is_not_deleted_elsewhere(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "d").mkdir()
    for name in ("d/in", "f"):
        (one.root / name).write_text("synced")
    async with running(one, other):
        await settle(one, other)
        one.engine._disk.fs = Closed(one.root / "d", one.root / "f")
        (one.root / "f").write_text("edited, and closed")
        await one.engine.scan()
        await trio.sleep(0.5)
        assert {problem.path for problem in one.engine.state().problems} == {"d", "f"}
        assert (other.root / "d" / "in").read_text() == "synced"
        assert (other.root / "f").read_text() == "synced"


async def test_a_file_that_is_written_without_end_is_sent_once_it_rests(pair: tuple[Device, Device]) -> None:
    one, other = pair
    path = one.root / "log"
    path.write_bytes(b"")
    async with running(one, other):
        with path.open("ab", buffering=0) as file:
            for number in range(60):
                file.write(b"%d\n" % number * 5000)
                await trio.sleep(0.01)
        await trio.sleep(0.6)
        await settle(one, other)
        assert (other.root / "log").read_bytes() == path.read_bytes()
        assert one.engine.state().problems == ()
    assert not list(other.root.glob("*conflict*"))


async def test_a_file_that_changes_while_it_is_read_is_never_sent_torn(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    real = LinuxFile.read_into
    written = 0

    def meddling(self: LinuxFile, view: memoryview, offset: int) -> int:
        nonlocal written
        got = real(self, view, offset)
        if written < 3:
            written += 1
            (one.root / "f").write_bytes(bytes([written]) * 1_000_000)
        return got

    monkeypatch.setattr(LinuxFile, "read_into", meddling)
    (one.root / "f").write_bytes(b"\0" * 1_000_000)
    async with running(one, other):
        await trio.sleep(1)
        await settle(one, other)
    assert written == 3
    assert (other.root / "f").read_bytes() == b"\3" * 1_000_000
    versions = other.root / ".shoal" / "versions"
    assert all(len(set(path.read_bytes())) == 1 for path in versions.iterdir())


async def test_each_name_of_a_hard_link_is_a_file_of_its_own_elsewhere(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "a").write_text("one file")
    os.link(one.root / "a", one.root / "b")
    async with running(one, other):
        await settle(one, other)
        assert (other.root / "a").read_text() == (other.root / "b").read_text() == "one file"
        assert (other.root / "a").stat().st_ino != (other.root / "b").stat().st_ino
        with (one.root / "a").open("a") as file:
            file.write(", by both names")
        await one.engine.scan()  # inotify tells of the name that was written to alone
        await settle(one, other)
        assert (other.root / "b").read_text() == "one file, by both names"
        (other.root / "a").write_text("edited elsewhere")
        await trio.sleep(0.5)
        await settle(one, other)
        assert (one.root / "a").read_text() == "edited elsewhere"
        assert (one.root / "b").read_text() == "one file, by both names"
    assert listing(one.root) == listing(other.root)


async def test_a_folder_is_not_called_idle_while_a_file_is_read(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    real = LinuxFile.read_into
    begun, go_on = threading.Event(), threading.Event()

    def slow(self: LinuxFile, view: memoryview, offset: int) -> int:
        begun.set()
        go_on.wait(20)
        return real(self, view, offset)

    async with running(one, other):
        await settle(one, other)
        monkeypatch.setattr(LinuxFile, "read_into", slow)
        (one.root / "big").write_bytes(os.urandom(2_000_000))
        try:
            with trio.fail_after(20):
                while not begun.is_set():  # noqa: ASYNC110 - it is set in a thread
                    await trio.sleep(0.01)
            assert not one.engine.is_idle()
            assert one.engine.state().status == "syncing"
        finally:
            go_on.set()
        await settle(one, other)
    assert listing(one.root) == listing(other.root)
