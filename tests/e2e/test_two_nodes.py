"""Two real daemons on loopback, driven by the CLI as a person would."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest
from engines import listing
from nodes import Node, pair, wait_in_sync

pytestmark = pytest.mark.e2e


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
    wait_in_sync(one, other)
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


def test_the_default_folders_of_two_paired_devices_become_one(tmp_path: Path) -> None:
    people = tmp_path / "ann", tmp_path / "bob"
    nodes = [Node(person / "config", person) for person in people]
    try:
        for person, node in zip(people, nodes, strict=True):
            (person / "Shoal").mkdir(parents=True)
            (person / "Shoal" / f"from {person.name}").write_text(person.name)
            (person / "Shoal" / "same").write_text("the same on both before they met")
            node.up("--default-folder")
        pair(*nodes)
        wait_in_sync(*nodes)
        assert listing(people[0] / "Shoal").splitlines()[1:] != []
        for person in people:
            assert sorted(path.name for path in (person / "Shoal").iterdir()) == [
                ".shoal",
                "from ann",
                "from bob",
                "same",
            ]
    finally:
        for node in nodes:
            node.down()


def test_folders_are_joined_at_paths_of_ones_own_and_left_with_their_files(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    one, other = nodes
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_text("kept")
    pair(one, other)
    one.run("folder", "add", str(tmp_path / "here"), "--name", "Papers")
    other.run("folder", "join", "Papers", str(tmp_path / "elsewhere"))
    wait_in_sync(one, other)
    other.run("folder", "remove", "Papers")
    (tmp_path / "here" / "file").write_text("changed")
    one.run("scan")
    assert (tmp_path / "elsewhere" / "file").read_text() == "kept"
    assert [folder["joined"] for folder in other.json("folder", "list")] == [False]
    other.run("folder", "join", "Papers", str(tmp_path / "elsewhere"))
    wait_in_sync(one, other)
    assert {(tmp_path / place / "file").read_text() for place in ("here", "elsewhere")} <= {"kept", "changed"}
    assert "changed" in {path.read_text() for path in (tmp_path / "elsewhere").glob("file*")}


def test_status_wait_right_after_a_start_waits_for_what_the_others_have(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    one, other = nodes
    (tmp_path / "here").mkdir()
    pair(one, other)
    one.run("folder", "add", str(tmp_path / "here"), "--name", "Papers")
    other.run("folder", "join", "Papers", str(tmp_path / "there"))
    wait_in_sync(one, other)
    other.down()
    (tmp_path / "here" / "file").write_text("meanwhile")
    one.run("scan")
    other.up()
    other.run("status", "--wait", "--timeout", "30")
    assert (tmp_path / "there" / "file").read_text() == "meanwhile"
