"""Limits of speed between real daemons."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from nodes import Node, pair, running

pytestmark = pytest.mark.e2e

MB = 1_000_000


@pytest.mark.parametrize(
    ("way", "bulk"),
    [
        pytest.param("--up", [], id="up, bulk channel"),
        pytest.param("--down", ["--bulk", "off"], id="down, stream"),
        pytest.param("--up", ["--bulk", "off"], id="up, stream", marks=pytest.mark.soak),
        pytest.param("--down", [], id="down, bulk channel", marks=pytest.mark.soak),
    ],
)
def test_a_limit_holds_and_goes_while_a_file_is_on_its_way(tmp_path: Path, bulk: list[str], way: str) -> None:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    one.bulk = other.bulk = bulk
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(60 * MB))
    limited = one if way == "--up" else other
    with running(one, other):
        pair(one, other)
        limited.run("limit", way, "2M", "--lan")
        one.run("folder", "add", str(source), "--name", "F")
        other.run("folder", "join", "F", str(target))
        deadline = time.monotonic() + 30
        while not (before := other.json("status")["traffic"]["received"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        began = time.monotonic()
        time.sleep(6)
        came = other.json("status")["traffic"]["received"] - before
        seconds = time.monotonic() - began
        # Chunks count when they are whole: up to 4 MiB, and as much again may be under way on each lane.
        assert came <= 2 * MB * seconds + 16 * MB
        assert other.json("status")["in_sync"] is False
        assert limited.json("status")["limits"][way[2:]] == 2 * MB
        limited.run("limit", way, "off")
        other.run("status", "--wait", "--timeout", "60")
        assert (target / "large").read_bytes() == (source / "large").read_bytes()


def test_limits_are_shown_kept_and_removed(tmp_path: Path) -> None:
    node = Node(tmp_path / "one")
    with running(node):
        assert node.run("limit").stdout == "No limits.\n"
        node.run("limit", "--up", "2M", "--down", "20mbit")
        node.run("limit", "--up", "500K", "--from", "08:00", "--to", "18:00", "--days", "mon-fri")
        node.run("down")
        node.up()
        found = node.json("limit")
        assert (found["up"], found["down"], found["lan"]) == (2_000_000, 2_500_000, False)
        assert found["schedules"] == [
            {"up": 500_000, "down": None, "days": "mon,tue,wed,thu,fri", "from": "08:00", "to": "18:00"}
        ]
        assert "mon,tue,wed,thu,fri 08:00-18:00" in node.run("limit").stdout
        assert node.json("limit", "--remove", "1")["schedules"] == []
        assert node.json("limit", "--clear")["up"] is None


def test_what_is_no_limit_is_one_clear_line_and_changes_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path / "one")
    with running(node):
        node.run("limit", "--up", "2M")
        for wrong, why in [
            (["--up", "fast"], "no speed"),
            (["--up", "10"], "less than 1000"),
            (["--up", "1M", "--from", "08:00"], "both --from and --to"),
            (["--up", "1M", "--from", "08:00", "--to", "25:00"], "no time of day"),
            (["--up", "1M", "--from", "08:00", "--to", "09:00", "--days", "someday"], "no day of the week"),
            (["--days", "mon"], "--days goes with"),
            (["--from", "08:00", "--to", "09:00"], "needs --up, --down or both"),
            (["--remove", "3"], "no schedule 3"),
        ]:
            assert why in node.error("limit", *wrong, code=2)
        assert node.json("limit")["up"] == 2_000_000
        assert node.json("limit")["schedules"] == []
