"""Leaving out and getting back, by the CLI of two real nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engines import listing
from nodes import Node, pair, wait_in_sync

pytestmark = pytest.mark.e2e


def states(node: Node, *where: str) -> dict[str, str]:
    return {entry["path"]: entry["state"] for entry in node.json("ls", "F", *where, "--recursive")}


def test_a_sub_folder_is_left_out_listed_and_got_back(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("photos/2025/a.jpg", "photos/2025/b.jpg", "music/x.mp3", "notes/todo"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(os.urandom(5000))
    Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9")).write_text("latin")
    pair(one, other)
    one.run("folder", "add", str(source), "--name", "F")
    other.run("folder", "join", "F", str(target), "--exclude", "music")
    wait_in_sync(one, other)
    assert not (target / "music").exists()
    before = listing(source)

    done = other.json("folder", "exclude", "F", str(target / "photos"), "caf\\xe9")
    assert (done["left_out"], done["removed"], done["kept"]) == (["caf\\xe9", "music", "photos"], 3, 0)
    assert not (target / "photos").exists()
    wait_in_sync(one, other)
    assert listing(source) == before
    assert other.json("status")["folders"][0]["left_out"] == ["caf\\xe9", "music", "photos"]
    assert states(other, "photos") == dict.fromkeys(("photos/2025", "photos/2025/a.jpg", "photos/2025/b.jpg"), "remote")
    assert states(other)["caf\\xe9"] == "remote"

    got = other.json("get", str(target / "photos" / "2025" / "a.jpg"))
    assert got["done"]
    assert got["here_files"] == 1
    assert [path.name for path in (target / "photos" / "2025").iterdir()] == ["a.jpg"]
    other.run("get", "F:photos")
    other.run("folder", "include", "F", "music", "caf\\xe9")
    wait_in_sync(one, other)
    assert listing(source) == listing(target)

    other.run("folder", "mode", "F", "receive-only")
    (target / "notes" / "todo").write_text("changed here")
    wait_in_sync(other, one)
    assert other.json("status")["folders"][0]["local_changes"] == 1
    assert other.json("folder", "changes", "F")["local"] == [{"path": "notes/todo", "change": "changed"}]
    assert "is receive-only" in other.error("folder", "override", "F")
    other.run("folder", "revert", "F")
    wait_in_sync(other, one)
    assert listing(source) == listing(target)
    for whole in (".", "", str(target)):
        assert "itself cannot be left out" in other.error("folder", "exclude", "F", whole)
    assert "nothing at nowhere" in other.error("folder", "exclude", "F", "nowhere")
    assert "is not in the folder" in other.error("folder", "exclude", "F", "/etc/passwd")
    assert "in no folder" in other.error("get", "/etc/passwd", code=2)
    one.down()
    other.run("folder", "exclude", "F", "notes")
    assert (target / "notes" / "todo").exists(), "no other device is there to say that it has it"
