"""Two devices on a network of their own (namespaces, a pair of virtual cables): found by mDNS, and found again."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import listing
from nodes import Node, free_port

pytestmark = pytest.mark.e2e


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Machine(Node):
    """A node in a network namespace, with its own address on the cable."""

    def __init__(self, home: Path, namespace: str) -> None:
        super().__init__(home)
        self.namespace = namespace
        self.prefix = ["ip", "netns", "exec", namespace]
        self.port = free_port()

    def up(self, *more: str) -> None:
        self.run("up", "--listen", f"/ip4/0.0.0.0/tcp/{self.port}", "--api", self.api, "--name", self.home.name, *more)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    tag = f"{os.getpid()}"
    names = f"shoal-a-{tag}", f"shoal-b-{tag}"
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
            for number, name in enumerate(names, 1):
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "cable")
                ip("-n", name, "link", "set", "cable", "up", "multicast", "on")
                ip("-n", name, "route", "add", "default", "dev", "cable")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        pair = Machine(tmp_path / "one", names[0]), Machine(tmp_path / "other", names[1])
        yield pair
        for machine in pair:
            machine.down()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def test_devices_pair_by_the_code_alone_and_find_each_other_at_a_new_address(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    one, other = machines
    one.up()
    other.up()
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "first").write_text("1")
    one.run("folder", "add", str(source), "--name", "F")
    other.run("pair", one.json("pair")["code"])
    other.run("folder", "join", "F", str(target))
    other.run("status", "--wait", "--timeout", "30")
    assert listing(source) == listing(target)

    ip("-n", one.namespace, "address", "flush", "dev", "cable")
    ip("-n", one.namespace, "address", "add", "10.77.0.99/24", "dev", "cable")
    ip("-n", one.namespace, "route", "add", "default", "dev", "cable")
    one.down()
    one.up()
    (source / "second").write_text("2")
    deadline = time.monotonic() + 30
    while not (target / "second").exists():
        assert time.monotonic() < deadline, other.json("peers")
        time.sleep(0.1)
