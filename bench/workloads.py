"""What is measured. Each workload prepares outside the clock, acts on the first folder, and waits until all others show
it."""

from __future__ import annotations

import filecmp
import math
import os
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.processes import Daemon, wait_until

GIB = 1 << 30
LIMIT = 1800.0  # Syncthing's 310 s for 100,000 files, times six
EDIT_LIMIT = 60.0


class Devices(Protocol):
    """Daemons that keep `folders` the same; what is done, is done in the first."""

    name: str
    folders: list[Path]
    daemons: list[Daemon]

    def start(self) -> None:
        """Start the daemons; they have the folder then, and each is connected with all others."""
        ...

    def kick(self) -> None:
        """Have the tool look at the first folder now, where it needs telling."""
        ...

    def received_bytes(self) -> int:
        """Return what the second has received."""
        ...

    def sent_bytes(self) -> int:
        """Return what the first has sent."""
        ...


GROUPS = ("fresh", "big", "small", "edits", "idle", "many", "mixed")
USUAL = GROUPS[:5]


@dataclass(frozen=True)
class Scale:
    """How large the workloads are, and which groups of them run."""

    big_bytes: int = GIB
    small_files: int = 10_000
    many_files: int = 100_000
    edits: int = 200
    kicked_edits: int = 20
    idle_seconds: float = 20.0
    mixed_bytes: int = 4 * GIB
    groups: tuple[str, ...] = USUAL

    def large_bytes(self, devices: int) -> int:
        """Return what large files take on the disk at most, with the versions that the others keep of them."""
        big = self.big_bytes * 2 * devices if "big" in self.groups else 0
        return big + (self.mixed_bytes * devices if "mixed" in self.groups else 0)

    def small_bytes(self, devices: int) -> int:
        """Return what small files take, in blocks of a disk and in the daemons' stores."""
        small = self.small_files if "small" in self.groups else 0
        return (small + (self.many_files if "many" in self.groups else 0)) * 8192 * devices


def run_all(devices: Devices, stage: Path, scale: Scale) -> Iterator[dict[str, Any]]:
    """Run the workloads in turn; yield a row each."""
    stage.mkdir(parents=True)
    if "fresh" in scale.groups:
        yield _idle(devices, scale, "idle after the start")
    if "big" in scale.groups:
        yield _big(devices, stage, scale)
        yield _insert(devices, stage, scale)
    if "small" in scale.groups:
        yield _small(devices, stage, scale.small_files)
        yield _rename(devices)
    if "edits" in scale.groups:
        yield _latency(devices, scale.kicked_edits, kicked=True)
        yield _latency(devices, scale.edits, kicked=False)
    if "small" in scale.groups:
        yield _delete(devices)
    if "idle" in scale.groups:
        yield _idle(devices, scale, "idle after all")
    if "many" in scale.groups:
        yield _small(devices, stage, scale.many_files)
    if "mixed" in scale.groups:
        yield _mixed(devices, stage, scale.mixed_bytes)


def _big(devices: Devices, stage: Path, scale: Scale) -> dict[str, Any]:
    write_random(stage / "big", scale.big_bytes)
    copy(stage / "big", stage / "in")
    os.sync()
    return _timed(
        devices,
        "1 GiB file" if scale.big_bytes == GIB else f"{scale.big_bytes} bytes",
        lambda: os.rename(stage / "in", devices.folders[0] / "big"),
        lambda folder: _size(folder / "big") == scale.big_bytes,
        lambda folder: filecmp.cmp(devices.folders[0] / "big", folder / "big", shallow=False),
    )


def _insert(devices: Devices, stage: Path, scale: Scale) -> dict[str, Any]:
    with (stage / "big").open("rb") as old, (stage / "in").open("wb") as new:
        new.write(old.read(1000) + b"14 bytes here!")
        shutil.copyfileobj(old, new, 1 << 20)
    os.sync()
    return _timed(
        devices,
        "insert 14 bytes",
        lambda: os.rename(stage / "in", devices.folders[0] / "big"),
        lambda folder: _size(folder / "big") == scale.big_bytes + 14,
        lambda folder: filecmp.cmp(devices.folders[0] / "big", folder / "big", shallow=False),
    )


