"""The DHT spoken with js-libp2p: each finds what the other announced."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Node

pytestmark = pytest.mark.e2e

INTEROP = Path(__file__).parent.parent / "interop"
INSTALLED = INTEROP / "node_modules" / ".package-lock.json"  # npm writes it last
NODE = INTEROP / "node_modules" / ".bin" / "node"


class JsPeer:
    """A js-libp2p peer in a process of its own."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [NODE, INTEROP / "peer.mjs", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._number = 0
        ready = self._read()
        self.id: str = ready["peer"]
        self.address: str = ready["addresses"][0]

    def ask(self, command: str, **options: str) -> Any:
        """Have it do something; return what it says."""
        self._number += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._number, "command": command, **options}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert answer["id"] == self._number
        assert "error" not in answer, answer["error"]
        return answer

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        with self._process:  # closes its pipes
            pass

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    with (INTEROP / ".lock").open("w") as lock:  # other workers may be at it, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        if INSTALLED.exists():
            return
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"],
            cwd=INTEROP,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def shoal(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "shoal")
    try:
        node.up("--dht", "server")
        yield node
    finally:
        node.down()


@pytest.fixture(params=[(), ("--server",)], ids=["client", "server"])
def js(request: pytest.FixtureRequest) -> Iterator[JsPeer]:
    peer = JsPeer(*request.param)
    yield peer
    peer.stop()


def key(text: str) -> str:
    return "1220" + hashlib.sha256(text.encode()).hexdigest()


def address(node: Node) -> str:
    made: str = node.json("status")["device"]["addresses"][0]
    return made


def until(holds: Any, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def test_it_connects_and_pings(shoal: Node, js: JsPeer) -> None:
    js.ask("connect", address=address(shoal))
    assert js.ask("ping", address=address(shoal))["ms"] < 5000


def test_it_finds_what_shoal_announced(shoal: Node, js: JsPeer, tmp_path: Path) -> None:
    other = Node(tmp_path / "other")
    try:
        other.up("--bootstrap", address(shoal))
        other.run("dht", "announce", key("a pack"))
        until(lambda: shoal.json("dht", "find", key("a pack")))
        js.ask("connect", address=address(shoal))
        until(lambda: js.ask("peers")["table"])
        found = js.ask("find", key=key("a pack"))["providers"]
        assert [each["peer"] for each in found] == [other.json("status")["device"]["id"]]
        assert found[0]["addresses"]
    finally:
        other.down()


def test_shoal_finds_what_it_announced(shoal: Node, js: JsPeer) -> None:
    js.ask("connect", address=address(shoal))
    until(lambda: js.ask("peers")["table"])
    js.ask("provide", key=key("from js"))
    found = until(lambda: shoal.json("dht", "find", key("from js")))
    assert [each["peer"] for each in found] == [js.id]


def test_shoal_announces_to_a_js_peer_that_serves(shoal: Node, tmp_path: Path) -> None:
    js = JsPeer("--server")
    client = Node(tmp_path / "client")
    try:
        client.up("--dht", "client", "--bootstrap", js.address)
        client.run("dht", "announce", key("kept by js"))
        until(lambda: client.json("dht", "status")["told"])
        found = until(lambda: js.ask("find", key=key("kept by js"))["providers"])
        assert [each["peer"] for each in found] == [client.json("status")["device"]["id"]]
    finally:
        client.down()
        js.stop()
