"""`python -m bench twins --files N`: the same folder on two devices before they are paired, but for five files.

`joined`: one device has the folder in its account, the other joins with its own directory. `added`: both have added
theirs under one name before, and become one account then. Bytes received, files and copies are counted on both sides.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from bench.shoal_node import ShoalNode, make_files

DIFFERENT = 5


def run(base: Path, files: int) -> None:
    """Measure both ways."""
    for way in ("joined", "added"):
        place = base / way
        place.mkdir(parents=True)
        print(json.dumps(_measure(place, files, way)), flush=True)
        shutil.rmtree(place)


def _measure(base: Path, files: int, way: str) -> dict[str, Any]:
    a, b = ShoalNode(base, "a", base / "a"), ShoalNode(base, "b", base / "b")
    make_files(a.folder, files)
    shutil.copytree(a.folder, b.folder)
    for number, path in enumerate(sorted(b.folder.rglob("*.txt"))[:DIFFERENT]):
        path.write_text(f"another text, number {number}\n")
    os.sync()
    try:
        a.start()
        b.start()
        a.add()
        a.wait_settled()
        if way == "added":
            b.add()
            b.wait_settled()
        with a.measured() as ours, b.measured() as theirs:
            a.pair(b)
            if way == "joined":
                b.join()
            # A conflict copy more for each of the five.
            while not (
                a.is_settled() and b.is_settled() and a.state()["items"] == b.state()["items"] >= files + DIFFERENT
            ):
                time.sleep(0.1)
        received = [a.received(), b.received()]
    finally:
        for node in (a, b):
            if hasattr(node, "daemon"):
                node.stop()
    return {
        "twins": way,
        "files": files,
        "received_bytes": received,
        "files_after": [_count(a.folder), _count(b.folder)],
        "conflict_copies": [sum(1 for _ in folder.rglob("*(conflict *")) for folder in (a.folder, b.folder)],
        "folders_same": _same(a.folder, b.folder),
        **ours.row("a"),
        **theirs.row("b"),
    }


def _count(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*.txt") if ".shoal" not in path.parts)


def _same(one: Path, other: Path) -> bool:
    compared = filecmp.dircmp(one, other, ignore=[".shoal"])
    queue = [compared]
    while queue:
        here = queue.pop()
        wrong = filecmp.cmpfiles(here.left, here.right, here.common_files, shallow=False)[1:]
        if here.left_only or here.right_only or any(wrong):
            return False
        queue += here.subdirs.values()
    return True
