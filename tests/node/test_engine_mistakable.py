"""What is easily taken for something else: a freed inode for a move, a new folder for the old, a copy for a file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
from engines import Device, conflict, join, listing, part, running, settle

from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.ignore import IgnoreRules
from shoal.node.folder.linux import Linux
from shoal.node.folder.problems import Problems
from shoal.node.folder.scan import Scanner


def overwrite_like_a_freed_inode(path: Path, new_name: str, data: bytes) -> None:
    """Leave what a deletion and a new file leave whose inode, size and time happen to be those of the deleted one."""
    before = path.stat()
    assert len(data) == before.st_size
    path = path.rename(path.with_name(new_name))
    path.write_bytes(data)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


async def test_a_new_file_in_a_freed_inode_is_not_taken_for_the_old_file_moved(pair: tuple[Device, Device]) -> None:
    one, other = pair
    for name in "abc":
        (one.root / name).write_text(f"old {name}")
    async with running(one, other):
        await settle(one, other)
        for name in "abc":
            overwrite_like_a_freed_inode(one.root / name, f"new-{name}", f"new {name}".encode())
        await trio.sleep(0.5)
        await settle(one, other)
    assert (other.root / "new-b").read_text() == "new b"
    assert listing(one.root) == listing(other.root)


async def test_what_is_in_another_folder_of_the_same_name_is_found_once(
    pair: tuple[Device, Device], tmp_path: Path
) -> None:
    one, other = pair
    (one.root / "d").mkdir()
    (one.root / "d" / "in").write_text("first")
    async with running(one, other):
        await settle(one, other)
    (one.root / "d").rename(tmp_path / "elsewhere")
    (one.root / "d").mkdir()
    (one.root / "d" / "in").write_text("second")
    (one.root / "d" / "fresh").write_text("fresh")
    root = str(one.root)
    disk = Disk(Linux())
    rules, problems = IgnoreRules(disk, root), Problems(lambda: 0)
    scanner = Scanner(
        disk, DiskTurns(), root, one.engine.index, one.replica, rules, problems, set(), one.engine.selection
    )
    findings = await scanner.look_at(["d", "d/in", "d/fresh"])
    found = sorted(seen.path for seen in [*findings.appeared, *(seen for _, seen in findings.changed)])
    assert found == ["d", "d/fresh", "d/in"]


async def test_a_file_that_has_the_name_of_a_conflict_copy_stands_beside_the_copy(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(one, other):
        await conflict(one, other)
        (copy,) = one.root.glob("f (conflict *")
        name, saved = copy.name, copy.read_text()
        part(one, other)
        (one.root / name).rename(one.root / "aside")
        (one.root / name).write_text("a file of its own")
        await trio.sleep(0.6)
        join(one, other)
        await settle(one, other)
    texts = sorted(path.read_text() for path in other.root.iterdir() if path.is_file())
    assert "a file of its own" in texts
    assert saved in texts
    assert listing(one.root) == listing(other.root)


async def test_both_having_the_same_file_named_like_a_copy_that_is_to_be_shown_settles(
    pair: tuple[Device, Device], tmp_path: Path
) -> None:
    one, other = pair
    async with running(one, other):
        await conflict(one, other)
    # Both start over, as after a repair: what was a copy is a file like any other now, on both.
    again = Device(1, one.root), Device(2, other.root)
    (again[0].root / "f").write_text("edited while it was down")
    async with running(*again):
        await trio.sleep(0.6)
        join(*again)
        await settle(*again)
    assert listing(one.root) == listing(other.root)


async def test_folders_deeper_than_can_be_synced_are_told_and_harm_nothing(pair: tuple[Device, Device]) -> None:
    one, other = pair
    deep = one.root.joinpath(*["d"] * 400)
    at = os.open(one.root, os.O_RDONLY)
    try:
        for _ in range(400):
            os.mkdir("d", dir_fd=at)
            at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
            os.close(above)
    finally:
        os.close(at)
    (deep / "f").write_text("unreachable")
    (one.root / "beside").write_text("beside")
    async with running(one, other):
        await settle(one, other)
        assert (other.root / "beside").read_text() == "beside"
        (problem,) = one.engine.state().problems
        assert "deep" in problem.reason
        assert other.root.joinpath(*["d"] * 250).is_dir()
        shutil.rmtree(one.root / "d")
        await trio.sleep(0.5)
        await settle(one, other)
        assert not (other.root / "d").exists()


async def test_a_long_chain_of_renames_arrives(pair: tuple[Device, Device]) -> None:
    one, other = pair
    for number in range(400):
        (one.root / f"{number}").write_text(str(number))
    async with running(one, other):
        await settle(one, other)
        for number in reversed(range(400)):
            (one.root / f"{number}").rename(one.root / f"{number + 1}")
        await trio.sleep(0.5)
        await settle(one, other)
        assert (other.root / "400").read_text() == "399"
        assert other.fetched < 10_000
        assert listing(one.root) == listing(other.root)


@pytest.mark.parametrize("act", ["rename", "edit", "replace"])
async def test_work_on_a_copy_after_the_conflict_was_settled_elsewhere_is_not_lost(
    pair: tuple[Device, Device], act: str
) -> None:
    one, other = pair
    async with running(one, other):
        await conflict(one, other)
    (copy,) = one.root.glob("f (conflict *")
    text = copy.read_text()
    async with running(other):
        (other.root / copy.name).unlink()
        await trio.sleep(0.6)
    assert one.replica.dirty.count == 1
    if act == "rename":
        copy.rename(one.root / "kept")
    else:
        text = "worked on"
        if act == "replace":
            copy.unlink()
        copy.write_text(text)
    one, other = Device(1, one.root, one.store), Device(2, other.root, other.store)
    join(one, other)
    async with running(one, other):
        await settle(one, other)
    assert text in {path.read_text() for path in other.root.iterdir() if path.is_file()}
    assert listing(one.root) == listing(other.root)
