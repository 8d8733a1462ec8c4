"""An engine on a real disk whose files can share blocks; skipped where none can be mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engines import Device, join, running, settle
from odd_disks import mounted

pytestmark = pytest.mark.e2e

MIB = 1 << 20


def used(folder: Path) -> int:
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
async def test_a_change_in_a_large_file_takes_the_room_of_what_changed_though_the_version_before_is_kept(
    tmp_path: Path, kind: str
) -> None:
    with mounted(kind, tmp_path) as folder:
        one, other = Device(1, tmp_path / "one"), Device(2, folder)
        join(one, other)
        async with running(one, other):
            (one.root / "large").write_bytes(os.urandom(100 * MIB))
            await settle(one, other)
            before = used(folder)
            with (one.root / "large").open("r+b") as file:
                file.seek(50 * MIB)
                file.write(b"other bytes")
            await settle(one, other)
            assert (folder / "large").read_bytes() == (one.root / "large").read_bytes()
            assert used(folder) - before < 10 * MIB
