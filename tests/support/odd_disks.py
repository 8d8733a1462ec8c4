"""Real file systems on images in files, those that do not hold all names and those that share blocks: mounted where
the machine can do that.

Debian's exfatprogs, exfat-fuse, ntfs-3g and dosfstools have the tools that are used where the kernel has no such disks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Kind = str
KINDS = ("vfat", "exfat", "ntfs", "ext4-casefold")
SIZE, LARGE = 64 << 20, 512 << 20  # bytes of an image


@contextmanager
def mounted(kind: Kind, place: Path) -> Iterator[Path]:
    """Have a fresh disk of the kind mounted at a folder in `place`; skip the test where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    image, at = place / f"{kind}.img", place / kind
    at.mkdir()
    with image.open("wb") as file:
        file.truncate(LARGE if kind in ("btrfs", "xfs") else SIZE)
    make, mounts = WAYS[kind]
    _run(make(image), f"no {kind} can be made")
    device = _run(["losetup", "-f", "--show", str(image)], "there is no loop device").strip()
    try:
        said = [_try(command) for way in mounts if (command := way(device, at)) and not os.path.ismount(at)]
        if not os.path.ismount(at):
            pytest.skip(f"{kind} cannot be mounted here: {'; '.join(filter(None, said))}")
        try:
            yield _folder(kind, at)
        finally:
            subprocess.run(["umount", "-l", str(at)], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=False)
        image.unlink()


def _folder(kind: Kind, at: Path) -> Path:
    folder = at / "folder"
    folder.mkdir()
    if kind == "ext4-casefold":
        _run(["chattr", "+F", str(folder)], "this kernel folds no names on ext4")
    return folder


def _run(command: list[str], why: str) -> str:
    said = _try(command)
    if said is not None:
        pytest.skip(f"{why}: {said}")
    return _output


def _try(command: list[str]) -> str | None:
    """Run; return what is wrong, None when it worked."""
    global _output
    if shutil.which(command[0]) is None:
        return f"there is no {command[0]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    _output = done.stdout
    return None if done.returncode == 0 else f"{command[0]}: {(done.stderr or done.stdout).strip()[:200]}"


_output = ""

_Make = Callable[[Path], list[str]]
_Mount = Callable[[str, Path], list[str]]


def _kernel(name: str, *options: str) -> _Mount:
    return lambda device, at: ["mount", "-t", name, *options, device, str(at)]


WAYS: dict[Kind, tuple[_Make, tuple[_Mount, ...]]] = {
    "vfat": (lambda image: ["mkfs.vfat", str(image)], (_kernel("vfat", "-o", "utf8"),)),
    "exfat": (
        lambda image: ["mkfs.exfat", str(image)],
        (_kernel("exfat"), lambda device, at: ["mount.exfat-fuse", device, str(at)]),
    ),
    "ntfs": (
        lambda image: ["mkntfs", "-F", "-Q", str(image)],
        (
            _kernel("ntfs3", "-o", "nocase,windows_names"),
            lambda device, at: ["lowntfs-3g", device, str(at), "-o", "ignore_case,windows_names"],
        ),
    ),
    "btrfs": (lambda image: ["mkfs.btrfs", "-q", str(image)], (_kernel("btrfs"),)),
    "xfs": (lambda image: ["mkfs.xfs", "-q", str(image)], (_kernel("xfs"),)),
    "ext4-casefold": (lambda image: ["mkfs.ext4", "-q", "-O", "casefold", str(image)], (_kernel("ext4"),)),
}
