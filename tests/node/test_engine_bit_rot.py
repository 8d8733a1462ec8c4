"""Bytes that changed although nobody wrote them: found, told, never sent, and mended when a person asks for it."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from engines import Device, join, listing, part, running, settle

from shoal.node.folder.filesystem import How
from shoal.node.folder.linux import Linux, LinuxFile

RIGHT = os.urandom(900_000)


class Rotten:
    """An open file in which some bits are others than were written."""

    def __init__(self, file: LinuxFile) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def read(self, length: int, offset: int) -> bytes:
        data = self._file.read(length, offset)
        return bytes([data[0] ^ 1]) + data[1:] if data else data

    def read_into(self, view: memoryview, offset: int) -> int:
        size = self._file.read_into(view, offset)
        view[0] ^= 1
        return size


class RottingDisk(Linux):
    """A disk that lost bits of the inodes that are named."""

    def __init__(self) -> None:
        super().__init__()
        self.rotten: set[int] = set()

    def open(self, path: str, how: How) -> LinuxFile:
        file = super().open(path, how)
        return Rotten(file) if how == "read" and file.stat().inode in self.rotten else file  # type: ignore[return-value]

    def rot(self, path: Path) -> None:
        self.rotten.add(path.stat().st_ino)


def rotting(device: Device) -> RottingDisk:
    disk = RottingDisk()
    device.engine._disk.fs = disk
    return disk


async def scrubbed(device: Device, *, repair: bool = False) -> None:
    assert device.engine.scrub.ask(repair=repair)
    with trio.fail_after(20):
        while device.engine.scrub.progress().running:  # noqa: ASYNC110 - it is what the API has
            await trio.sleep(0.01)


async def test_damage_is_found_and_told_and_not_sent(pair: tuple[Device, Device]) -> None:
    one, other = pair
    disk = rotting(one)
    for name in "abc":
        (one.root / name).write_bytes(RIGHT + name.encode())
    async with running(one, other):
        await settle(one, other)
        disk.rot(one.root / "b")
        await scrubbed(one)
        one.engine.scan_soon()
        await trio.sleep(0.3)
        await settle(one, other)
        progress = one.engine.scrub.progress()
        assert (progress.files, progress.damaged, progress.repaired) == (3, ("b",), ())
        (problem,) = one.engine.state().problems
        assert problem.path == "b"
        assert "nobody wrote" in problem.reason
        assert (other.root / "b").read_bytes() == RIGHT + b"b"


async def test_repair_fetches_the_right_bytes_and_keeps_the_wrong_ones(pair: tuple[Device, Device]) -> None:
    one, other = pair
    disk = rotting(one)
    (one.root / "f").write_bytes(RIGHT)
    async with running(one, other):
        await settle(one, other)
        disk.rot(one.root / "f")
        damaged = (one.root / "f").stat().st_ino
        await scrubbed(one, repair=True)
        assert one.fetched > 0
        progress = one.engine.scrub.progress()
        assert (progress.damaged, progress.repaired) == ((), ("f",))
        assert one.engine.state().problems == ()
        await settle(one, other)
        assert (one.root / "f").stat().st_ino != damaged
        assert [path.stat().st_ino for path in (one.root / ".shoal" / "versions").iterdir()] == [damaged]
        await scrubbed(one)
        assert one.engine.scrub.progress().damaged == ()
    assert listing(one.root) == listing(other.root)


async def test_a_repair_that_finds_nobody_with_the_right_bytes_leaves_the_file(pair: tuple[Device, Device]) -> None:
    one, other = pair
    disk = rotting(one)
    (one.root / "f").write_bytes(RIGHT)
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        disk.rot(one.root / "f")
        damaged = (one.root / "f").stat().st_ino
        await scrubbed(one, repair=True)
        assert one.engine.scrub.progress().damaged == ("f",)
        assert "no connected device" in one.engine.state().problems[0].reason
        assert (one.root / "f").stat().st_ino == damaged
        join(one, other)
        await scrubbed(one, repair=True)
        assert one.engine.scrub.progress().repaired == ("f",)


async def test_damage_that_another_device_runs_into_is_told_and_not_served(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    disk = rotting(one)
    (one.root / "f").write_bytes(RIGHT)
    async with running(one):
        await settle(one)
        disk.rot(one.root / "f")
        async with running(other):
            join(one, other)
            with trio.fail_after(20):
                while not one.engine.state().problems:  # noqa: ASYNC110 - it is what the API has
                    await trio.sleep(0.05)
        assert one.engine.scrub.progress().damaged == ("f",)
        assert other.fetched < len(RIGHT)
        assert not (other.root / "f").exists()


async def test_an_edited_file_is_not_called_damaged(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "f").write_bytes(RIGHT)
    async with running(one, other):
        await settle(one, other)
        disk = rotting(one)
        disk.rot(one.root / "f")
        await scrubbed(one)
        assert one.engine.scrub.progress().damaged == ("f",)
        disk.rotten.clear()
        (one.root / "f").write_bytes(b"written by a person")
        one.engine.scrub.suspect(["f"])
        await trio.sleep(0.5)
        await settle(one, other)
        assert one.engine.scrub.progress().damaged == ()
        assert one.engine.state().problems == ()
        assert (other.root / "f").read_bytes() == b"written by a person"


async def test_a_pass_that_is_cancelled_ends(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "f").write_bytes(RIGHT)
    async with running(one, other):
        await settle(one, other)
        assert one.engine.scrub.ask(repair=False)
        assert not one.engine.scrub.ask(repair=True)
        assert one.engine.scrub.cancel()
        assert not one.engine.scrub.progress().running
        await scrubbed(one)
        assert one.engine.scrub.progress().files == 1