def make_small(root: Path, count: int) -> None:
    """Make files of 0.1-8 KB, 500 to a folder."""
    source = random.Random(7)
    folders = max(1, count // 500)
    for number in range(folders):
        (root / f"d{number}").mkdir(parents=True)
    for number in range(count):
        (root / f"d{number % folders}" / f"f{number}").write_bytes(source.randbytes(source.randint(100, 8000)))


def _small(devices: Devices, stage: Path, files: int) -> dict[str, Any]:
    make_small(stage / "many", files)
    there = _arrival(stage / "many")
    os.sync()
    row = _timed(
        devices,
        f"{files:,} small files",
        lambda: os.rename(stage / "many", devices.folders[0] / "many"),
        lambda folder: there(folder / "many"),
        lambda folder: not _differing(devices.folders[0] / "many", folder / "many"),
    )
    return {**row, "files_per_s": round(files / row["seconds"])}


def make_mixed(root: Path, size: int) -> int:
    """Make files as of photos and films, from 64 KiB to 512 MiB, of every order of magnitude as many; return how many.
    The last is cut so that all have `size` together."""
    root.mkdir(parents=True)
    source, count, left = random.Random(7), 0, size
    while left > 0:
        length = min(left, int(2 ** source.uniform(16, 29)))
        write_random(root / f"media-{count}", length)
        count, left = count + 1, left - length
    return count


def _mixed(devices: Devices, stage: Path, size: int) -> dict[str, Any]:
    files = make_mixed(stage / "mixed", size)
    there = _arrival(stage / "mixed")
    os.sync()
    row = _timed(
        devices,
        f"{size / GIB:g} GiB of mixed files",
        lambda: os.rename(stage / "mixed", devices.folders[0] / "mixed"),
        lambda folder: there(folder / "mixed"),
        lambda folder: not _differing(devices.folders[0] / "mixed", folder / "mixed"),
    )
    return {**row, "files": files}


def _rename(devices: Devices) -> dict[str, Any]:
    there = _arrival(devices.folders[0] / "many")
    return _timed(
        devices,
        "rename a folder",
        lambda: os.rename(devices.folders[0] / "many", devices.folders[0] / "lots"),
        lambda folder: there(folder / "lots") and not (folder / "many").exists(),
        lambda folder: not _differing(devices.folders[0] / "lots", folder / "lots"),
    )


def _latency(devices: Devices, edits: int, *, kicked: bool) -> dict[str, Any]:
    seconds = []
    before = sum(_cpu(devices))
    for number in range(edits):
        text = f"edit {number} {kicked}\n" * 10
        (devices.folders[0] / "note.txt").write_text(text)
        start = time.perf_counter()
        if kicked:
            devices.kick()
        for folder in devices.folders[1:]:
            wait_until(lambda: _text(folder / "note.txt") == text, EDIT_LIMIT, "an edit")  # noqa: B023
        seconds.append(time.perf_counter() - start)
        time.sleep(0.2)
    what = "edit seen, scan kicked" if kicked else "edit seen, by watcher"
    ranked = sorted(seconds)
    return {
        "workload": what,
        "seconds": round(statistics.median(seconds), 3),
        "p99": round(ranked[math.ceil(0.99 * len(ranked)) - 1], 3),
        "worst": round(ranked[-1], 3),
        "cpu": round(sum(_cpu(devices)) - before, 2),
    }


def _delete(devices: Devices) -> dict[str, Any]:
    return _timed(
        devices,
        "delete the folder",
        lambda: shutil.rmtree(devices.folders[0] / "lots"),
        lambda folder: not (folder / "lots").exists(),
        lambda folder: True,
    )


def _idle(devices: Devices, scale: Scale, what: str) -> dict[str, Any]:
    time.sleep(5)
    before = _cpu(devices)
    time.sleep(scale.idle_seconds)
    spent = sum(after - start for after, start in zip(_cpu(devices), before, strict=True))
    rss = [round(daemon.rss_mib()) for daemon in devices.daemons]
    what = f"{what}, {scale.idle_seconds:g} s"
    return {"workload": what, "cpu": round(spent, 2), "rss_mib": sum(rss), "rss_by_side": rss}


def _timed(
    devices: Devices,
    what: str,
    act: Callable[[], None],
    done: Callable[[Path], bool],
    right: Callable[[Path], bool],
) -> dict[str, Any]:
    others = devices.folders[1:]
    cpu, received, sent = _cpu(devices), devices.received_bytes(), devices.sent_bytes()
    start = time.perf_counter()
    act()
    devices.kick()
    for folder in others:
        wait_until(lambda: done(folder), LIMIT, what)  # noqa: B023
    seconds = time.perf_counter() - start
    spent = [round(after - before, 2) for after, before in zip(_cpu(devices), cpu, strict=True)]
    if not all(right(folder) for folder in others):
        raise AssertionError(f"{devices.name}: {what}: the folders differ")
    time.sleep(1)
    return {
        "workload": what,
        "seconds": round(seconds, 2),
        "cpu": round(sum(spent), 2),
        "cpu_by_side": spent,
        "received_mib": round((devices.received_bytes() - received) / (1 << 20), 2),
        "sent_mib": round((devices.sent_bytes() - sent) / (1 << 20), 2),
        "rss_mib": round(sum(daemon.rss_mib() for daemon in devices.daemons)),
    }


def _cpu(devices: Devices) -> list[float]:
    return [daemon.cpu_seconds() for daemon in devices.daemons]


def write_random(path: Path, size: int) -> None:
    """Write a file of random bytes."""
    with path.open("wb") as file:
        for _ in range(size // (1 << 20)):
            file.write(os.urandom(1 << 20))
        file.write(os.urandom(size % (1 << 20)))


def copy(source: Path, target: Path) -> None:
    """Copy a file, sharing nothing with it."""
    with source.open("rb") as old, target.open("wb") as new:  # not copyfile: no shared extents
        shutil.copyfileobj(old, new, 1 << 20)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _arrival(source: Path) -> Callable[[Path], bool]:
    """Return a test whether a copy has as many names in every folder as `source` has now. What was complete once is not
    looked at again: on two cores, to count 10,000 files every time would slow what is measured."""
    expected = [
        (os.path.relpath(folder, source), len(folders) + len(names)) for folder, folders, names in os.walk(source)
    ]
    lacking: dict[Path, list[tuple[str, int]]] = {}

    def is_there(copy: Path) -> bool:
        left = lacking.setdefault(copy, list(expected))
        while left and _count(copy / left[-1][0]) == left[-1][1]:
            left.pop()
        return not left

    return is_there


def _count(folder: Path) -> int:
    """Return how many names a folder has, without a tool's temporaries."""
    try:
        return sum(not name.startswith(".") for name in os.listdir(folder))
    except OSError:
        return -1


def _differing(one: Path, other: Path) -> list[str]:
    found = []
    for folder, _, names in os.walk(one):
        relative = os.path.relpath(folder, one)
        _, mismatch, errors = filecmp.cmpfiles(folder, other / relative, names, shallow=False)
        found += mismatch + errors
    return found
