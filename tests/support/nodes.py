"""Real daemons on loopback, driven by the CLI as a person would."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

SHOAL = [sys.executable, "-m", "shoal.node.cli.main"]


# Below those that the kernel gives to outgoing connections; other workers of this run have slices of their own.
PORTS, SLICE = 12_000, 1_000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
_given = random.sample(range(SLICE), SLICE)  # in this order, again and again: no two nodes of a test get one port


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    while True:
        port = PORTS + _worker * SLICE + _given[0]
        _given.append(_given.pop(0))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Node:
    """A node with a home of its own; its name is the home's."""

    def __init__(self, home: Path, person: Path | None = None) -> None:
        """`person`: what the node takes for the home folder of whoever runs it."""
        self.home = home
        self.prefix: list[str] = []  # of every command
        self.bulk: list[str] = []  # what `up` is told of bulk channels
        self.environment = {**os.environ, "HOME": str(person)} if person is not None else None
        self.listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
        self.api = f"127.0.0.1:{free_port()}"

    def run(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the CLI against this node. With `check`, a failure shows what it and the daemon said."""
        command = [*self.prefix, *SHOAL, "--home", str(self.home), *arguments]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=timeout, env=self.environment
        )
        if check and done.returncode:
            log = self.home / "daemon.log"
            said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
            raise AssertionError(f"{arguments} ended with {done.returncode}: {done.stderr}\n{said}")
        return done

    def json(self, *arguments: str) -> Any:
        """Return what a command says with --json."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def error(self, *arguments: str, code: int = 1) -> str:
        """Run what must fail with exit status `code`; return its one line."""
        done = self.run(*arguments, check=False)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")
        return lines[0]

    def up(self, *more: str) -> None:
        """Start the daemon and wait until it answers."""
        self.run(
            "up", "--listen", self.listen, "--api", self.api, "--no-mdns", "--name", self.home.name, *self.bulk, *more
        )

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return int((self.home / "lock").read_text())

    def kill(self) -> None:
        """End the daemon without a word, and wait until it is gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.01)

    def down(self) -> None:
        """Stop the daemon, if it runs."""
        self.run("down", check=False)


class Seed(Node):
    """A node that is a seed."""

    options: tuple[str, ...] = ("--open",)

    def up(self, *more: str) -> None:
        self.run(
            "seed", "up", "--listen", self.listen, "--api", self.api, "--name", self.home.name, *self.options, *more
        )

    @property
    def card(self) -> str:
        """What accounts add it by."""
        return str(self.json("seed", "card")["card"])


def until(holds: Any, seconds: float = 30) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def say(node: Node, typed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the CLI, and give it on its standard input what is not to stand in a command."""
    command = [*SHOAL, "--home", str(node.home), *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=120, env=node.environment)


def call_api(node: Node, method: str, path: str, token: str | None, body: object = None) -> tuple[int, Any]:
    """Call a node's API with a token; return the status, and what it said."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = json.dumps(body).encode() if body is not None else None
    try:
        with urlopen(Request(f"http://{node.api}{path}", data, headers, method=method), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


@contextlib.contextmanager
def running(*nodes: Node) -> Iterator[None]:
    """Have the daemons up in the block: started and stopped side by side, as most of that time is waiting."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        try:
            list(pool.map(lambda node: node.up(), nodes))
            yield
        finally:
            list(pool.map(lambda node: node.down(), nodes))


def pair(one: Node, other: Node) -> None:
    """Make the two devices of one account."""
    offer = one.json("pair")
    other.run("pair", offer["code"], "--address", offer["addresses"][0])


def wait_in_sync(*nodes: Node, timeout: int = 120) -> None:
    """Have each look at its folders, then wait until all is the same everywhere."""
    for node in nodes:
        node.run("scan")
    for node in nodes:
        node.run("status", "--wait", "--timeout", str(timeout), timeout=timeout + 30)


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    """Mount a disk of that size at `path`."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: it needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)
