"""Zeros and holes: not sent, not written, and kept as holes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, part, running, settle

from shoal.node.folder.disk import Disk
from shoal.node.folder.linux import Linux

MIB = 1024 * 1024


def sparse_file(path: Path, size: int, *data: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, piece in data:
            file.seek(offset)
            file.write(piece)


def allocated(path: Path) -> int:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # until then a file system may not have made up its mind
    return path.stat().st_blocks * 512


async def test_zeros_are_not_fetched_and_leave_holes(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "written").write_bytes(bytes(8 * MIB))
    sparse_file(one.root / "sparse", 64 * MIB, (20 * MIB + 5, os.urandom(MIB)))
    async with running(one, other):
        await settle(one, other)
    assert listing(one.root) == listing(other.root)
    assert other.fetched < 1.2 * MIB
    assert allocated(other.root / "written") <= 65536
    assert allocated(other.root / "sparse") <= allocated(one.root / "sparse") + 256 * 1024


async def test_holes_too_small_for_a_chunk_are_kept_too(pair: tuple[Device, Device]) -> None:
    one, other = pair
    sparse_file(one.root / "f", 4 * MIB, *((at, b"x" * 4096) for at in range(0, 4 * MIB, 65536)))
    async with running(one, other):
        await settle(one, other)
    assert listing(one.root) == listing(other.root)
    assert allocated(other.root / "f") <= allocated(one.root / "f") + 65536


async def test_what_becomes_zeros_and_what_was_zeros_arrives(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "f").write_bytes(os.urandom(16 * MIB))
    sparse_file(one.root / "g", 16 * MIB)
    async with running(one, other):
        await settle(one, other)
        before = other.fetched
        with (one.root / "f").open("r+b") as file:
            file.seek(4 * MIB)
            file.write(bytes(8 * MIB))
        with (one.root / "g").open("r+b") as file:
            file.seek(5 * MIB)
            file.write(os.urandom(100_000))
        await trio.sleep(0.5)
        await settle(one, other)
        assert listing(one.root) == listing(other.root)
        assert other.fetched - before < 9 * MIB
        assert allocated(other.root / "f") < 9 * MIB
        assert allocated(other.root / "g") < MIB


async def test_what_a_crash_left_of_a_sparse_file_is_filled_on_rightly(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    start, end = os.urandom(2 * MIB), os.urandom(2 * MIB)
    sparse_file(one.root / "f", 32 * MIB, (0, start), (30 * MIB, end))
    async with running(one):
        await settle(one)
    one.push()
    part(one, other)
    async with running(other):  # the holder is away: it learns of the file, and gets nothing
        await trio.sleep(0.5)
    (node,) = other.replica.dirty.first(1)
    view = other.replica.view(node)
    assert view is not None
    temporary = Path(other.engine._filler.temporary(view))
    # What a power cut may leave: the first part right, junk where zeros belong, the end not there yet.
    sparse_file(temporary, 20 * MIB, (0, start), (6 * MIB, os.urandom(3 * MIB)))
    other = Device(2, other.root, other.store)
    join(one, other)
    async with running(one, other):
        await settle(one, other)
    assert listing(one.root) == listing(other.root)
    assert other.fetched <= 2.2 * MIB + 256 * 1024


async def test_a_disk_need_not_have_room_for_zeros(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    monkeypatch.setattr(Linux, "space", lambda self, path: (100 * MIB, 1000 * MIB))
    sparse_file(one.root / "f", 4096 * MIB, (MIB, b"data"))
    (one.root / "dense").write_bytes(os.urandom(1000))
    async with running(one, other):
        await settle(one, other)
        assert other.engine.state().problems == ()
    assert (other.root / "f").stat().st_size == 4096 * MIB


def test_clearing_a_piece_leaves_what_is_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * 10_000)
    disk = Disk(Linux())
    disk.clear_piece(str(path), 3000, 5000)
    disk.clear_piece(str(path), 9000, 5000)
    assert path.read_bytes() == b"a" * 3000 + bytes(5000) + b"a" * 1000 + bytes(1000)
    disk.clear_piece(str(tmp_path / "nothing"), 0, 10)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096])
def test_a_piece_written_with_holes_reads_the_same(tmp_path: Path, offset: int) -> None:
    data = b"a" * 5000 + bytes(30_000) + b"b" + bytes(20_000) + b"c" * 100 + bytes(7)
    Disk(Linux()).write_piece(str(tmp_path / "f"), offset, data, fresh=True)
    assert (tmp_path / "f").read_bytes() == bytes(offset) + data
