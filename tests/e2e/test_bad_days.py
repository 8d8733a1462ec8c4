"""Bad days: killed, frozen, restored, damaged and full nodes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from engines import listing
from nodes import Node, pair, small_disk, wait_in_sync

pytestmark = pytest.mark.e2e


def shared(nodes: tuple[Node, Node], source: Path, target: Path) -> None:
    one, other = nodes
    source.mkdir(exist_ok=True)
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target))


def temporaries(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in (folder / ".shoal" / "tmp").glob("*")]


def kill_while_syncing(nodes: tuple[Node, Node], tmp_path: Path, files: int, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    source, target = tmp_path / "source", tmp_path / "target"
    for number in range(files):
        folder = source / f"d{number % 13}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(chance.randbytes(chance.choice((0, 10, 3000, 3000, 9000, 400_000))))
    shared(nodes, source, target)
    for _ in range(kills):
        time.sleep(chance.uniform(0, 1.5))
        node = chance.choice(nodes)
        node.kill()
        node.up()
    wait_in_sync(*nodes, timeout=300)
    assert listing(source) == listing(target)
    assert temporaries(source, target) == []


def test_nodes_killed_while_they_sync_end_identical_and_leave_nothing_behind(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    kill_while_syncing(nodes, tmp_path, files=600, kills=4, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twenty_kills_of_five_thousand_files(nodes: tuple[Node, Node], tmp_path: Path, seed: int) -> None:
    kill_while_syncing(nodes, tmp_path, files=5000, kills=20, seed=seed)


def test_a_device_that_froze_counts_as_gone_within_15_seconds(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    pair(one, other)
    while not one.json("peers")[0]["connected"]:
        time.sleep(0.05)
    frozen = other.pid
    os.kill(frozen, signal.SIGSTOP)
    try:
        start = time.monotonic()
        while one.json("peers")[0]["connected"]:
            assert time.monotonic() - start < 15
            time.sleep(0.2)
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_all_is_not_called_in_sync_when_a_device_was_lost_a_moment_ago(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    pair(one, other)
    one.run("status", "--wait", "--timeout", "30")
    other.kill()
    while (found := one.json("status"))["devices"][0]["connected"]:
        time.sleep(0.05)
    assert not found["in_sync"]  # it may be back in a moment, and have news
    one.run("status", "--wait", "--timeout", "30")  # a device that stays away is not waited for


def test_a_home_put_back_from_an_old_copy_gets_everything_back_and_its_new_work_through(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    shared(nodes, source, target)
    (source / "first").write_text("1")
    wait_in_sync(one, other)
    one.down()
    shutil.copytree(one.home, tmp_path / "copy")
    one.up()
    (source / "second").write_text("2")
    (target / "third").write_text("3")
    wait_in_sync(one, other)
    one.down()
    other.down()
    shutil.rmtree(one.home)
    shutil.copytree(tmp_path / "copy", one.home)
    one.up()
    (source / "fourth").write_text("4")
    one.run("scan")
    other.up()
    wait_in_sync(one, other)
    assert listing(source) == listing(target)
    assert sorted(path.name for path in target.iterdir()) == [".shoal", "first", "fourth", "second", "third"]


def test_a_damaged_store_is_named_and_repaired_without_pairing_again(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    shared(nodes, source, target)
    for number in range(50):
        (source / f"f{number}").write_text(str(number))
    wait_in_sync(one, other)
    one.down()
    logs = sorted((one.home / "store").glob("*.log")) + sorted((one.home / "store").glob("*.sst"))
    biggest = max(logs, key=lambda path: path.stat().st_size)
    data = bytearray(biggest.read_bytes())
    data[len(data) // 3] ^= 0xFF
    biggest.write_bytes(data)
    error = one.error("up", "--listen", one.listen, "--api", one.api, "--no-mdns", code=5)
    assert "damaged" in error
    assert "shoal repair" in error
    one.run("repair")
    one.up()
    (source / "new").write_text("after the repair")
    wait_in_sync(one, other)
    assert listing(source) == listing(target)
    assert (target / "new").exists()
    assert not list(target.glob("*conflict*"))


def test_a_full_disk_is_told_and_what_fits_later_comes(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    with small_disk(target, 6):
        shared(nodes, source, target)
        (source / "small").write_bytes(os.urandom(100_000))
        (tmp_path / "large").write_bytes(os.urandom(20_000_000))
        (tmp_path / "large").rename(source / "large")  # at once: what is there of it meanwhile is a version, and fits
        one.run("scan")
        deadline = time.monotonic() + 30
        while not (problems := other.json("status")["folders"][0]["problems"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert problems[0]["path"] == "large"
        assert "full" in problems[0]["reason"]
        assert not (target / "large").exists()
        (source / "large").unlink()
        (source / "fits").write_bytes(os.urandom(100_000))
        wait_in_sync(one, other)
        assert listing(source) == listing(target)
        assert other.json("status")["folders"][0]["problems"] == []
        other.down()
