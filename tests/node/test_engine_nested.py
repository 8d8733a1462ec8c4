"""Synced folders inside of synced folders: each is kept by one engine alone, and nothing of it by the other."""

from __future__ import annotations

from pathlib import Path

import trio
from engines import Device, listing, running, settle

from shoal.crdt.model import ROOT, FolderId
from shoal.node.folder.disk import Disk
from shoal.node.folder.linux import Linux
from shoal.node.folder.marker import make_marker

INNER = FolderId(b"i" * 16)


def make_inner(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("inside")
    make_marker(Disk(Linux()), str(path), INNER)


def names(device: Device) -> set[str]:
    return {view.name for view in device.replica.children(ROOT)}


async def test_a_synced_folder_that_is_copied_into_another_is_left_alone_and_told_of(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    make_inner(one.root / "copy")
    (one.root / "own").write_text("own")
    async with running(one, other):
        await settle(one, other)
        assert [problem.path for problem in one.engine.state().problems] == ["copy"]
    assert names(one) == {"own"}
    assert not (other.root / "copy").exists()
    assert (one.root / "copy" / "inside").exists()


async def test_one_that_is_kept_here_is_left_alone_without_a_word(pair: tuple[Device, Device]) -> None:
    one, other = pair
    one.engine.nested.add(INNER)
    async with running(one, other):
        await settle(one, other)
        make_inner(one.root / "part")
        await trio.sleep(0.5)
        await settle(one, other)
        assert one.engine.state().problems == ()
    assert names(one) == set()


async def test_what_is_given_up_stays_on_disk_and_is_nobodys_deletion(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "part").mkdir()
    (one.root / "part" / "inside").write_text("inside")
    (one.root / "rest").write_text("rest")
    async with running(one, other):
        await settle(one, other)
        node = one.engine.chooser.find("part")
        one.engine.chooser.give_up(node, b"part" + INNER)
        (one.root / "part" / "inside").write_text("changed by another engine")
        (one.root / "part" / "new").write_text("new")
        make_marker(Disk(Linux()), str(one.root / "part"), INNER)
        one.engine.nested.add(INNER)
        (one.root / "rest").write_text("rest 2")
        one.engine.scan_soon()
        await trio.sleep(0.5)
        await settle(one, other)
        assert one.engine.chooser.has_mark(b"part" + INNER)
    assert (one.root / "part" / "inside").read_text() == "changed by another engine"
    assert (other.root / "part" / "inside").read_text() == "inside"
    assert not (other.root / "part" / "new").exists()
    assert (other.root / "rest").read_text() == "rest 2"
    assert "part" in listing(other.root)


async def test_what_was_just_being_put_into_a_part_is_not_taken_off_the_disk_again(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "part").mkdir()
    (one.root / "part" / "inside").write_text("inside")
    async with running(one, other):
        await settle(one, other)
        node, file = one.engine.chooser.find("part"), one.engine.chooser.find("part/inside")
        record, above = one.engine.index.get(file), one.engine.index.get(node)
        assert record is not None
        assert above is not None
        one.engine.chooser.give_up(node, b"part" + INNER)
        for each in (above, record):  # as a placing that ended a moment later has it
            one.engine.index.put(each)
        one.engine.index.commit()
        one.engine.leaver.hurry()
        one.engine.wake()
        await trio.sleep(1)
        await settle(one, other)
        assert one.engine.leaver.removed == 0
    assert (one.root / "part" / "inside").read_text() == "inside"
