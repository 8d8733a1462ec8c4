# mypy: disable-error-code="func-returns-value"
# The acts below are lambdas of several steps, whose values nobody uses.
"""The folder engine on real folders: what a person does in one is so in the other, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, part, running, settle


def populate(root: Path) -> None:
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "docs" / "a.txt").write_text("alpha")
    (root / "docs" / "deep" / "empty").touch()
    (root / "docs" / "deep" / "script").write_text("#!/bin/sh\n")
    (root / "docs" / "deep" / "script").chmod(0o755)
    (root / "link").symlink_to("docs/a.txt")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / "big").write_bytes(os.urandom(3_000_000))
    (root / "näme with späces").write_text("x")
    os.utime(root / "big", ns=(10**18, 10**18 + 123))


async def test_a_tree_of_all_sorts_arrives_identical(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        assert listing(one.root) == listing(other.root)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


Act = Callable[[Path], object]
ACTS: dict[str, Act] = {
    "edit": lambda r: (r / "docs" / "a.txt").write_text("beta!"),
    "append to a big file": lambda r: append(r / "big", b"more"),
    "delete a file": lambda r: (r / "docs" / "a.txt").unlink(),
    "delete a tree": lambda r: shutil.rmtree(r / "docs"),
    "rename a file": lambda r: (r / "docs" / "a.txt").rename(r / "b.txt"),
    "rename a folder": lambda r: (r / "docs").rename(r / "papers"),
    "move a folder into a new one": lambda r: ((r / "new").mkdir(), (r / "docs").rename(r / "new" / "docs")),
    "replace by rename, as editors do": lambda r: (
        (r / ".tmp").write_text("gamma"),
        (r / ".tmp").rename(r / "docs" / "a.txt"),
    ),
    "swap two files": lambda r: (
        (r / "big").rename(r / "t"),
        (r / "docs" / "a.txt").rename(r / "big"),
        (r / "t").rename(r / "docs" / "a.txt"),
    ),
    "swap two folders": lambda r: (
        (r / "docs" / "deep").rename(r / "t"),
        (r / "docs").rename(r / "t" / "docs"),
        (r / "t").rename(r / "docs"),
    ),
    "chmod": lambda r: (r / "docs" / "a.txt").chmod(0o600),
    "chmod of a folder": lambda r: (r / "docs").chmod(0o700),
    "touch": lambda r: os.utime(r / "docs" / "a.txt", ns=(5 * 10**17, 5 * 10**17)),
    "retarget a link": lambda r: ((r / "link").unlink(), (r / "link").symlink_to("big")),
    "file becomes folder": lambda r: ((r / "big").unlink(), (r / "big").mkdir(), (r / "big" / "x").write_text("y")),
    "folder becomes file": lambda r: (shutil.rmtree(r / "docs"), (r / "docs").write_text("flat")),
    "file becomes link": lambda r: ((r / "big").unlink(), (r / "big").symlink_to("docs")),
    "case-only rename": lambda r: (r / "docs").rename(r / "Docs"),
    "chain of renames": lambda r: (
        (r / "big").rename(r / "c"),
        (r / "docs" / "a.txt").rename(r / "big"),
    ),
    "a new folder takes the name and a file of one that goes": lambda r: (
        (r / "docs").rename(r / "t"),
        (r / "docs").mkdir(),
        (r / "t" / "a.txt").rename(r / "docs" / "b.txt"),
        shutil.rmtree(r / "t"),
    ),
    "a file takes the name of the folder that it was in": lambda r: (
        (r / "docs").rename(r / "t"),
        (r / "t" / "a.txt").rename(r / "docs"),
        shutil.rmtree(r / "t"),
    ),
    "name that is not UTF-8": lambda r: Path(os.fsdecode(os.fsencode(r) + b"/caf\xe9")).write_text("latin"),
}


@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
async def test_an_act_on_one_device_is_done_on_the_other(act: Act, online: bool, tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        if online:
            act(one.root)
            await trio.sleep(0.6)
            await settle(one, other)
    if not online:
        act(one.root)
        one, other = Device(1, one.root, one.store), Device(2, other.root, other.store)
        join(one, other)
        async with running(one, other):
            await trio.sleep(0.3)
            await settle(one, other)
    assert listing(one.root) == listing(other.root)


async def test_renaming_a_folder_transfers_nothing(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        before = other.fetched
        inode = (other.root / "docs" / "a.txt").stat().st_ino
        (one.root / "docs").rename(one.root / "papers")
        await trio.sleep(0.6)
        await settle(one, other)
        assert (other.root / "papers" / "a.txt").stat().st_ino == inode
        assert other.fetched == before


async def test_concurrent_edits_keep_both_versions(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "f.txt").write_text("base")
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        (one.root / "f.txt").write_text("from one")
        (other.root / "f.txt").write_text("from other")
        await trio.sleep(0.6)
        join(one, other)
        await settle(one, other)
        assert listing(one.root) == listing(other.root)
        texts = {path.read_text() for path in one.root.iterdir() if path.is_file()}
        assert texts == {"from one", "from other"}


async def test_an_edit_survives_a_concurrent_delete(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "d").mkdir()
    (one.root / "d" / "f.txt").write_text("base")
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        shutil.rmtree(one.root / "d")
        (other.root / "d" / "f.txt").write_text("kept")
        await trio.sleep(0.8)
        join(one, other)
        await settle(one, other)
        assert (one.root / "d" / "f.txt").read_text() == "kept"
        assert listing(one.root) == listing(other.root)


async def test_folders_with_the_same_content_join_without_a_transfer_or_a_conflict(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    shutil.copytree(one.root / "docs", other.root / "docs", symlinks=True)
    shutil.copy2(one.root / "big", other.root / "big")
    async with running(one, other):
        await settle(one, other)
        assert listing(one.root) == listing(other.root)
        assert not [path for path in one.root.rglob("*conflict*")]
        assert other.fetched < 100


async def test_a_replaced_file_is_kept(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "f.txt").write_text("first")
    async with running(one, other):
        await settle(one, other)
        (one.root / "f.txt").write_text("second")
        await trio.sleep(0.5)
        await settle(one, other)
    kept = [path.read_text() for path in (other.root / ".shoal" / "versions").iterdir()]
    assert kept == ["first"]


async def test_a_missing_marker_stops_the_folder_and_deletes_nothing(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        for path in list(one.root.iterdir()):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        await trio.sleep(1)
        assert one.engine.state().status == "stopped"
        assert (other.root / "docs" / "a.txt").exists()


async def test_a_mass_disappearance_seen_at_start_is_held_until_confirmed(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    for number in range(150):
        (one.root / f"f{number}").write_text(str(number))
    async with running(one, other):
        await settle(one, other)
    for number in range(150):
        (one.root / f"f{number}").unlink()
    one, other = Device(1, one.root, one.store), Device(2, other.root, other.store)
    join(one, other)
    async with running(one, other):
        await trio.sleep(0.6)
        assert one.engine.state().held == 150
        assert len(list(other.root.iterdir())) == 151
        assert one.engine.confirm_deletes() == 150
        await trio.sleep(0.5)
        await settle(one, other)
        assert list(other.root.iterdir()) == [other.root / ".shoal"]


async def test_what_is_ignored_stays_where_it_is(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / ".shoalignore").write_text("*.log\nbuild/\n")
    (one.root / "x.log").write_text("noise")
    (one.root / "build").mkdir()
    (one.root / "build" / "o").write_text("object")
    (one.root / "kept").write_text("kept")
    async with running(one, other):
        await settle(one, other)
        assert sorted(path.name for path in other.root.iterdir()) == [".shoal", ".shoalignore", "kept"]


async def test_a_file_moved_here_and_deleted_there_does_not_lend_its_id_to_a_new_one_in_its_old_place(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    (one.root / "f").write_text("old")
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        (other.root / "f").unlink()
        await trio.sleep(0.6)
        join(one, other)
        (one.root / "f").rename(one.root / "moved")
        (one.root / "f").write_text("new")
        await trio.sleep(0.6)
        await settle(one, other)
    assert listing(one.root) == listing(other.root)
    assert (other.root / "f").read_text() == "new"
