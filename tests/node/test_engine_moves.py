"""Moves on real folders: told by inode, by content where inodes changed, and across restarts; and a few rows of
docs/SEMANTICS.md on a real disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from engines import Device, join, part, running, settle

from shoal.crdt.model import NodeId


def node_at(device: Device, path: str) -> NodeId | None:
    return device.engine.index.find(path)


def carry(source: Path, target: Path) -> None:
    """Move as between disks: the times stay, the inode does not."""
    held = source.open()  # so that its inode is given to nobody
    shutil.copy2(source, target)
    source.unlink()
    target.with_name("spare").write_text("")
    held.close()


async def offline(pair: tuple[Device, Device], before: Callable[[Path], object], act: Callable[[Path], object]) -> None:
    """Have both hold what `before` makes; then have `act` done on the first one's disk while its engine is down."""
    one, other = pair
    before(one.root)
    async with running(one, other):
        await settle(one, other)
    act(one.root)


def some_files(root: Path) -> None:
    (root / "docs").mkdir()
    (root / "docs" / "plan").write_text("the plan")
    (root / "docs" / "list").write_text("the list")
    (root / "empty").touch()


async def test_a_file_that_went_over_another_disk_while_the_node_was_down_is_the_same_file(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    await offline(pair, some_files, lambda root: carry(root / "docs" / "plan", root / "plan of old"))
    part(one, other)
    (other.root / "docs" / "plan").write_text("the better plan")
    node = node_at(one, "docs/plan")
    async with running(one, other):
        await trio.sleep(0.8)
        join(one, other)
        await settle(one, other)
    assert node_at(one, "plan of old") == node_at(other, "plan of old") == node
    assert (one.root / "plan of old").read_text() == "the better plan"
    assert not (one.root / "docs" / "plan").exists()


async def test_a_whole_folder_that_was_restored_under_another_name_keeps_its_files_and_asks_nobody(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair

    def fill(root: Path) -> None:
        (root / "photos").mkdir()
        for number in range(300):
            (root / "photos" / f"{number}").write_text(f"photo {number}")

    def restore(root: Path) -> None:
        shutil.copytree(root / "photos", root / "pictures")
        shutil.rmtree(root / "photos")

    await offline(pair, fill, restore)
    before = {name: node_at(one, f"photos/{name}") for name in ("0", "17", "299")}
    fetched = other.fetched
    async with running(one, other):
        await settle(one, other)
    assert one.engine.state().held == 0
    assert {name: node_at(other, f"pictures/{name}") for name in before} == before
    assert other.fetched == fetched
    assert os.listdir(other.root / ".shoal" / "versions") == []


async def test_of_several_equal_files_those_with_the_same_name_belong_together_and_others_are_not_guessed(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair

    def equal(root: Path) -> None:
        for folder in ("a", "b", "to"):
            (root / folder).mkdir()
        for path in ("a/same", "a/x", "b/y", "a/z"):
            (root / path).write_text("all the same")

    def shuffle(root: Path) -> None:
        for source, target in (("a/same", "to/same"), ("a/x", "to/1"), ("b/y", "to/2")):
            carry(root / source, root / target)

    await offline(pair, equal, shuffle)
    same = node_at(one, "a/same")
    guessed = {node_at(one, "a/x"), node_at(one, "b/y")}
    async with running(one, other):
        await settle(one, other)
    assert node_at(other, "to/same") == same
    assert not guessed & {node_at(other, "to/1"), node_at(other, "to/2")}
    assert (other.root / "to" / "1").read_text() == (other.root / "to" / "2").read_text() == "all the same"


async def test_empty_files_are_never_taken_for_each_other(pair: tuple[Device, Device]) -> None:
    one, other = pair
    await offline(pair, some_files, lambda root: carry(root / "empty", root / "void"))
    node = node_at(one, "empty")
    async with running(one, other):
        await settle(one, other)
    assert node_at(other, "void") not in (None, node)
    assert not (other.root / "empty").exists()


async def test_a_file_that_has_a_freed_inode_is_told_from_the_one_that_had_it(pair: tuple[Device, Device]) -> None:
    one, other = pair

    def like_twins(root: Path) -> None:
        for name in ("one", "two"):
            (root / name).write_text(name)
            os.utime(root / name, ns=(10**18, 10**18))

    def cross(root: Path) -> None:
        """Each gets the other's inode, and a new name."""
        (root / "one").rename(root / "t")
        (root / "two").rename(root / "new one")
        (root / "t").rename(root / "new two")
        for name in ("one", "two"):
            (root / f"new {name}").write_text(name)
            os.utime(root / f"new {name}", ns=(10**18, 10**18))

    await offline(pair, like_twins, cross)
    before = node_at(one, "one"), node_at(one, "two")
    async with running(one, other):
        await settle(one, other)
    assert (node_at(other, "new one"), node_at(other, "new two")) == before
    assert (other.root / "new one").read_text() == "one"


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("between"))
    other.rename(one)
    one.with_name("between").rename(other)


ROWS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], dict[str, str]]] = {
    "delete-rename": (
        lambda r: (r / "a").unlink(),
        lambda r: (r / "a").rename(r / "n"),
        {"n": "a", "b": "b", "d/f": "f"},
    ),
    "swap-edit": (
        lambda r: swap(r / "a", r / "b"),
        lambda r: (r / "a").write_text("new"),
        {"a": "b", "b": "new", "d/f": "f"},
    ),
    "delete-tree-rename-tree": (
        lambda r: shutil.rmtree(r / "d"),
        lambda r: (r / "d").rename(r / "e"),
        {"a": "a", "b": "b", "e/f": "f"},
    ),
    "into-into": (
        lambda r: (r / "d").rename(r / "x" / "d"),
        lambda r: (r / "x").rename(r / "d" / "x"),
        {"a": "a", "b": "b", "x/d/f": "f"},
    ),
}


