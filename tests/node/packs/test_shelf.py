"""The pieces that a node holds: whole or not at all, after whatever happened, and what they were."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from shoal.node.packs.backend import BackendFailed, LocalFiles, Missing, parse_name, piece_name
from shoal.node.packs.shelf import Shelf
from shoal.node.store import MemoryStore
from shoal.transfer import merkle

FOLDER, PACK = b"f" * 16, b"p" * 32
DATA = os.urandom(200_000)
ROOT = merkle.root_of(DATA)


class Case:
    """A shelf over files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = MemoryStore()
        self.damaged: list[tuple[bytes, bytes, int]] = []
        self.again()

    def again(self) -> Shelf:
        """Start anew, as after a crash."""
        self.backend = LocalFiles(self.root)
        self.shelf = Shelf(self.store, self.backend, lambda *piece: self.damaged.append(piece))
        return self.shelf

    @property
    def path(self) -> Path:
        return self.root / piece_name(FOLDER, PACK, 3)


@pytest.fixture
async def case(tmp_path: Path) -> Case:
    made = Case(tmp_path / "packs")
    await made.shelf.keep(FOLDER, PACK, 3, ROOT, DATA)
    return made


async def test_what_is_kept_is_read(case: Case) -> None:
    assert await case.shelf.read(FOLDER, PACK, 3, 0, len(DATA)) == DATA
    assert await case.shelf.read(FOLDER, PACK, 3, 1000, 10) == DATA[1000:1010]
    assert case.shelf.used(FOLDER) == len(DATA)


async def test_what_is_kept_is_there_after_a_restart(case: Case) -> None:
    again = case.again()
    assert await again.reconcile() == 0
    assert again.held(FOLDER) == {(PACK, 3): len(DATA)}


async def test_bytes_that_are_not_the_piece_are_not_kept(case: Case) -> None:
    with pytest.raises(ValueError, match="not the piece"):
        await case.shelf.keep(FOLDER, PACK, 4, ROOT, DATA[:-1])
    assert case.shelf.size(FOLDER, PACK, 4) is None


async def test_what_is_removed_is_gone_from_the_disk(case: Case) -> None:
    await case.shelf.remove(FOLDER, PACK, 3)
    assert not case.path.exists()
    assert case.again().held(FOLDER) == {}


async def test_a_crash_between_bytes_and_row_leaves_nothing_behind(case: Case) -> None:
    await case.backend.put(piece_name(FOLDER, PACK, 4), DATA)
    again = case.again()
    await again.reconcile()
    names = [name for name, _ in await case.backend.names() if parse_name(name) is not None]
    assert names == [piece_name(FOLDER, PACK, 3)]


async def test_half_a_piece_that_a_crash_left_is_removed(case: Case) -> None:
    half = case.path.with_name(case.path.name + ".tmp")
    half.write_bytes(DATA[:100])
    await case.again().reconcile()
    assert not half.exists()


async def test_a_piece_that_the_disk_lost_is_said_to_be_gone(case: Case) -> None:
    case.path.unlink()
    assert await case.again().reconcile() == 1
    assert case.shelf.held(FOLDER) == {}


async def test_a_disk_that_is_not_there_for_one_start_loses_nothing(case: Case) -> None:
    away = case.root.with_name("away")
    case.root.rename(away)
    with pytest.raises(BackendFailed, match="mounted"):
        await case.again().reconcile()
    away.rename(case.root)
    again = case.again()
    assert await again.reconcile() == 0
    assert await again.read(FOLDER, PACK, 3, 0, len(DATA)) == DATA


async def test_a_bad_sector_is_damage(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(*asked: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", bad)
    assert not await case.shelf.check(FOLDER, PACK, 3)
    assert case.damaged == [(FOLDER, PACK, 3)]


async def test_damage_is_told_though_the_bytes_cannot_be_removed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.path.write_bytes(bytes(len(DATA)))

    async def fail(name: str) -> None:
        raise BackendFailed("it is read-only")

    monkeypatch.setattr(case.backend, "remove", fail)
    with pytest.raises(BackendFailed):
        await case.shelf.check(FOLDER, PACK, 3)
    assert case.damaged == [(FOLDER, PACK, 3)]


async def test_a_part_that_is_kept_twice_at_once_is_kept(case: Case) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(case.shelf.keep, FOLDER, PACK, 7, ROOT, DATA)
    assert await case.shelf.read(FOLDER, PACK, 7, 0, len(DATA)) == DATA
    assert await case.again().reconcile() == 0


async def test_folders_are_for_the_owner_alone(case: Case) -> None:
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (case.root, *case.path.parents[:2]))


async def test_the_scrub_goes_on_where_it_was_before_a_restart(case: Case) -> None:
    await case.shelf.keep(FOLDER, b"a" * 32, 0, ROOT, DATA)
    looked: list[str] = []

    async def read(name: str, offset: int, length: int) -> bytes:
        looked.append(name)
        return DATA

    for _ in range(2):
        again = case.again()
        case.backend.read = read  # type: ignore[method-assign]
        with trio.move_on_after(0.2):
            await again.scrub(len(DATA) // 2)  # it rests for two seconds after the first
    assert looked == [piece_name(FOLDER, b"a" * 32, 0), piece_name(FOLDER, PACK, 3)]


async def test_what_is_read_beyond_the_end_is_nothing(case: Case) -> None:
    assert await case.backend.read(piece_name(FOLDER, PACK, 3), len(DATA), 10) == b""


async def test_the_scrub_finds_a_bit_that_changed(case: Case) -> None:
    bad = bytearray(DATA)
    bad[777] ^= 1
    case.path.write_bytes(bad)
    with trio.move_on_after(0.5):
        await case.shelf.scrub(1 << 40)
    assert case.damaged == [(FOLDER, PACK, 3)]
    assert case.shelf.held(FOLDER) == {}


async def test_a_good_piece_stays(case: Case) -> None:
    assert await case.shelf.check(FOLDER, PACK, 3)
    assert case.damaged == []


async def test_a_disk_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "packs").write_text("a file where a folder should be")
    with pytest.raises(BackendFailed, match="packs"):
        await LocalFiles(tmp_path / "packs").put(piece_name(FOLDER, PACK, 0), DATA)


async def test_what_was_never_kept_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        await LocalFiles(tmp_path).read(piece_name(FOLDER, PACK, 0), 0, 1)


@pytest.mark.parametrize("name", ["", "x", "00/00/00.0", piece_name(FOLDER, PACK, 3) + "x", "../" * 4])
def test_what_is_no_name_of_a_piece_is_none(name: str) -> None:
    parsed = parse_name(name)
    assert parsed is None or piece_name(*parsed) == name
    assert parse_name(piece_name(FOLDER, PACK, 3)) == (FOLDER, PACK, 3)
