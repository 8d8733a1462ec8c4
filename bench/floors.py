"""`python -m bench floors`: the same files by tools that go one way, encrypt nothing and watch nothing.

rsync   a daemon on the loopback, from folder to folder; it syncs nothing to the disk
cp      `cp -r`, with no network at all, and the same with a `sync` of the file system after it
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.processes import Daemon, free_port, wait_until
from bench.workloads import copy, make_small, write_random


def run(base: Path, big_bytes: int, counts: Sequence[int]) -> None:
    """Print a row for each tool and workload; without rsync, `cp` alone."""
    tools: dict[str, Callable[[Path, Path], None]] = {"cp": _cp, "cp and sync": _cp_and_sync}
    daemon: Daemon | None = None
    if shutil.which("rsync"):
        daemon, address = _rsync_daemon(base)
        tools["rsync"] = lambda source, target: _rsync(source, target, base, address)
    try:
        for name, tool in tools.items():
            place = base / name.replace(" ", "-")
            (place / "a").mkdir(parents=True)
            write_random(place / "a" / "big", big_bytes)
            _row(name, f"{big_bytes >> 20} MiB file", tool, place)
            if name == "rsync":
                copy(place / "a" / "big", place / "old")
                with (place / "old").open("rb") as old, (place / "a" / "big").open("wb") as new:
                    new.write(old.read(1000) + b"14 bytes here!")
                    shutil.copyfileobj(old, new, 1 << 20)
                _row(name, "insert 14 bytes", tool, place)
            for count in counts:
                many = place / f"many-{count}"
                make_small(many / "a" / "many", count)
                _row(name, f"{count:,} small files", tool, many)
    finally:
        if daemon is not None:
            daemon.stop()


def _row(name: str, workload: str, tool: Callable[[Path, Path], None], place: Path) -> None:
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    tool(place / "a", place / "b")
    print(
        json.dumps({"tool": name, "workload": workload, "seconds": round(time.perf_counter() - start, 2)}), flush=True
    )


def _cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", "--reflink=never", f"{source}/.", str(target)], check=True)


def _cp_and_sync(source: Path, target: Path) -> None:
    _cp(source, target)
    subprocess.run(["sync", "-f", str(target)], check=True)


def _rsync_daemon(base: Path) -> tuple[Daemon, str]:
    port = free_port()
    config = base / "rsyncd.conf"
    whose = f"uid = {os.getuid()}\ngid = {os.getgid()}"  # else it reads as nobody
    config.write_text(f"use chroot = no\n{whose}\n[bench]\npath = {base}\nread only = no\n")
    command = ["rsync", "--daemon", "--no-detach", f"--config={config}", f"--port={port}", "--address=127.0.0.1"]
    address = f"rsync://127.0.0.1:{port}/bench"
    daemon = Daemon(command, base / "rsyncd.log")

    def answers() -> bool:
        return subprocess.run(["rsync", f"{address}/"], capture_output=True, check=False).returncode == 0

    wait_until(answers, 10, "rsync's start")
    return daemon, address


def _rsync(source: Path, target: Path, base: Path, address: str) -> None:
    to = f"{address}/{target.relative_to(base)}/"
    target.mkdir(exist_ok=True)
    subprocess.run(["rsync", "-a", f"{source}/", to], check=True)
