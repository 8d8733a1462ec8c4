"""Two engines, one of them on a real disk that does not hold all names; skipped where none can be mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from engines import FOLDER, Device, join, part, running, settle
from odd_disks import KINDS, mounted

from shoal.crdt.model import ROOT
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_kind import find_rules
from shoal.node.folder.linux import Linux
from shoal.node.folder.marker import make_marker
from shoal.node.name_rules import NameRules

pytestmark = pytest.mark.e2e

RULES = {
    "vfat": [NameRules(case="simple", forbids=True, trims=True, utf8=True)],
    "exfat": [
        NameRules(case="simple", forbids=True, utf8=True),
        NameRules(case="simple", forbids=True, trims=True, utf8=True),
    ],
    "ntfs": [
        NameRules(case="simple", forbids=True, trims=True, reserves=True, utf8=True),
        NameRules(case="simple", forbids=True, trims=True, reserves=True, utf8=True, lowers=True),
    ],
    "ext4-casefold": [NameRules(case="full", forms=True, ignores=True)],
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def odd(kind: str, tmp_path: Path) -> Iterator[Path]:
    with mounted(kind, tmp_path) as folder:
        yield folder


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) - {".shoal"}


def twin(folder: Path) -> Path:
    """Return the one name that is there for the disk's sake."""
    (found,) = [name for name in names(folder) if "(conflict " in name]
    return folder / found


def two(odd: Path, tmp_path: Path) -> tuple[Device, Device]:
    usual, other = Device(1, tmp_path / "usual"), Device(2, odd)
    join(usual, other)
    return usual, other


def test_what_a_disk_can_hold_is_found_out(kind: str, odd: Path) -> None:
    disk = Disk(Linux())
    make_marker(disk, str(odd), FOLDER)
    assert find_rules(disk, str(odd)) in RULES[kind]
    assert names(odd / ".shoal" / "tmp") == set()


def spelt(device: Device, *names: str) -> set[str]:
    """Return how a device's disk lists names."""
    return {device.engine.index.rules.spell(name) for name in names}


