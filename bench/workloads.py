"""What is measured. Each workload prepares outside the clock, acts on folder a, and waits until b shows it."""

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
LIMIT = 900.0


class Pair(Protocol):
    """Two daemons that keep `a` and `b` the same."""

    name: str
    a: Path
    b: Path
    daemons: list[Daemon]

    def kick(self) -> None:
        """Have the tool look at a now, where it needs telling."""
        ...

    def received_bytes(self) -> int:
        """Return what b has received."""
        ...


GROUPS = ("fresh", "big", "small", "edits", "idle", "many")


@dataclass(frozen=True)
class Scale:
    """How large the workloads are, and which groups of them run; `many` only when it is named."""

    big_bytes: int = GIB
    small_files: int = 10_000
    many_files: int = 100_000
    edits: int = 200
    kicked_edits: int = 20
    idle_seconds: float = 20.0
    groups: tuple[str, ...] = GROUPS[:-1]


def run_all(pair: Pair, stage: Path, scale: Scale) -> Iterator[dict[str, Any]]:
    """Run the workloads in turn; yield a row each."""
    stage.mkdir(parents=True)
    if "fresh" in scale.groups:
        yield _idle(pair, scale, "idle after the start")
    if "big" in scale.groups:
        yield _big(pair, stage, scale)
        yield _insert(pair, stage, scale)
    if "small" in scale.groups:
        yield _small(pair, stage, scale.small_files)
        yield _rename(pair, scale)
    if "edits" in scale.groups:
        yield _latency(pair, scale.kicked_edits, kicked=True)
        yield _latency(pair, scale.edits, kicked=False)
    if "small" in scale.groups:
        yield _delete(pair)
    if "idle" in scale.groups:
        yield _idle(pair, scale, "idle after all")
    if "many" in scale.groups:
        yield _small(pair, stage, scale.many_files)
    for path in (pair.a / "big", pair.b / "big", stage / "big"):
        path.unlink(missing_ok=True)


def _big(pair: Pair, stage: Path, scale: Scale) -> dict[str, Any]:
    write_random(stage / "big", scale.big_bytes)
    copy(stage / "big", stage / "in")
    os.sync()
    return _timed(
        pair,
        "1 GiB file" if scale.big_bytes == GIB else f"{scale.big_bytes} bytes",
        lambda: os.rename(stage / "in", pair.a / "big"),
        lambda: _size(pair.b / "big") == scale.big_bytes,
        lambda: filecmp.cmp(pair.a / "big", pair.b / "big", shallow=False),
    )


def _insert(pair: Pair, stage: Path, scale: Scale) -> dict[str, Any]:
    with (stage / "big").open("rb") as old, (stage / "in").open("wb") as new:
        new.write(old.read(1000) + b"14 bytes here!")
        shutil.copyfileobj(old, new, 1 << 20)
    os.sync()
    return _timed(
        pair,
        "insert 14 bytes",
        lambda: os.rename(stage / "in", pair.a / "big"),
        lambda: _size(pair.b / "big") == scale.big_bytes + 14,
        lambda: filecmp.cmp(pair.a / "big", pair.b / "big", shallow=False),
    )


def make_small(root: Path, count: int) -> None:
    """Make files of 0.1-8 KB, 500 to a folder."""
    source = random.Random(7)
    folders = max(1, count // 500)
    for number in range(folders):
        (root / f"d{number}").mkdir(parents=True)
    for number in range(count):
        (root / f"d{number % folders}" / f"f{number}").write_bytes(source.randbytes(source.randint(100, 8000)))


def _small(pair: Pair, stage: Path, files: int) -> dict[str, Any]:
    make_small(stage / "many", files)
    os.sync()
    row = _timed(
        pair,
        f"{files:,} small files",
        lambda: os.rename(stage / "many", pair.a / "many"),
        lambda: _count(pair.b / "many") == files,
        lambda: not _differing(pair.a / "many", pair.b / "many"),
        often=0.01 if files <= 10_000 else 0.5,
    )
    return {**row, "files_per_s": round(files / row["seconds"])}


def _rename(pair: Pair, scale: Scale) -> dict[str, Any]:
    return _timed(
        pair,
        "rename a folder",
        lambda: os.rename(pair.a / "many", pair.a / "lots"),
        lambda: _count(pair.b / "lots") == scale.small_files and not (pair.b / "many").exists(),
        lambda: not _differing(pair.a / "lots", pair.b / "lots"),
    )


def _latency(pair: Pair, edits: int, *, kicked: bool) -> dict[str, Any]:
    seconds = []
    for number in range(edits):
        text = f"edit {number} {kicked}\n" * 10
        (pair.a / "note.txt").write_text(text)
        start = time.perf_counter()
        if kicked:
            pair.kick()
        wait_until(lambda text=text: _text(pair.b / "note.txt") == text, LIMIT, "an edit")  # type: ignore[misc]
        seconds.append(time.perf_counter() - start)
        time.sleep(0.2)
    what = "edit seen, scan kicked" if kicked else "edit seen, by watcher"
    ranked = sorted(seconds)
    return {
        "workload": what,
        "seconds": round(statistics.median(seconds), 3),
        "p99": round(ranked[math.ceil(0.99 * len(ranked)) - 1], 3),
        "worst": round(ranked[-1], 3),
    }


def _delete(pair: Pair) -> dict[str, Any]:
    return _timed(
        pair,
        "delete the folder",
        lambda: shutil.rmtree(pair.a / "lots"),
        lambda: not (pair.b / "lots").exists(),
        lambda: True,
    )


def _idle(pair: Pair, scale: Scale, what: str) -> dict[str, Any]:
    time.sleep(5)
    before = _cpu(pair)
    time.sleep(scale.idle_seconds)
    spent = sum(after - start for after, start in zip(_cpu(pair), before, strict=True))
    rss = [round(daemon.rss_mib()) for daemon in pair.daemons]
    what = f"{what}, {scale.idle_seconds:g} s"
    return {"workload": what, "cpu": round(spent, 2), "rss_mib": sum(rss), "rss_by_side": rss}


def _timed(
    pair: Pair,
    what: str,
    act: Callable[[], None],
    done: Callable[[], bool],
    right: Callable[[], bool],
    often: float = 0.01,
) -> dict[str, Any]:
    cpu, received = _cpu(pair), pair.received_bytes()
    start = time.perf_counter()
    act()
    pair.kick()
    wait_until(done, LIMIT, what, often)
    seconds = time.perf_counter() - start
    spent = [round(after - before, 2) for after, before in zip(_cpu(pair), cpu, strict=True)]
    if not right():
        raise AssertionError(f"{pair.name}: {what}: the folders differ")
    time.sleep(1)
    return {
        "workload": what,
        "seconds": round(seconds, 2),
        "cpu": round(sum(spent), 2),
        "cpu_by_side": spent,
        "received_mib": round((pair.received_bytes() - received) / (1 << 20), 2),
        "rss_mib": round(sum(daemon.rss_mib() for daemon in pair.daemons)),
    }


def _cpu(pair: Pair) -> list[float]:
    return [daemon.cpu_seconds() for daemon in pair.daemons]


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


def _count(path: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(path))


def _differing(one: Path, other: Path) -> list[str]:
    found = []
    for folder, _, names in os.walk(one):
        relative = os.path.relpath(folder, one)
        _, mismatch, errors = filecmp.cmpfiles(folder, other / relative, names, shallow=False)
        found += mismatch + errors
    return found
