"""Two Shoal nodes that keep a folder the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.processes import Daemon, free_port, wait_until


class ShoalPair:
    """Folders `a` and `b` under `base`, kept by a node each."""

    name = "shoal"

    def __init__(self, base: Path) -> None:
        self.a, self.b = base / "a", base / "b"
        self._homes = [base / "home-a", base / "home-b"]
        self.a.mkdir(parents=True)
        self.daemons = []
        for home in self._homes:
            listen, api = f"/ip4/127.0.0.1/tcp/{free_port()}", f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "shoal.node.main", "--home", str(home), "--no-mdns"]
            self.daemons.append(
                Daemon([*command, "--listen", listen, "--api", api, "--name", home.name], base / f"{home.name}.log")
            )
        for home in self._homes:
            wait_until((home / "api.address").exists, 60, "the node's start")
        wait_until(lambda: self._try(0, "status"), 60, "the first answer")
        wait_until(lambda: self._try(1, "status"), 60, "the first answer")
        offer = self._shoal(0, "pair")
        self._shoal(1, "pair", offer["code"], "--address", offer["addresses"][0])
        self._shoal(0, "folder", "add", str(self.a), "--name", "bench")
        wait_until(lambda: self._try(1, "folder", "join", "bench", str(self.b)), 30, "the folder's offer")
        self._shoal(1, "status", "--wait")

    def kick(self) -> None:
        """Nothing: its watcher is what is measured."""

    def received_bytes(self) -> int:
        """Return the chunk bytes that b has received."""
        received: int = self._shoal(1, "status")["traffic"]["received"]
        return received

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
