"""Shoal nodes that keep a folder the same."""

from __future__ import annotations

import json
import string
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench.processes import Daemon, free_port, wait_until


class ShoalDevices:
    """Folders `a`, `b` and so on under `base`, kept by a node each."""

    name = "shoal"

    def __init__(self, base: Path, count: int = 2) -> None:
        names = string.ascii_lowercase[:count]
        self.folders = [base / name for name in names]
        self.daemons: list[Daemon] = []
        self._homes = [base / f"home-{name}" for name in names]

    def start(self) -> None:
        """Start them, pair them, and have the folder on all."""
        self.folders[0].mkdir(parents=True)
        for home in self._homes:
            listen, api = f"/ip4/127.0.0.1/tcp/{free_port()}", f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "shoal.node.main", "--home", str(home), "--no-mdns"]
            command += ["--listen", listen, "--api", api, "--name", home.name]
            self.daemons.append(Daemon(command, home.with_suffix(".log")))
        for which, home in enumerate(self._homes):
            wait_until((home / "api.address").exists, 60, "the node's start")
            wait_until(partial(self._try, which, "status"), 60, "the first answer")
        self._shoal(0, "folder", "add", str(self.folders[0]), "--name", "bench")
        for which in range(1, len(self.folders)):
            offer = self._shoal(0, "pair")
            self._shoal(which, "pair", offer["code"], "--address", offer["addresses"][0])
            join = partial(self._try, which, "folder", "join", "bench", str(self.folders[which]))
            wait_until(join, 30, "the folder's offer")
        for which in range(1, len(self.folders)):
            self._shoal(which, "status", "--wait")
            wait_until(lambda: self._connections(which) == len(self.folders) - 1, 60, "the others")  # noqa: B023

    def kick(self) -> None:
        """Nothing: its watcher is what is measured."""

    def received_bytes(self) -> int:
        """Return the chunk bytes that the second has received."""
        received: int = self._shoal(1, "status")["traffic"]["received"]
        return received

    def sent_bytes(self) -> int:
        """Return the chunk bytes that the first has sent."""
        sent: int = self._shoal(0, "status")["traffic"]["sent"]
        return sent

    def _connections(self, which: int) -> int:
        return sum(device["connected"] for device in self._shoal(which, "status")["devices"])

    def _shoal(self, which: int, *arguments: str) -> Any:
        command = [sys.executable, "-m", "shoal.node.cli.main", "--home", str(self._homes[which]), *arguments]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=120)
        return json.loads(done.stdout)

    def _try(self, which: int, *arguments: str) -> bool:
        try:
            self._shoal(which, *arguments)
        except subprocess.CalledProcessError:
            return False
        return True
