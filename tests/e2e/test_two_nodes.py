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
