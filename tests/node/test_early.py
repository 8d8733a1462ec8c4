"""Chunks of a large file come while its sender still reads it, and are where they are to be when its entry comes."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from engines import Device, join, running, settle
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.model import ROOT, NodeId
from shoal.node.folder import early, large_files
from shoal.node.folder.arriving import Landed
from shoal.node.folder.coming import MOST, Coming
from shoal.node.folder.disk import Disk
from shoal.node.folder.early import Upload
from shoal.transfer import chunking
from shoal.transfer.chunking import FileChanged, Source

MIB = 1 << 20
SIZE = 20 * MIB
KEPT_BACK = "large"  # the name of the file whose reading does not end by itself


class Reading:
    """A large file on its way from one device to another, whose reading goes on when it is told to."""

    def __init__(self, one: Device, other: Device) -> None:
        self.one, self.other = one, other
        self.go_on = threading.Event()
        self.changes = False  # while it is read

    @property
    def ahead(self) -> list[Path]:
        """What the other has of files whose entry has not come."""
        return [path for path in (self.other.root / ".shoal" / "tmp").iterdir() if path.suffix == early.ENDING]

    def save(self, data: bytes) -> None:
        """Have the file there at once."""
        draft = self.one.root.parent / "draft"
        draft.write_bytes(data)
        draft.rename(self.one.root / KEPT_BACK)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until something is so."""
        with trio.fail_after(20):
            while not done():  # noqa: ASYNC110
                await trio.sleep(0.02)

    async def until_ahead(self, least: int) -> None:
        """Wait until so many bytes came early."""
        await self.until(lambda: self.other.fetched >= least and bool(self.ahead))

    async def end(self) -> None:
        """Let the file be read to its end, and come."""
        self.go_on.set()
        await settle(self.one, self.other)


@pytest.fixture
def reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setattr(large_files, "LARGE", MIB)
    monkeypatch.setattr(large_files, "TELL_AFTER", 0.0)
    monkeypatch.setattr(early, "LEAVE", 0)
    found = Reading(Device(1, tmp_path / "one"), Device(2, tmp_path / "other"))
    found.one.engine.on_coming = lambda coming: found.other.engine.early.on_coming(found.one.id, coming)
    real = Disk.read_content

    def held(self: Disk, path: str, *arguments: Any) -> Any:
        content = real(self, path, *arguments)
        if path == str(found.one.root / KEPT_BACK):
            found.go_on.wait(30)
            if found.changes:
                raise FileChanged("it changed")
        return content

    monkeypatch.setattr(Disk, "read_content", held)
    join(found.one, found.other)
    return found


@asynccontextmanager
async def begun(reading: Reading) -> AsyncIterator[None]:
    """Let both work in the block, and the reading end with it."""
    try:
        async with running(reading.one, reading.other):
            await settle(reading.one, reading.other)
            yield
    finally:
        reading.go_on.set()


async def test_chunks_leave_before_their_file_was_read(reading: Reading) -> None:
    data = os.urandom(SIZE)
    async with begun(reading):
        reading.save(data)
        await reading.until_ahead(SIZE)
        assert not reading.one.engine.is_idle()
        assert not (reading.other.root / "large").exists()
        await reading.end()
    assert (reading.other.root / "large").read_bytes() == data
    assert reading.other.fetched == SIZE  # each chunk once
    assert not reading.ahead


async def test_of_a_file_that_changed_only_what_is_new_leaves_early(reading: Reading) -> None:
    data = os.urandom(SIZE)
    reading.save(data)
    reading.go_on.set()
    async with begun(reading):
        reading.go_on.clear()
        reading.other.fetched = 0
        with (reading.one.root / "large").open("r+b") as file:
            file.seek(10 * MIB)
            file.write(b"other bytes")
        await reading.until_ahead(1)
        await reading.end()
    assert (reading.other.root / "large").read_bytes() == data[: 10 * MIB] + b"other bytes" + data[10 * MIB + 11 :]
    assert reading.other.fetched < 9 * MIB


async def test_what_is_not_needed_after_all_is_removed(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "LOOK", 0.1)
    monkeypatch.setattr(early, "QUIET", 0.5)
    reading.changes = True
    async with begun(reading):
        reading.save(os.urandom(SIZE))
        await reading.until_ahead(SIZE)
        (reading.one.root / "large").unlink()
        await reading.end()
        await reading.until(lambda: not reading.ahead)
    assert [path.name for path in reading.other.root.iterdir()] == [".shoal"]


async def test_what_a_crash_left_is_removed(reading: Reading) -> None:
    left = reading.other.root / ".shoal" / "tmp" / f"1{early.ENDING}"
    left.write_bytes(b"bytes")
    async with begun(reading):
        await reading.until(lambda: not left.exists())


