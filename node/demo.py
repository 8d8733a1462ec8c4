"""`make demo`: two nodes on this machine's loopback, paired, a real tree kept the same before your eyes, in 30 seconds.

Everything happens in a temporary directory, through the CLI and the local API, as it would on two machines.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds for any one step


class DemoNode:
    """A node of the demo, with its home and its folder."""

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.home = base / f"{name}-home"
        self.folder = base / name

    def shoal(self, *arguments: str) -> Any:
        """Run a command of the CLI, show it, and return what it says. Raises SystemExit with its error."""
        print(f"  {self.name:>7} $ shoal {' '.join(arguments)}")
        command = [sys.executable, "-m", "shoal.node.cli.main", "--home", str(self.home), *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the demo stopped: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def stop(self) -> None:
        """End the node, if it runs."""
        command = [sys.executable, "-m", "shoal.node.cli.main", "--home", str(self.home), "down"]
        subprocess.run(command, capture_output=True, check=False)


def main() -> None:
    """Show it, then clean up."""
    base = Path(tempfile.mkdtemp(prefix="shoal-demo-"))
    laptop, desktop = DemoNode("laptop", base), DemoNode("desktop", base)
    try:
        _show(laptop, desktop)
    except KeyboardInterrupt:
        print("\nstopped.")
    finally:
        laptop.stop()
        desktop.stop()
        shutil.rmtree(base, ignore_errors=True)


def _show(laptop: DemoNode, desktop: DemoNode) -> None:
    _say("Two nodes on this machine, each with a home, a key and a store of its own")
    for node in (laptop, desktop):
        listen, api = f"/ip4/127.0.0.1/tcp/{_free_port()}", f"127.0.0.1:{_free_port()}"
        node.shoal("up", "--listen", listen, "--api", api, "--no-mdns", "--name", node.name)
    _say("Pair them: a code shown on one is typed on the other")
    offer = laptop.shoal("pair")
    desktop.shoal("pair", offer["code"], "--address", offer["addresses"][0])

    _say("A real folder on the laptop: Python's asyncio, email and json")
    laptop.folder.mkdir()
    for name in ("asyncio", "email", "json"):
        shutil.copytree(Path(sysconfig.get_path("stdlib")) / name, laptop.folder / name)
    laptop.shoal("folder", "add", str(laptop.folder), "--name", "Code")
    start = time.perf_counter()
    desktop.shoal("folder", "join", "Code", str(desktop.folder))
    _wait(lambda: _same(laptop.folder, desktop.folder), start, f"{_count(laptop.folder)} files are on the desktop")

    _say("Edit a file on the desktop")
    start = time.perf_counter()
    (desktop.folder / "hello.txt").write_text("from the desktop\n")
    _wait(lambda: (laptop.folder / "hello.txt").exists(), start, "the laptop has it")

    _say("Rename a folder on the laptop: one change, and no file is sent again")
    received = desktop.shoal("status")["traffic"]["received"]
    start = time.perf_counter()
    (laptop.folder / "email").rename(laptop.folder / "post")
    _wait(lambda: _same(laptop.folder, desktop.folder), start, "the desktop has renamed it, too")
    sent_again = desktop.shoal("status")["traffic"]["received"] - received
    print(f"          {sent_again} bytes of content were sent for it")

    _say("Both edit one file while they cannot see each other: nothing is lost")
    desktop.stop()
    (laptop.folder / "hello.txt").write_text("the laptop's words\n")
    (desktop.folder / "hello.txt").write_text("the desktop's words\n")
    listen, api = f"/ip4/127.0.0.1/tcp/{_free_port()}", f"127.0.0.1:{_free_port()}"
    start = time.perf_counter()
    desktop.shoal("up", "--listen", listen, "--api", api, "--no-mdns")
    _wait(lambda: len(_hellos(laptop)) == len(_hellos(desktop)) == 2, start, "both versions are on both")
    for path in _hellos(laptop):
        print(f"          {path.name}: {path.read_text().strip()}")
    print("\nThat was Shoal. To keep a folder of yours: make run")


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _wait(condition: Callable[[], bool], start: float, what: str) -> None:
    while not condition():
        if time.perf_counter() - start > PATIENCE:
            raise SystemExit(f"the demo stopped: not within {PATIENCE:g} s: {what}")
        time.sleep(0.01)
    print(f"          {what}, {time.perf_counter() - start:.2f} s after it was begun")


def _same(one: Path, other: Path) -> bool:
    def names(root: Path) -> list[str]:
        return sorted(
            os.path.relpath(os.path.join(folder, name), root)
            for folder, folders, files in os.walk(root)
            if not folder.startswith(str(root / ".shoal"))
            for name in [*folders, *files]
            if name != ".shoal"
        )

    files = [name for name in names(one) if (one / name).is_file()]
    return names(one) == names(other) and filecmp.cmpfiles(one, other, files, shallow=False)[1:] == ([], [])


def _count(root: Path) -> int:
    return sum(len(files) for folder, _, files in os.walk(root) if ".shoal" not in folder)


def _hellos(node: DemoNode) -> list[Path]:
    return sorted(node.folder.glob("hello*"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
