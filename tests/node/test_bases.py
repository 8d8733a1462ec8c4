"""The texts that are kept as a base for merges: found again, verified, and bounded."""

from __future__ import annotations

import os
from pathlib import Path

from engines import FOLDER, Device, running, settle

from shoal.crdt.model import ROOT, FileContent
from shoal.node.folder.bases import TextBases
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.linux import Linux


def bases(device: Device) -> TextBases:
    ways = Disk(Linux()), DiskTurns(), str(device.root), device.engine.index
    return TextBases(*ways, device.replica.staging, FOLDER, device.replica.content_key)


def chunks(device: Device) -> dict[str, bytes]:
    """Return name -> first chunk of each file."""
    found = {view.name: view.version.content for view in device.replica.children(ROOT)}
    return {name: content.chunks[:32] for name, content in found.items() if isinstance(content, FileContent)}


async def test_a_text_is_kept_and_found_after_it_was_written_over(tmp_path: Path) -> None:
    device = Device(1, tmp_path / "one")
    (device.root / "text").write_text("what was")
    (device.root / "binary").write_bytes(b"\0\1")
    (device.root / "large").write_text("x" * (1 << 20) + "\n")
    async with running(device):
        await settle(device)
        while await device.engine._bases.keep_some():
            pass
    known = chunks(device)
    (device.root / "text").write_text("what is")
    kept = bases(device)  # as after a restart
    assert kept.get(known["text"]) == b"what was"
    assert kept.get(known["binary"]) is None
    assert kept.get(known["large"]) is None


async def test_the_oldest_texts_go_when_there_are_too_many(tmp_path: Path) -> None:
    device = Device(1, tmp_path / "one")
    device.engine._bases.budget = 20_000
    names = [f"t{number}" for number in range(10)]
    async with running(device):
        for name in names:
            (device.root / name).write_text(os.urandom(2000).hex())
            await settle(device)
            while await device.engine._bases.keep_some():
                pass
    kept, known = bases(device), chunks(device)
    there = [kept.get(known[name]) is not None for name in names]
    assert there[-1]
    assert not there[0]
    assert there == sorted(there)
