"""`python -m bench scale --files N ...`: what a folder of N small files costs, phase by phase, one JSON row a size.

scan      `folder add` of N files until the folder is idle
rescan    the whole folder looked at again, nothing changed
restart   the daemon started again: until its API answers, until a file written then is noted, until it is idle
note      one new file: until it is in the document, median of several; CPU for it, when nobody asks
join      a second device with the same files joins: until both are settled
change    one file's edit, median of several: until the other device has it; CPU of both daemons for it
idle      10 seconds with nothing to do
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.processes import wait_until
from bench.shoal_node import LIMIT, ShoalNode, make_files

EDITS = 10
REST = 3.0  # seconds
QUIET_MOST = 900.0  # seconds
IDLE = 10.0


def run(base: Path, sizes: Sequence[int], *, alone: bool) -> None:
    """Measure each size; `alone`: without the second device."""
    for files in sizes:
        place = base / str(files)
        place.mkdir(parents=True)
        print(json.dumps(_measure(place, files, alone=alone)), flush=True)
        shutil.rmtree(place)


def _measure(base: Path, files: int, *, alone: bool) -> dict[str, Any]:
    a, b = ShoalNode(base, "a", base / "a"), ShoalNode(base, "b", base / "b")
    make_files(a.folder, files)
    os.sync()
    row: dict[str, Any] = {"files": files}
    try:
        a.start()
        row |= _scan(a, files) | _rescan(a, files) | _restart(a) | _note(a)
        if not alone:
            row |= _join(a, b) | _change(a, b)
        row |= _idle(a)
    finally:
        for node in (a, b):
            if hasattr(node, "daemon"):
                node.stop()
    return row


def _scan(a: ShoalNode, files: int) -> dict[str, Any]:
    with a.measured() as cost:
        a.add()
        while (state := a.state())["status"] != "idle" or state["items"] < files:
            time.sleep(0.1)
    return {"scan_files_per_s": round(files / cost.seconds), **cost.row("scan")}


def _rescan(a: ShoalNode, files: int) -> dict[str, Any]:
    with a.measured() as cost:
        a.ask("POST", "scan")
    return {"rescan_files_per_s": round(files / cost.seconds), **cost.row("rescan")}


def _restart(a: ShoalNode) -> dict[str, Any]:
    items = a.state()["items"]
    a.stop()
    with a.measured(new=True) as answers:
        a.start()
    with a.measured(new=True) as noted:
        (a.folder / "written-after-start.txt").write_text("new\n")
        wait_until(lambda: a.state()["items"] > items, LIMIT, "the new file")
    with a.measured(new=True) as idle:
        a.wait_settled()
    noted.seconds += answers.seconds
    idle.seconds += noted.seconds
    ready = {f"restart_{what}_s": round(cost.seconds, 2) for what, cost in (("answers", answers), ("notes", noted))}
    return ready | idle.row("restart_idle")


def _note(a: ShoalNode) -> dict[str, Any]:
    folder = a.folder / "d0" / "d0"
    _wait_quiet(a)
    with a.measured() as cost:
        for number in range(EDITS):
            (folder / f"noted-{number}.txt").write_text(f"new {number}\n")
            time.sleep(0.5)
    seconds = []
    for number in range(EDITS):
        items = a.state()["items"]
        start = time.perf_counter()
        (folder / f"noted-too-{number}.txt").write_text(f"new, too {number}\n")
        wait_until(lambda items=items: a.state()["items"] > items, LIMIT, "a new file")  # type: ignore[misc]
        seconds.append(time.perf_counter() - start)
    return {"note_s": round(statistics.median(seconds), 3), "note_cpu_ms": round(1000 * cost.cpu / EDITS, 1)}


def _join(a: ShoalNode, b: ShoalNode) -> dict[str, Any]:
    shutil.copytree(a.folder, b.folder, ignore=shutil.ignore_patterns(".shoal"))
    os.sync()
    b.start()
    with a.measured() as ours, b.measured() as theirs:
        a.pair(b)
        b.join()
        while not (b.is_settled() and a.is_settled() and a.state()["items"] == b.state()["items"]):
            time.sleep(0.1)
    return {**theirs.row("join"), "join_other_cpu_s": round(ours.cpu, 2), "join_other_rss_mib": round(ours.rss)}


def _change(a: ShoalNode, b: ShoalNode) -> dict[str, Any]:
    path = next(path for path in sorted((a.folder / "d0" / "d0").iterdir()))
    other = b.folder / path.relative_to(a.folder)
    seconds = []
    quiet = _wait_quiet(a, b)
    with a.measured() as ours, b.measured() as theirs:
        for number in range(EDITS):
            text = f"edit {number}\n"
            start = time.perf_counter()
            path.write_text(text)
            wait_until(lambda text=text: other.read_text() == text, 60, "an edit")  # type: ignore[misc]
            seconds.append(time.perf_counter() - start)
            time.sleep(0.5)
    return {
        "change_s": round(statistics.median(seconds), 3),
        "change_worst_s": round(max(seconds), 3),
        "change_cpu_ms": round(1000 * (ours.cpu + theirs.cpu) / EDITS, 1),
        "change_alone": quiet,
        "change_rss_mib": round(max(ours.rss, theirs.rss)),
    }


def _wait_quiet(*nodes: ShoalNode) -> bool:
    """Wait until nothing else costs the nodes anything: the store is read through after a start, at a tenth of a core.
    Return whether it came to that."""
    end = time.monotonic() + QUIET_MOST
    while time.monotonic() < end:
        before = [node.daemon.cpu_seconds() for node in nodes]
        time.sleep(REST)
        if sum(node.daemon.cpu_seconds() for node in nodes) - sum(before) < 0.02 * REST:
            return True
    return False


def _idle(a: ShoalNode) -> dict[str, Any]:
    time.sleep(3)
    with a.measured() as cost:
        time.sleep(IDLE)
    return {"idle_cpu_s": round(cost.cpu, 2), "idle_rss_mib": round(cost.rss)}
