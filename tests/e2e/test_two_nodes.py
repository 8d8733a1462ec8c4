"""Two real daemons on loopback, driven by the CLI as a person would."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import listing

pytestmark = pytest.mark.e2e
SHOAL = [sys.executable, "-m", "shoal.node.cli.main"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Node:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
        self.api = f"127.0.0.1:{free_port()}"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*SHOAL, "--home", str(self.home), *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=120)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def up(self, *more: str) -> None:
        self.run("up", "--listen", self.listen, "--api", self.api, "--no-mdns", "--name", self.home.name, *more)

    def kill(self) -> None:
        pid = int((self.home / "lock").read_text())
        os.kill(pid, 9)

    def down(self) -> None:
        self.run("down", check=False)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    try:
        one.up()
        other.up()
        yield one, other
    finally:
        one.down()
        other.down()


def pair(one: Node, other: Node) -> None:
    offer = one.json("pair")
    other.run("pair", offer["code"], "--address", offer["addresses"][0])


def test_a_folder_becomes_the_same_on_a_paired_device_and_stays_so(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(Path(sysconfig.get_path("stdlib")) / "json", source, symlinks=True)
    (source / "link").symlink_to("decoder.py")
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target))
    other.run("status", "--wait", "--timeout", "60")
    assert listing(source) == listing(target)
    (source / "decoder.py").rename(source / "renamed.py")
    (target / "new.txt").write_text("from the other side")
    for node in nodes:
        node.run("scan")
    for node in nodes:
        node.run("status", "--wait", "--timeout", "60")
    assert listing(source) == listing(target)


def test_a_wrong_code_is_refused_and_spends_the_offer(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    offer = one.json("pair")
    plate = offer["code"][:3]
    wrong = other.run("pair", f"{plate}-00000-00000", "--address", offer["addresses"][0], check=False)
    assert wrong.returncode == 1
    assert "wrong" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    spent = other.run("pair", offer["code"], "--address", offer["addresses"][0], check=False)
    assert spent.returncode == 1
    assert other.json("peers") == []


def test_killed_nodes_go_on_where_they_were(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for number in range(300):
        (source / f"f{number}").write_text(str(number) * 50)
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target))
    for node in (other, one):
        node.kill()
        node.up()
    other.run("status", "--wait", "--timeout", "60")
    assert listing(source) == listing(target)
    assert not list((target / ".shoal" / "tmp").glob("*"))
