"""Conflict copies that are none any more by the time that what a person did with them is seen (by the simulator)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from engines import Device, conflict, join, running, settle

from shoal.crdt.model import ROOT, NodeId
from shoal.node.folder.apply import Applier, Steps


def copy_in(root: Path) -> Path:
    (copy,) = root.glob("f (conflict *")
    return copy


async def test_a_copy_moved_while_the_file_made_way_for_a_folder_is_not_lost(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(one, other):
        await conflict(one, other)
    text = copy_in(one.root).read_text()
    (one.root / "f").unlink()
    (one.root / "f").mkdir()
    copy_in(one.root).rename(one.root / "g")
    again = Device(1, one.root, one.store)
    happened: list[str] = []
    again.engine.on_event = lambda kind, text: happened.append(kind)
    join(again, other)
    async with running(again, other):
        await settle(again, other)
    for device in (again, other):
        assert (device.root / "g").read_text() == text
    assert "folder-stopped" not in happened


async def test_an_edited_copy_that_is_removed_with_its_file_stays_removed(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair

    async def apply(self: Applier, nodes: Iterable[NodeId], busy: set[NodeId]) -> Steps:
        return Steps(waiting=list(nodes))

    async with running(one, other):
        await conflict(one, other)
        monkeypatch.setattr(Applier, "apply", apply)  # the disk does not follow yet: the copy is still the copy
        (before,) = one.replica.tree.index.children(ROOT)
        heads = one.replica.children(ROOT)[0].heads
        copy_in(one.root).write_text("edited copy")
        with trio.fail_after(20):
            while one.replica.children(ROOT)[0].heads == heads:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        copy_in(one.root).unlink()
        (one.root / "f").unlink()
        with trio.fail_after(20):
            while one.replica.view(before) is not None:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        monkeypatch.undo()
        await settle(one, other)
    assert not [path for device in pair for path in device.root.iterdir() if path.is_file()]
