"""Two people change one file, and one of them settles it, with the CLI alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nodes import Node, pair, running, wait_in_sync

pytestmark = pytest.mark.e2e


def test_conflicts_are_listed_shown_and_settled_on_all_devices(tmp_path: Path) -> None:
    laptop, desktop = Node(tmp_path / "laptop"), Node(tmp_path / "desktop")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for name in ("plan.txt", "photo"):
        (here / name).write_bytes(b"one\0" if name == "photo" else b"one\n")
    with running(laptop, desktop):
        pair(laptop, desktop)
        laptop.run("folder", "add", str(here), "--name", "Work")
        desktop.run("folder", "join", "Work", str(there))
        wait_in_sync(laptop, desktop)
        assert "has no conflict" in laptop.error("conflicts", "show", str(here / "plan.txt"))
        assert "is in no folder" in laptop.error("conflicts", "resolve", str(tmp_path), "--keep", "mine")

        desktop.down()
        (here / "plan.txt").write_text("two\n")
        (here / "photo").write_bytes(b"two\0")
        laptop.run("scan")
        (there / "plan.txt").write_text("three\n")
        (there / "photo").write_bytes(b"three\0")
        desktop.up()
        wait_in_sync(laptop, desktop)

        photo, plan = laptop.json("conflicts")
        assert plan["path"] == str(here / "plan.txt")
        assert {each["device"]: each["size"] for each in plan["versions"]} == {"laptop": 4, "desktop": 6}
        assert {each["device"] for each in plan["versions"] if each["mine"]} == {"laptop"}
        assert "2 conflicts" in laptop.run("status").stdout
        assert "conflict" in {
            event["kind"] for event in map(json.loads, laptop.run("log", "--json").stdout.splitlines())
        }
        lines = laptop.run("conflicts", "show", plan["path"]).stdout.splitlines()
        assert {line[1:] for line in lines[2:] if line[0] in "+-"} == {"two", "three"}
        assert "no text" in desktop.run("conflicts", "show", str(there / "photo")).stdout
        choices = laptop.error("conflicts", "resolve", photo["path"], "--keep", "nobody's", code=2)
        assert photo["versions"][1]["id"] in choices

        desktop.run("conflicts", "resolve", str(there / "plan.txt"), "--keep", "theirs")
        (tmp_path / "by hand").write_bytes(b"by hand\0")
        laptop.run("conflicts", "resolve", photo["versions"][1]["path"], "--keep", str(tmp_path / "by hand"))
        wait_in_sync(laptop, desktop)
        for folder in (here, there):
            assert sorted(path.name for path in folder.iterdir()) == [".shoal", "photo", "plan.txt"]
            assert (folder / "plan.txt").read_text() == "two\n"
            assert (folder / "photo").read_bytes() == b"by hand\0"
        assert laptop.json("conflicts") == desktop.json("conflicts") == []