async def test_twins_are_shown_apart_and_each_is_edited_as_itself(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        (usual.root / "a").write_text("a")
        await settle(usual, other)
        (usual.root / "A").write_text("A")
        await settle(usual, other)
        shown = twin(other.root)
        texts = {(other.root / "a").read_text(): "a", shown.read_text(): "A"}
        assert texts.keys() == {"a", "A"}
        shown.write_text("edited there")
        (other.root / "a").write_text("also edited there")
        await settle(usual, other)
        edits = {(usual.root / name).read_text() for name in ("a", "A")}
        assert edits == {"edited there", "also edited there"}
        (usual.root / "a").unlink()
        await settle(usual, other)
        assert names(other.root) == spelt(other, "A")
        assert (other.root / "A").read_text() == (usual.root / "A").read_text()


async def test_folders_that_are_twins_are_shown_apart(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        for name in ("D", "d"):
            (usual.root / name).mkdir()
            (usual.root / name / "f").write_text(name)
        await settle(usual, other)
        shown = twin(other.root)
        assert {(other.root / "D" / "f").read_text(), (shown / "f").read_text()} == {"D", "d"}
        (shown / "more").write_text("more")
        await settle(usual, other)
        own = (shown / "f").read_text()
        assert (usual.root / own / "more").read_text() == "more"


async def test_a_name_changes_its_case_both_ways(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        (usual.root / "d").mkdir()
        (usual.root / "d" / "f").write_text("text")
        (usual.root / "a").write_text("a")
        await settle(usual, other)
        nodes = usual.engine.index.find("a"), usual.engine.index.find("d/f")
        (usual.root / "a").rename(usual.root / "A")
        (usual.root / "d").rename(usual.root / "D")
        await trio.sleep(0.5)
        await settle(usual, other)
        assert names(usual.root) == {"A", "D"}
        assert names(other.root) == spelt(other, "A", "D")
        if other.engine.index.rules.lowers:
            return
        for name in ("A", "D"):  # as people have to do it where a plain rename does nothing
            (other.root / name).rename(other.root / "between")
            (other.root / "between").rename(other.root / name.lower())
        await trio.sleep(0.5)
        await settle(usual, other)
        assert names(usual.root) == names(other.root) == {"a", "d"}
        assert (usual.engine.index.find("a"), usual.engine.index.find("d/f")) == nodes


async def test_a_case_changes_while_the_other_edits(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        (usual.root / "a").write_text("a")
        await settle(usual, other)
        part(usual, other)
        (usual.root / "a").rename(usual.root / "A")
        (other.root / "a").write_text("edited")
        await trio.sleep(0.5)
        await settle(usual)
        await settle(other)
        join(usual, other)
        await settle(usual, other)
        assert names(usual.root) == {"A"}
        assert names(other.root) == spelt(other, "A")
        assert (usual.root / "A").read_text() == (other.root / "A").read_text() == "edited"


async def test_names_that_the_disk_refuses_come_and_are_edited_there(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    own = {"a:b", "con", "what?", "dot.", "caf\u00e9", "cafe\u0301"}
    async with running(usual, other):
        for name in own:
            (usual.root / name).write_text(name)
        await settle(usual, other)
        assert {(other.root / name).read_text() for name in names(other.root)} == own
        for name in names(other.root):
            path = other.root / name
            path.write_text(path.read_text() + ", edited")
        await trio.sleep(0.5)
        await settle(usual, other)
        assert names(usual.root) == own
        assert all((usual.root / name).read_text() == f"{name}, edited" for name in own)
        assert usual.engine.state().problems == other.engine.state().problems == ()


async def test_a_file_becomes_a_folder_and_a_file_again(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        for device, peer in ((usual, other), (other, usual)):
            (device.root / "a").write_text("a file")
            await settle(usual, other)
            (device.root / "a").unlink()
            (device.root / "A").mkdir()
            (device.root / "A" / "in").write_text("in")
            await trio.sleep(0.5)
            await settle(usual, other)
            (name,) = names(peer.root)
            assert (peer.root / name / "in").read_text() == "in"
            (device.root / "A" / "in").unlink()
            (device.root / "A").rmdir()
            (device.root / "a").write_text("a file again")
            await trio.sleep(0.5)
            await settle(usual, other)
            assert names(peer.root) == {"a"}
            assert (peer.root / "a").read_text() == "a file again"


async def test_a_folder_moves_up_to_its_folders_name_in_other_case(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        (usual.root / "d" / "D").mkdir(parents=True)
        (usual.root / "d" / "D" / "g").write_text("g")
        await settle(usual, other)
        (usual.root / "d" / "D").rename(usual.root / "D")
        await trio.sleep(0.5)
        await settle(usual, other)
        assert len(names(other.root)) == 2
        (usual.root / "d").rmdir()
        await trio.sleep(0.5)
        await settle(usual, other)
        assert names(other.root) == spelt(other, "D")
        assert (other.root / "D" / "g").read_text() == "g"


async def test_what_changed_there_while_the_node_was_down_is_seen_as_renames(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        for name in ("N", "n", "k"):
            (usual.root / name).write_text(name)
        await settle(usual, other)
    shown = twin(other.root)
    own = shown.read_text()
    shown.write_text("edited")
    (other.root / "k").rename(other.root / "x")
    (other.root / "x").rename(other.root / "K")
    node = usual.engine.index.find("k")
    again = Device(1, usual.root, usual.store), Device(2, other.root, other.store)
    join(*again)
    async with running(*again):
        await trio.sleep(0.5)
        await settle(*again)
        assert names(usual.root) == {"N", "n", "k" if again[1].engine.index.rules.lowers else "K"}
        assert (usual.root / own).read_text() == "edited"
        assert again[0].engine.index.holder(ROOT, "K" if (usual.root / "K").exists() else "k") == node


async def test_a_receive_only_folder_takes_back_the_case_of_a_name(odd: Path, tmp_path: Path) -> None:
    usual, other = two(odd, tmp_path)
    async with running(usual, other):
        (usual.root / "d").mkdir()
        (usual.root / "d" / "f").write_text("text")
        (usual.root / "a").write_text("a")
        await settle(usual, other)
        if other.engine.index.rules.lowers:
            return
        other.engine.set_mode("receive-only")
        for name in ("a", "d"):
            (other.root / name).rename(other.root / "between")
            (other.root / "between").rename(other.root / name.upper())
        await other.engine.scan()
        assert names(usual.root) == {"a", "d"}
        assert await other.engine.revert() == 4
        await settle(usual, other)
        assert names(other.root) == names(usual.root) == {"a", "d"}
        assert (other.root / "d" / "f").read_text() == "text"
