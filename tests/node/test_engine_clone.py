"""A large file that changed in place begins as a clone of what it replaces, and only what differs is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from engines import Device, join, part, running, settle

from shoal.crdt.model import CHUNK_REF_SIZE, FileContent
from shoal.node.folder.disk import Disk
from shoal.node.folder.filesystem import OpenFile
from shoal.node.folder.linux import Linux, LinuxFile
from shoal.node.folder.prefilled import begin_with, chunks_in_place
from shoal.transfer.chunking import chunk_id

MIB = 1 << 20
KEY = b"k" * 32


@pytest.fixture
def clones(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Have files share their blocks, as far as can be seen; return what was said of each try."""
    done: list[bool] = []

    def copy(self: LinuxFile, other: OpenFile) -> bool:
        self.write(other.read(64 * MIB, 0), 0)
        done.append(True)
        return True

    monkeypatch.setattr(LinuxFile, "clone_of", copy)
    return done


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


CHANGES: dict[str, Callable[[Path], None]] = {
    "some bytes are others": lambda path: overwrite(path, 5 * MIB, b"other bytes"),
    "it is longer": lambda path: overwrite(path, 12 * MIB, b"more"),
    "it is shorter": lambda path: os.truncate(path, 9 * MIB),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_file_that_changed_in_place_arrives(
    tmp_path: Path, clones: list[bool], change: Callable[[Path], None]
) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    async with running(one, other):
        (one.root / "large").write_bytes(os.urandom(12 * MIB))
        await settle(one, other)
        before, other.fetched = (one.root / "large").read_bytes(), 0
        change(one.root / "large")
        await settle(one, other)
        assert (other.root / "large").read_bytes() == (one.root / "large").read_bytes() != before
        assert clones == [True]
        assert other.fetched < 9 * MIB
        assert [kept.read_bytes() for kept in (other.root / ".shoal" / "versions").iterdir()] in ([before], [])


async def test_bytes_that_became_zeros_are_holes(tmp_path: Path, clones: list[bool]) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    async with running(one, other):
        (one.root / "large").write_bytes(os.urandom(12 * MIB))
        await settle(one, other)
        overwrite(one.root / "large", 4 * MIB, bytes(4 * MIB))
        await settle(one, other)
        assert (other.root / "large").read_bytes() == (one.root / "large").read_bytes()
        assert (other.root / "large").stat().st_blocks * 512 < 9 * MIB
        clones.clear()
        overwrite(one.root / "large", MIB, b"other bytes")
        await settle(one, other)
        assert (other.root / "large").read_bytes() == (one.root / "large").read_bytes()
        assert clones == [True]  # the zeros are where they were


async def test_a_file_that_changed_here_meanwhile_is_no_source(tmp_path: Path, clones: list[bool]) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    async with running(one, other):
        (one.root / "large").write_bytes(os.urandom(12 * MIB))
        await settle(one, other)
    part(one, other)
    async with running(one):
        overwrite(one.root / "large", 11 * MIB, b"theirs")
        await settle(one)
    overwrite(other.root / "large", MIB, b"mine")
    join(one, other)
    async with running(one, other):
        await settle(one, other)
    found = {path.read_bytes() for path in other.root.iterdir() if path.is_file()}
    assert found == {path.read_bytes() for path in one.root.iterdir() if path.is_file()}
    assert len(found) == 2


def content_of(*chunks: bytes) -> FileContent:
    refs = b"".join(chunk_id(KEY, chunk) + len(chunk).to_bytes(CHUNK_REF_SIZE - 32) for chunk in chunks)
    return FileContent(sum(map(len, chunks)), 0o644, 0, refs)


def test_only_what_is_at_the_same_place_in_both_may_be_right() -> None:
    a, b, c = (bytes([number]) * 100 for number in range(3))
    assert chunks_in_place(content_of(a, b, c), content_of(a, c, c)) == {0, 200}


def test_bytes_that_are_not_what_was_recorded_are_not_taken(tmp_path: Path, clones: list[bool]) -> None:
    chunks = [os.urandom(3 * MIB) for _ in range(2)]
    (tmp_path / "file").write_bytes(chunks[0] + os.urandom(3 * MIB))
    content, made = content_of(*chunks), str(tmp_path / "made")
    assert begin_with(Disk(Linux()), str(tmp_path / "file"), content, made, content, KEY, {}) == {0}


def test_where_blocks_cannot_be_shared_nothing_is_left_and_it_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinuxFile, "clone_of", lambda self, other: False)
    (tmp_path / "file").write_bytes(b"bytes")
    disk = Disk(Linux())
    assert not disk.clone(str(tmp_path / "file"), str(tmp_path / "made"))
    assert not disk.clones
    assert not (tmp_path / "made").exists()
