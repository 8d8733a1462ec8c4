"""`python -m bench versions --mib SIZE --versions N`: what versions of a big file cost that differ by 1 MiB each.

A file is overwritten in one random MiB, again and again, each time until the other device has it. What that one keeps,
packed, is measured on its disk, then the first version is restored there and compared.
"""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
import time
from pathlib import Path

from bench.shoal_node import ShoalNode

MIB = 1 << 20


def run(base: Path, mib: int, versions: int) -> None:
    """Measure, and print a row."""
    a, b = ShoalNode(base, "a", base / "a"), ShoalNode(base, "b", base / "b")
    for folder in (a.folder, b.folder):
        folder.mkdir()
    file, first, chance = a.folder / "big", base / "first", random.Random(1)
    with file.open("wb") as out:
        for _ in range(mib):
            out.write(os.urandom(MIB))
    shutil.copyfile(file, first)
    try:
        a.start()
        b.start()
        a.add()
        a.pair(b)
        b.join()
        _wait_same(a, b)
        with b.measured() as cost:
            for _ in range(versions):
                with file.open("r+b") as out:
                    out.seek(chance.randrange((mib - 1) * MIB))
                    out.write(os.urandom(MIB))
                _wait_same(a, b)
        kept = _wait_packed(b)
        with b.measured() as back:
            history = b.ask("GET", f"history?limit={versions + 1}&path={b.folder}/big")
            b.ask("POST", "restore", {"path": f"{b.folder}/big", "version": history[-1]["version"]})
            while not filecmp.cmp(b.folder / "big", first, shallow=False):
                time.sleep(0.1)
    finally:
        for node in (a, b):
            if hasattr(node, "daemon"):
                node.stop()
    row = {
        "versions": versions,
        "file_mib": mib,
        "kept_mib": round(kept / MIB, 1),
        "kept_files": round(kept / MIB / mib, 3),
    }
    print(json.dumps({**row, **cost.row("edits"), **back.row("restore")}), flush=True)


def _wait_same(a: ShoalNode, b: ShoalNode) -> None:
    source, target = a.folder / "big", b.folder / "big"
    a.ask("POST", "scan")
    while not target.exists() or source.stat().st_mtime_ns != target.stat().st_mtime_ns:
        time.sleep(0.02)
    a.wait_settled()


def _wait_packed(node: ShoalNode) -> int:
    """Return the bytes that kept versions take, once none is a whole file any more."""
    private = node.folder / ".shoal"
    while any(not path.name.endswith(".packed") for path in (private / "versions").iterdir()):
        time.sleep(0.5)
    return sum(
        path.stat().st_size
        for part in ("versions", "objects")
        for path in (private / part).rglob("*")
        if path.is_file()
    )