@pytest.mark.parametrize("row", ROWS)
async def test_a_row_of_the_table_holds_on_a_real_disk(pair: tuple[Device, Device], row: str) -> None:
    one, other = pair
    first, second, outcome = ROWS[row]
    for folder in ("d", "x"):
        (one.root / folder).mkdir()
    for path in ("a", "b", "d/f"):
        (one.root / path).write_text(path[-1])
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        first(one.root)
        second(other.root)
        await trio.sleep(0.8)
        join(one, other)
        await settle(one, other)
    for device in pair:
        files = [path for path in device.root.rglob("*") if path.is_file()]
        found = {str(path.relative_to(device.root)): path.read_text() for path in files if ".shoal" not in path.parts}
        either = {"a": "a", "b": "b", "d/f": "f"} if row == "into-into" else outcome
        assert found in (outcome, either)
        assert (row == "into-into") <= ((device.root / "d" / "x").exists() or (device.root / "x" / "d").exists())


async def test_a_folder_whose_old_name_another_one_took_while_the_node_was_down_keeps_all_that_is_in_it(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair

    def take_its_name(root: Path) -> None:
        (root / "docs").rename(root / "kept")
        (root / "docs").mkdir()

    await offline(pair, some_files, take_its_name)
    async with running(one, other):
        await settle(one, other)
    for device in pair:
        assert (device.root / "kept" / "plan").read_text() == "the plan"
        assert (device.root / "kept" / "list").read_text() == "the list"
        assert list((device.root / "docs").iterdir()) == []


async def test_what_was_in_a_folder_that_is_gone_is_moved_where_others_have_moved_it(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair

    def with_a_folder_inside(root: Path) -> None:
        (root / "docs" / "old").mkdir(parents=True)

    await offline(pair, with_a_folder_inside, lambda root: (root / "docs" / "old").rmdir())
    (one.root / "docs").rmdir()
    part(one, other)
    async with running(other):
        await settle(other)
        (other.root / "docs" / "old").rename(other.root / "new")
        await trio.sleep(0.8)
        await settle(other)
    join(one, other)
    async with running(one, other):
        await settle(one, other)
    for device in pair:
        assert (device.root / "new").is_dir()
        assert device.engine.index.path(node_at(other, "new") or NodeId(b"")) == "new"
