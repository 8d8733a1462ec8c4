"""One Shoal node under measurement, asked through its API: a CLI call would cost more than what is measured."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import Daemon, free_port, wait_until

FOLDER = "bench"
LIMIT = 3600.0


@dataclass
class Cost:
    """What a phase took: seconds on the clock, CPU seconds, and the most memory at any moment of it, in MiB."""

    seconds: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0

    def row(self, name: str) -> dict[str, float]:
        """Return the figures under names that begin with `name`."""
        return {
            f"{name}_s": round(self.seconds, 3),
            f"{name}_cpu_s": round(self.cpu, 2),
            f"{name}_rss_mib": round(self.rss),
        }


class ShoalNode:
    """A node with a home and a folder of its own under `base`."""

    def __init__(self, base: Path, name: str, folder: Path, *arguments: str) -> None:
        """`arguments`: more that the daemon is started with."""
        self.folder = folder
        self._arguments = arguments
        self._name = name
        self._home = base / f"home-{name}"
        self._log = base / f"{name}.log"
        self._listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
        self._api = f"127.0.0.1:{free_port()}"
        self.daemon: Daemon

    def start(self) -> None:
        """Start it, and wait for its API's first answer."""
        (self._home / "api.address").unlink(missing_ok=True)
        command = [sys.executable, "-m", "shoal.node.main", "--home", str(self._home), "--no-mdns", "--name"]
        self.daemon = Daemon(
            [*command, self._name, "--listen", self._listen, "--api", self._api, *self._arguments], self._log
        )
        wait_until(self._answers, 120, "the node's first answer")

    def stop(self) -> None:
        """Stop it as the service manager would."""
        self.daemon.stop()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the API answers."""
        request = urllib.request.Request(
            f"http://{self._api}/api/{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={
                "Authorization": f"Bearer {(self._home / 'api.token').read_text()}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return json.loads(answer.read())

    def pair(self, other: ShoalNode) -> None:
        """Have `other` join this node's account."""
        offer = self.ask("POST", "pair/offer")
        other.ask("POST", "pair/join", {"code": offer["code"], "addresses": offer["addresses"][:1]})

    def add(self) -> None:
        """Make a folder of the account out of the directory."""
        self.ask("POST", "folders", {"path": str(self.folder), "name": FOLDER, "create": True})

    def join(self) -> None:
        """Keep the account's folder here."""
        self.ask("POST", "folders/join", {"path": str(self.folder), "name": FOLDER})

    def state(self) -> dict[str, Any]:
        """Return what the folder does."""
        (state,) = self.ask("GET", "status")["folders"]
        found: dict[str, Any] = state
        return found

    def is_settled(self) -> bool:
        """Return whether the folder is as all that are connected have it."""
        status = self.ask("GET", "status")
        return bool(status["in_sync"]) and all(folder["status"] == "idle" for folder in status["folders"])

    def received(self) -> int:
        """Return the chunk bytes that came from others."""
        total: int = self.ask("GET", "status")["traffic"]["received"]
        return total

    def wait_settled(self) -> None:
        """Wait until it is settled."""
        while not self.is_settled():
            time.sleep(0.1)

    @contextlib.contextmanager
    def measured(self, *, new: bool = False) -> Iterator[Cost]:
        """Measure what the block costs this node. `new`: the node is started in the block."""
        cost, ended = Cost(), threading.Event()
        cpu = 0.0 if new else self.daemon.cpu_seconds()

        def watch() -> None:
            while not ended.wait(0.2):
                with contextlib.suppress(AttributeError, OSError):
                    cost.rss = max(cost.rss, self.daemon.rss_mib())

        watcher = threading.Thread(target=watch)
        start = time.perf_counter()
        watcher.start()
        try:
            yield cost
        finally:
            cost.seconds = time.perf_counter() - start
            ended.set()
            watcher.join()
        cost.rss = max(cost.rss, self.daemon.rss_mib())
        cost.cpu = self.daemon.cpu_seconds() - cpu

    def _answers(self) -> bool:
        try:
            self.ask("GET", "status")
        except (OSError, urllib.error.URLError):
            return False
        return True


def make_files(root: Path, count: int) -> None:
    """Make small files, no two the same, 100 to a folder and 100 such folders to a folder."""
    for number in range(count):
        if number % 100 == 0:
            folder = root / f"d{number // 10_000}" / f"d{number // 100 % 100}"
            folder.mkdir(parents=True)
        (folder / f"file-{number}.txt").write_bytes(b"this is file number %d\n" % number)
