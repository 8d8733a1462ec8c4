"""What a disk can hold is found by trying, on the fake of each kind as on a real one."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest
from tests.sim.filesystem import SimFileSystem
from tests.sim.world import DISKS

from shoal.crdt.model import FolderId
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_kind import find_rules
from shoal.node.folder.linux import Linux
from shoal.node.folder.marker import make_marker
from shoal.node.name_rules import PLAIN, NameRules

FOLDER = FolderId(b"f" * 16)
OTHERS = [NameRules(case="ascii"), NameRules(forms=True), NameRules(utf8=True), NameRules(trims=True)]


def disk_of(rules: NameRules, room: int = 1 << 20) -> tuple[Disk, SimFileSystem]:
    fs = SimFileSystem(lambda: 0, 1, room, rules)
    fs.mkdir("/home")
    make_marker(Disk(fs), "/home", FOLDER)
    return Disk(fs), fs


@pytest.mark.parametrize("rules", [PLAIN, *DISKS, *OTHERS])
def test_each_kind_is_found_and_nothing_is_left(rules: NameRules) -> None:
    disk, fs = disk_of(rules)
    assert find_rules(disk, "/home") == rules
    assert fs.names("/home/.shoal/tmp") == []


def test_what_a_crash_left_of_one_try_is_removed_by_the_next() -> None:
    for rules in (PLAIN, *DISKS):
        for calls in range(12):
            disk, fs = disk_of(rules)
            left = calls

            def count(name: str, path: str) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt

            fs.on_call = count
            with contextlib.suppress(KeyboardInterrupt):
                find_rules(disk, "/home")
            fs.on_call = lambda name, path: None
            assert find_rules(disk, "/home") == rules
            assert fs.names("/home/.shoal/tmp") == []


def test_an_ordinary_disk_is_found_to_hold_all_names_with_few_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    disk = Disk(Linux())
    make_marker(disk, str(tmp_path), FOLDER)
    for name in ("open", "lstat", "unlink", "names", "scan"):
        real = getattr(Linux, name)

        def counted(self: Linux, *arguments: object, name: str = name, real: object = real) -> object:
            calls.append(name)
            return real(self, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(Linux, name, counted)
    assert find_rules(disk, str(tmp_path)) == PLAIN
    assert len(calls) <= 8
    assert list((tmp_path / ".shoal" / "tmp").iterdir()) == []


def test_a_full_disk_is_no_disk_that_refuses_names(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, fs = disk_of(PLAIN)

    def full(path: str, how: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(fs, "open", full)
    with pytest.raises(OSError, match="No space"):
        find_rules(disk, "/home")
