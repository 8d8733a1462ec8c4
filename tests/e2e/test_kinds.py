"""Files and names of uncommon kinds, between real daemons."""

from __future__ import annotations

import mmap
import os
import stat
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
    wait_in_sync(one, other)


def test_eight_mib_of_zeros_cost_under_64_kib_and_strange_names_arrive(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    shared(nodes, source, target)
    before = other.json("status")["traffic"]["received"]
    (source / "zeros").write_bytes(bytes(8 * 1024 * 1024))
    names = [
        b"two\nlines",
        b"\x1b[31mred",
        b"caf\xe9",
        b"dot.",
        b"space ",
        b" ",
        b"...",
        b"-rf",
        b"[bold]",
        b"\xe2\x80\xaeltr",
    ]
    for name in names:
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_text("x")
    wait_in_sync(one, other)
    assert other.json("status")["traffic"]["received"] - before < 65536
    assert listing(source) == listing(target)
    assert (target / "zeros").stat().st_blocks * 512 < 65536


def test_names_with_control_characters_are_spelt_out(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, _ = nodes
    (tmp_path / "folder").mkdir()
    one.run("folder", "add", str(tmp_path / "folder"), "--name", "F")
    os.mkfifo(tmp_path / "folder" / "a\nb\x1b[31m[bold]")
    one.run("scan")
    shown = one.run("status").stdout
    assert "\x1b[31m" not in shown
    assert "a\\nb\\x1b[31m[bold]" in shown.replace("\n", "")


def test_a_file_that_lost_bits_is_found_by_scrub_and_repaired_from_the_other_device(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    one, other = nodes
    source, target = tmp_path / "source", tmp_path / "target"
    with small_disk(source, 50):
        right = os.urandom(3_000_000)
        path = source / "dir" / "file"
        path.parent.mkdir()
        path.write_bytes(right)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[1_000_000] = mapped[1_000_000]  # from here on, stores in this page leave no sign
            shared(nodes, source, target)
            before = path.stat()
            mapped[1_000_000] ^= 1
            assert path.stat() == before
        assert path.read_bytes() != right
        done = one.run("scrub", check=False)
        assert done.returncode == 1
        assert "dir/file: damaged" in done.stdout
        wait_in_sync(one, other)
        assert (target / "dir" / "file").read_bytes() == right
        assert one.json("status")["folders"][0]["problems"][0]["path"] == "dir/file"
        (scrubbed,) = one.json("scrub", "F", "--repair")
        assert (scrubbed["damaged"], scrubbed["repaired"]) == ([], ["dir/file"])
        assert path.read_bytes() == right
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(before.st_mode)
        wait_in_sync(one, other)
        assert one.json("status")["folders"][0]["problems"] == []
        assert [kept.read_bytes() != right for kept in (source / ".shoal" / "versions").iterdir()] == [True]
        assert "no folder" in one.error("scrub", "Nowhere")
        one.down()
