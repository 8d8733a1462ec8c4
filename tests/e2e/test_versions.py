"""What was replaced or deleted comes back, through the CLI."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from engines import listing
from nodes import Node, pair, wait_in_sync

pytestmark = pytest.mark.e2e


def now() -> str:
    """Return a moment that lies between what was done and what is done next."""
    time.sleep(0.05)
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%S')}.{time.time_ns() // 1_000_000 % 1000:03}"
    time.sleep(0.05)
    return text


def test_versions_deleted_files_and_whole_folders_come_back_everywhere(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub" / "deep").mkdir(parents=True)
    (source / "f").write_text("first")
    (source / "sub" / "deep" / "in").write_text("inside")
    (source / "big").write_bytes(os.urandom(2_000_000))
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target))
    wait_in_sync(one, other)
    stood, then = listing(source), now()
    (source / "f").write_text("second")
    (source / "big").write_bytes(os.urandom(2_000_000))
    (source / "newer").write_text("newer")
    wait_in_sync(one, other)
    shutil.rmtree(source / "sub")
    wait_in_sync(one, other)

    gone = {event["path"] for event in other.json("history", str(target), "--deleted")}
    assert gone == {"sub", "sub/deep", "sub/deep/in"}
    one.run("undo", str(source))
    wait_in_sync(one, other)
    assert (target / "sub" / "deep" / "in").read_text() == "inside"

    first = one.json("history", str(source / "f"))[-1]["version"]
    one.run("restore", str(source / "f"), "--version", first[:8], "--to", str(tmp_path / "apart"))
    assert (tmp_path / "apart").read_text() == "first"
    assert (source / "f").read_text() == "second"

    one.run("restore", str(source), "--at", then, "--exact")
    wait_in_sync(one, other)
    assert listing(source) == listing(target) == stood


def test_what_cannot_be_restored_is_told_in_a_line(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, _ = nodes
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "f").write_text("first")
    one.run("folder", "add", str(tmp_path / "source"))
    one.run("scan")
    (tmp_path / "source" / "f").write_text("second")
    one.run("scan")
    file = str(tmp_path / "source" / "f")
    first = one.json("history", file)[-1]["version"]
    assert "no device that is connected has the bytes" in one.error("restore", file, "--version", first)
    assert "--version ID or --at TIME" in one.error("restore", file, code=2)
    assert "no time" in one.error("restore", file, "--at", "whenever", code=2)
    assert "in no folder" in one.error("restore", str(tmp_path / "elsewhere"))
    assert "nothing is or was" in one.error("history", str(tmp_path / "source" / "missing"))
    assert "nothing that was deleted" in one.error("undo", str(tmp_path / "source"))
    assert "something at" in one.error("restore", file, "--at", "now", "--to", str(tmp_path))
