"""Files that wait under `.shoal/tmp` for their name to become free."""

from __future__ import annotations

from dataclasses import replace

from engines import Device, join, running, settle

from shoal.crdt.model import ROOT
from shoal.node.folder.local import PARKED


async def test_an_edit_made_right_before_a_file_was_parked_is_seen(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "f").write_text("base")
    async with running(one, other):
        await settle(one, other)
    (child,) = one.replica.children(ROOT)
    record = one.engine.index.get(child.id)
    assert record is not None
    (one.root / "f").write_text("mine, at the last moment")
    (one.root / "f").rename(one.root / ".shoal" / "tmp" / child.id.hex())
    one.engine.index.put(replace(record, parent=PARKED, name=child.id.hex()))
    one.replica.mark_dirty([child.id])

    again = Device(1, one.root, one.store)
    join(again, other)
    async with running(again, other):
        await settle(again, other)
    for device in (again, other):
        assert (device.root / "f").read_text() == "mine, at the last moment"
