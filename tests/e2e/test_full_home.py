"""The disk that holds Shoal's home is full."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from nodes import Node, pair, running, small_disk, wait_in_sync

pytestmark = pytest.mark.e2e


def fill(directory: Path) -> Path:
    """Leave no free byte on the disk; return what takes them."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_a_node_does_not_start_on_a_full_home_and_says_so_in_a_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8):
        node = Node(tmp_path / "disk" / "home")
        node.home.mkdir()
        fill(tmp_path / "disk")
        error = node.error("up", "--listen", node.listen, "--api", node.api, "--no-mdns", code=5)
        assert "full" in error or "space" in error


def test_a_node_whose_home_gets_full_goes_on_when_there_is_space_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48):
        one, other = Node(tmp_path / "disk" / "one"), Node(tmp_path / "other")
        source, target = tmp_path / "source", tmp_path / "target"
        source.mkdir()
        with running(one, other):
            pair(one, other)
            one.run("folder", "add", str(source), "--name", "things")
            other.run("folder", "join", "things", str(target))
            wait_in_sync(one, other)
            ballast = fill(tmp_path / "disk")
            for number in range(50):
                (source / f"f{number}").write_bytes(os.urandom(10_000))
                (target / f"g{number}").write_bytes(os.urandom(10_000))
            time.sleep(3)
            one.run("status")
            ballast.unlink()
            wait_in_sync(one, other, timeout=90)
            assert sorted(p.name for p in source.iterdir()) == sorted(p.name for p in target.iterdir())
            assert len(list(source.iterdir())) == 101
