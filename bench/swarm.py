"""`python -m bench swarm`: one source and several devices that all lack a file, each on a link of its own.

Network namespaces, one a device, on one bridge; `tc tbf` both ways on each link. Needs root, `ip` and `tc`. A row for
one device that lacks the file, and one for several: seconds until all have it, and the bytes that left the source.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.processes import Daemon, wait_until
from bench.workloads import make_small, write_random

NETWORK = "10.77.0"
LIMIT = 600.0


def run(base: Path, devices: int, mbit: float, mib: int, files: int) -> None:
    """Print the rows. `files`: small files instead of one of `mib` MiB, 0 for that."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        print("network namespaces need root, ip and tc", file=sys.stderr)
        return
    alone: float | None = None
    for count in (1, devices):
        place = base / str(count)
        place.mkdir(parents=True)
        row = _measure(place, count, mbit, mib, files)
        alone = alone or row["seconds"]
        print(json.dumps({**row, "of one device's time": round(row["seconds"] / alone, 2)}), flush=True)


def _measure(base: Path, count: int, mbit: float, mib: int, files: int) -> dict[str, Any]:
    with _links(count + 1, mbit) as names:
        nodes = [_Node(base, name, number) for number, name in enumerate(names)]
        try:
            return _fetch(base, nodes, count, mib, files)
        finally:
            for node in nodes:
                node.stop()


def _fetch(base: Path, nodes: list[_Node], count: int, mib: int, files: int) -> dict[str, Any]:
    source, takers = nodes[0], nodes[1:]
    for node in nodes:
        node.start()
    for taker in takers:
        offer = source.shoal("pair")
        taker.shoal("pair", offer["code"], "--address", next(a for a in offer["addresses"] if NETWORK in a))
    source.folder.mkdir()
    source.shoal("folder", "add", str(source.folder), "--name", "bench")
    for taker in takers:
        taker.shoal("folder", "join", "bench", str(taker.folder))
    for node in nodes:
        node.shoal("status", "--wait")
    wait_until(lambda: all(len(node.connected()) == count for node in nodes), 60, "all connections")
    stage = base / "stage"
    if files:
        make_small(stage, files)
    else:
        stage.mkdir()
        write_random(stage / "large", mib << 20)
    size = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file())
    wanted = sum(path.is_file() for path in stage.rglob("*"))
    before, start = source.left_link(), time.perf_counter()
    stage.rename(source.folder / "new")

    def done(taker: _Node) -> bool:
        found = [path for path in (taker.folder / "new").rglob("*") if path.is_file()]
        return len(found) == wanted

    wait_until(lambda: all(map(done, takers)), LIMIT, "the files everywhere", 0.05)
    seconds = time.perf_counter() - start
    for taker in takers:
        subprocess.run(["diff", "-r", str(source.folder / "new"), str(taker.folder / "new")], check=True)
    sent = source.left_link() - before
    return {
        "workload": f"{files} small files" if files else f"{mib} MiB",
        "devices": count,
        "seconds": round(seconds, 2),
        "mbit_per_s": round(8 * size / seconds / 1e6, 1),
        "source sent, of the size": round(sent / size, 2),
        "cpu": round(sum(node.daemon.cpu_seconds() for node in nodes), 1),
    }


class _Node:
    def __init__(self, base: Path, namespace: str, number: int) -> None:
        self.folder = base / f"folder-{number}"
        self._home = base / f"home-{number}"
        self._log = base / f"{number}.log"
        self._namespace = namespace
        self._host = f"{NETWORK}.{number + 1}"
        self.daemon: Daemon

    def start(self) -> None:
        listen = f"/ip4/{self._host}/tcp/4001"
        command = [*self._inside(), "-m", "shoal.node.main", "--home", str(self._home), "--no-mdns", "--eager"]
        self.daemon = Daemon([*command, "--listen", listen, "--name", self._namespace], self._log)
        wait_until(self._answers, 60, "the node's start", 0.1)

    def stop(self) -> None:
        if hasattr(self, "daemon"):
            self.daemon.stop()

    def shoal(self, *arguments: str) -> Any:
        command = [*self._inside(), "-m", "shoal.node.cli.main", "--home", str(self._home), *arguments, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT).stdout)

    def connected(self) -> list[str]:
        return [device["name"] for device in self.shoal("status")["devices"] if device["connected"]]

    def left_link(self) -> int:
        """Return the bytes that left the device's link."""
        counter = ["cat", "/sys/class/net/wire/statistics/tx_bytes"]
        found = subprocess.run(["ip", "netns", "exec", self._namespace, *counter], capture_output=True, check=True)
        return int(found.stdout)

    def _inside(self) -> list[str]:
        return ["ip", "netns", "exec", self._namespace, sys.executable]

    def _answers(self) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.shoal("status")
            return True
        return False


@contextlib.contextmanager
def _links(count: int, mbit: float) -> Iterator[list[str]]:
    """Make namespaces with a link each to one bridge in another."""
    tag = f"shoal{os.getpid()}"
    hub, names = f"{tag}-hub", [f"{tag}-{number}" for number in range(count)]
    try:
        for name in (hub, *names):
            _do("ip", "netns", "add", name)
            _do("ip", "-n", name, "link", "set", "lo", "up")
        _do("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        _do("ip", "-n", hub, "link", "set", "bridge", "up")
        for number, name in enumerate(names):
            port = f"port{number}"
            _do("ip", "link", "add", "name", "wire", "netns", name, "type", "veth", "peer", "name", port, "netns", hub)
            _do("ip", "-n", hub, "link", "set", port, "master", "bridge", "up")
            _do("ip", "-n", name, "address", "add", f"{NETWORK}.{number + 1}/24", "dev", "wire")
            _do("ip", "-n", name, "link", "set", "wire", "up")
            for where, device in ((name, "wire"), (hub, port)):
                _do(
                    *("tc", "-n", where, "qdisc", "add", "dev", device, "root", "tbf"),
                    *("rate", f"{mbit}mbit", "burst", "64k", "latency", "50ms"),
                )
        yield names
    finally:
        for name in (hub, *names):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
