"""Folders that go one way on a device: what is kept to itself, what is kept out, and how both are put right."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import trio
from engines import Device, join, listing, running, settle


def populate(root: Path) -> None:
    (root / "docs").mkdir()
    for name in ("a", "b", "c", "d"):
        (root / "docs" / name).write_text(name * 50)


def kept(root: Path) -> set[str]:
    return {path.read_text() for path in (root / ".shoal" / "versions").iterdir()}


def changes(device: Device) -> dict[str, str]:
    return {path: change.kind for path, change in device.engine.one_way.local.items()}


async def quiet(*devices: Device) -> None:
    await trio.sleep(0.6)
    await settle(*devices)


def restarted(*devices: Device) -> list[Device]:
    again = [Device(number, device.root, device.store) for number, device in enumerate(devices, 1)]
    join(*again)
    return again


def change_all(root: Path) -> None:
    (root / "docs" / "a").write_text("changed here")
    (root / "docs" / "b").unlink()
    (root / "docs" / "c").rename(root / "docs" / "moved")
    (root / "new").mkdir()
    (root / "new" / "mine").write_text("made here")


async def test_what_changes_where_nothing_is_sent_is_listed_and_goes_nowhere(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    other.engine.set_mode("receive-only")
    async with running(one, other):
        await settle(one, other)
        assert listing(one.root) == listing(other.root)
        before = listing(one.root)
        change_all(other.root)
        await quiet(one, other)
        listed = {
            "docs/a": "changed",
            "docs/b": "deleted",
            "docs/c": "deleted",
            "docs/moved": "added",
            "new": "added",
            "new/mine": "added",
        }
        assert changes(other) == listed
        assert listing(one.root) == before
        (one.root / "docs" / "a").write_text("changed there, too")
        (one.root / "docs" / "d").write_text("changed there")
        await quiet(one, other)
        assert (other.root / "docs" / "a").read_text() == "changed here", "it waits until it is reverted"
        assert (other.root / "docs" / "d").read_text() == "changed there"
    one, other = restarted(one, other)
    async with running(one, other):
        await quiet(one, other)
        assert changes(other) == listed
        inode = (other.root / "docs" / "moved").stat().st_ino
        assert await other.engine.revert() == 6
        await quiet(one, other)
        assert listing(one.root) == listing(other.root)
        assert (other.root / "docs" / "c").stat().st_ino == inode, "what was only renamed is not fetched"
        assert {"changed here", "made here"} <= kept(other.root)
        assert not changes(other)


async def test_what_others_delete_stays_where_it_holds_what_was_made_here(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    other.engine.set_mode("receive-only")
    async with running(one, other):
        await settle(one, other)
        (other.root / "docs" / "mine").write_text("made here")
        await quiet(one, other)
        shutil.rmtree(one.root / "docs")
        await quiet(one, other)
        assert os.listdir(other.root / "docs") == ["mine"]
        assert await other.engine.revert() == 1
        await quiet(one, other)
        assert listing(one.root) == listing(other.root)


async def test_going_both_ways_again_merges_as_after_any_time_apart(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    other.engine.set_mode("receive-only")
    async with running(one, other):
        await settle(one, other)
        change_all(other.root)
        (one.root / "docs" / "a").write_text("changed there, too")
        await quiet(one, other)
        other.engine.set_mode("both")
        await quiet(one, other)
        assert listing(one.root) == listing(other.root)
        assert {path.read_text() for path in (one.root / "docs").glob("a*")} == {"changed here", "changed there, too"}
        assert sorted(path.name for path in one.root.iterdir()) == [".shoal", "docs", "new"]


async def test_what_is_there_already_and_the_same_is_no_local_change(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    populate(one.root)
    join(one, other)
    async with running(one):
        await settle(one)
    shutil.copytree(one.root / "docs", other.root / "docs")
    (other.root / "docs" / "b").write_text("otherwise")
    other.engine.set_mode("receive-only")
    async with running(one, other):
        await quiet(one, other)
        assert changes(other) == {"docs/b": "changed"}
        assert (other.root / "docs" / "b").read_text() == "otherwise"


async def test_where_only_is_sent_changes_of_others_are_listed_and_not_applied(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        one.engine.set_mode("send-only")
        before = listing(one.root)
        change_all(other.root)
        await quiet(one, other)
        assert listing(one.root) == before
        assert one.engine.state().not_applied == 5
        (one.root / "sent").write_text("sent")
        await quiet(one, other)
        assert (other.root / "sent").read_text() == "sent"
    one, other = restarted(one, other)
    async with running(one, other):
        await quiet(one, other)
        assert one.engine.state().not_applied == 5
        assert await one.engine.override() == 5
        await quiet(one, other)
        (one.root / "sent").unlink()
        await quiet(one, other)
        assert listing(one.root) == listing(other.root) == before
        assert {"changed here", "made here"} <= kept(other.root)
        assert one.engine.state().not_applied == 0


async def test_an_edit_on_both_sides_is_won_by_the_one_that_overrides(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        one.engine.set_mode("send-only")
        (other.root / "docs" / "a").write_text("theirs")
        await quiet(one, other)
        (one.root / "docs" / "a").write_text("ours")
        await quiet(one, other)
        assert len(list((other.root / "docs").glob("a*"))) == 2, "neither had seen the other"
        await one.engine.override()
        await quiet(one, other)
        assert listing(one.root) == listing(other.root)
        assert (other.root / "docs" / "a").read_text() == "ours"
        assert "theirs" in kept(other.root)


async def test_sending_only_applies_all_that_waited_once_it_goes_both_ways(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        one.engine.set_mode("send-only")
        change_all(other.root)
        await quiet(one, other)
        one.engine.set_mode("both")
        await quiet(one, other)
        assert listing(one.root) == listing(other.root)
        assert (one.root / "new" / "mine").exists()
