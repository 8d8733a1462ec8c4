"""Real trees, compared by tools that are not Shoal's: find, sha256sum, git."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from engines import listing
from nodes import Node, pair, wait_in_sync

pytestmark = pytest.mark.e2e


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def repository(folder: Path) -> None:
    """Make a git repository with some history, a branch, a tag and packed objects."""
    folder.mkdir()
    git(folder, "init", "-q")
    for number in range(20):
        (folder / f"file{number % 7}").write_text(f"{number}\n" * 200)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", f"change {number}")
        if number == 10:
            git(folder, "gc", "-q")
    git(folder, "branch", "other", "HEAD~3")
    git(folder, "tag", "-am", "one", "v1")
    (folder / "file0").write_text("not committed")


def test_real_trees_arrive_byte_for_byte(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    shutil.copytree(
        sysconfig.get_path("stdlib"), source / "stdlib", symlinks=True, ignore=shutil.ignore_patterns("site-*")
    )
    if os.path.isdir("/usr/share/doc"):
        shutil.copytree("/usr/share/doc", source / "doc", symlinks=True)
    repository(source / "repository")
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "Real")
    other.run("folder", "join", "Real", str(target))
    wait_in_sync(one, other, timeout=300)
    assert listing(source) == listing(target)
    assert git(target / "repository", "fsck", "--full") == ""
    assert git(target / "repository", "log", "--all", "--oneline") == git(
        source / "repository", "log", "--all", "--oneline"
    )
    assert git(target / "repository", "status", "--short") == " M file0\n"


def test_a_folder_renamed_there_is_renamed_here_and_no_chunk_moves(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "many").mkdir(parents=True)
    for number in range(1000):
        (source / "many" / f"f{number}").write_text(f"{number}" * 20)
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target))
    wait_in_sync(one, other)
    received = other.json("status")["traffic"]["received"]
    inode = (target / "many" / "f7").stat().st_ino
    (source / "many").rename(source / "lots")
    wait_in_sync(one, other)
    assert listing(source) == listing(target)
    assert (target / "lots" / "f7").stat().st_ino == inode
    assert other.json("status")["traffic"]["received"] == received


def test_a_few_bytes_inserted_in_a_big_file_cost_a_few_chunks(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    data = os.urandom(40_000_000)
    (source / "big").write_bytes(data)
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target))
    wait_in_sync(one, other)
    received = other.json("status")["traffic"]["received"]
    (source / "big").write_bytes(data[:1000] + b"14 bytes here!" + data[1000:])
    wait_in_sync(one, other)
    assert listing(source) == listing(target)
    assert other.json("status")["traffic"]["received"] - received < 5 * 1024 * 1024


def test_what_came_before_a_break_is_not_fetched_again(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(120_000_000))
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target))
    while (before := other.json("status")["traffic"]["received"]) < 20_000_000:
        pass
    other.kill()
    there = sum(path.stat().st_blocks * 512 for path in (target / ".shoal" / "tmp").iterdir())
    other.up()
    wait_in_sync(one, other)
    assert listing(source) == listing(target)
    again = other.json("status")["traffic"]["received"]  # counted from the start after the kill
    assert again <= 120_000_000 - min(before, there) + 8 * 1024 * 1024