async def test_bytes_that_belong_elsewhere_do_no_harm(reading: Reading) -> None:
    zeros, data = bytes(8 * MIB), os.urandom(SIZE)
    async with begun(reading):
        told: list[Coming] = []

        def lie(coming: Coming) -> None:
            told.append(coming)
            first = [(16 * MIB, chunk, length) for _, chunk, length in coming.pieces[:1]]
            wrong = Coming(coming.upload, coming.near, (*first, *coming.pieces))
            reading.other.engine.early.on_coming(reading.one.id, wrong)

        reading.one.engine.on_coming = lie
        reading.save(data + zeros)
        await reading.until_ahead(4 * MIB)
        await reading.end()
        assert told
    assert (reading.other.root / "large").read_bytes() == data + zeros
    assert (reading.other.root / "large").stat().st_blocks * 512 < SIZE + MIB


@pytest.mark.parametrize("why", ["left out", "send-only", "unknown"])
async def test_what_is_not_to_be_here_does_not_come_early(reading: Reading, why: str) -> None:
    (reading.one.root / "folder").mkdir()
    async with begun(reading):
        folder = reading.one.engine.index.find("folder")
        assert folder is not None
        if why == "left out":
            reading.other.engine.chooser.choose_path("folder", wanted=False)
        if why == "send-only":
            reading.other.engine.set_mode("send-only")
        near = NodeId(b"n" * 16) if why == "unknown" else folder
        coming = Coming(bytes(16), near, ((0, bytes(32), 100),))
        reading.other.engine.early.on_coming(reading.one.id, coming)
        assert not reading.other.engine.early._uploads
        if why == "left out":
            reading.other.engine.early.on_coming(reading.one.id, Coming(bytes(16), ROOT, coming.pieces))
            assert reading.other.engine.early._uploads


async def test_a_disk_that_fails_meanwhile_costs_nothing_but_the_lead(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Disk.write_pieces

    def full(self: Disk, path: str, *arguments: Any, **named: Any) -> None:
        if path.endswith(early.ENDING):
            raise OSError(errno.ENOSPC, "full")
        real(self, path, *arguments, **named)

    monkeypatch.setattr(Disk, "write_pieces", full)
    data = os.urandom(SIZE)
    async with begun(reading):
        reading.save(data)
        await reading.until(lambda: reading.other.fetched > 0)
        await reading.end()
    assert (reading.other.root / "large").read_bytes() == data


async def test_no_more_comes_early_than_the_disk_can_spare(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "LEAVE", 1 << 62)
    async with begun(reading):
        reading.save(os.urandom(SIZE))
        await trio.sleep(0.5)
        assert reading.other.fetched == 0
        await reading.end()
    assert reading.other.fetched == SIZE


async def test_the_first_chunks_of_a_file_that_is_cut_in_two_threads_are_told_before_the_last_were_read(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunking, "PARALLEL", MIB)
    real = chunking._fill

    def slow(file: Source, window: bytearray, held: int, at: int, size: int) -> int:
        if at >= SIZE + 30 * MIB:
            reading.go_on.wait(30)
        return real(file, window, held, at, size)

    monkeypatch.setattr(chunking, "_fill", slow)
    data = os.urandom(SIZE + 40 * MIB)
    async with begun(reading):
        reading.save(data)
        await reading.until_ahead(SIZE)
        await reading.end()
    assert (reading.other.root / "large").read_bytes() == data
    assert reading.other.fetched == len(data)


async def test_what_never_comes_and_nobody_needs_is_not_waited_for(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bogus = reading.other.engine.early._fetch, b"x" * 32

    async def fetch(wants: Sequence[tuple[bytes, int]], sink: Callable[[Landed], Awaitable[None]], how: int) -> Any:
        await real([want for want in wants if want[0] != bogus], sink, how)
        await trio.sleep_forever()

    monkeypatch.setattr(reading.other.engine.early, "_fetch", fetch)

    def lie(coming: Coming) -> None:
        wrong = Coming(coming.upload, coming.near, (*coming.pieces, (SIZE, bogus, 100)))
        reading.other.engine.early.on_coming(reading.one.id, wrong)

    reading.one.engine.on_coming = lie
    data = os.urandom(SIZE)
    async with begun(reading):
        reading.save(data)
        await reading.until_ahead(SIZE)
        await reading.end()
    assert (reading.other.root / "large").read_bytes() == data
    assert reading.other.fetched == SIZE


async def test_a_device_that_says_too_much_of_a_file_is_heard_no_more(reading: Reading) -> None:
    async with begun(reading):
        early_ones = reading.other.engine.early
        for at in range(3 * MOST // 1000):
            pieces = tuple((number, bytes(32), 100) for number in range(at * 1000, (at + 1) * 1000))
            early_ones.on_coming(reading.one.id, Coming(bytes(16), ROOT, pieces))
        (upload,) = early_ones._uploads.values()
        assert upload.told == MOST
        assert len(upload.places) <= MOST // 100 + 1


@given(st.lists(st.tuples(st.integers(0, 100), st.binary(min_size=1, max_size=1), st.integers(1, 30))))
def test_no_two_pieces_of_an_upload_overlap(pieces: list[tuple[int, bytes, int]]) -> None:
    upload = Upload("")
    taken = [piece for piece in pieces if upload.take(piece)]
    covered = [byte for at, _, length in taken for byte in range(at, at + length)]
    assert len(covered) == len(set(covered))
    for at, _, length in pieces:
        assert not set(range(at, at + length)).isdisjoint(covered)
