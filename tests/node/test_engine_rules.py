"""What the rules leave out: `.shoalignore`, which is synced, and `.shoal/ignore`, which is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from engines import Device, running, settle

from shoal.node.folder.disk import Disk
from shoal.node.folder.ignore import IgnoreRules
from shoal.node.folder.linux import Linux

RULES = """
# a comment
*.log
!keep.log
build/
/top
docs/**/draft
**/cache/**
deep/*/x
open/**
!open/kept
\\#hash
\\!bang
trailing\\ 
a?c
[0-9].txt
"""


@pytest.mark.parametrize(
    ("path", "is_dir", "left_out"),
    [
        ("x.log", False, True),
        ("d/x.log", False, True),
        ("keep.log", False, False),
        ("d/keep.log", False, False),
        ("build", True, True),
        ("build", False, False),  # a file of that name
        ("d/build", True, True),
        ("build/inside", False, True),
        ("top", False, True),
        ("d/top", False, False),
        ("docs/draft", False, True),
        ("docs/a/b/draft", False, True),
        ("draft", False, False),
        ("a/cache/b", False, True),
        ("a/cache", True, False),
        ("open", True, False),
        ("open/kept", False, False),
        ("open/other", True, True),
        ("deep/1/x", False, True),
        ("deep/1/2/x", False, False),
        ("#hash", False, True),
        ("!bang", False, True),
        ("trailing ", False, True),
        ("abc", False, True),
        ("abbc", False, False),
        ("7.txt", False, True),
        ("# a comment", False, False),
        (".shoal", True, True),
        (".shoal/ignore", False, True),
        (".shoalignore", False, False),
    ],
)
def test_rules_are_those_of_gitignore(tmp_path: Path, path: str, is_dir: bool, left_out: bool) -> None:
    (tmp_path / ".shoalignore").write_text(RULES)
    assert IgnoreRules(Disk(Linux()), str(tmp_path)).ignores(path, is_dir=is_dir) == left_out


def test_a_devices_own_rules_come_last_and_may_take_back_the_synced_ones(tmp_path: Path) -> None:
    (tmp_path / ".shoal").mkdir()
    (tmp_path / ".shoalignore").write_text("*.iso\n*.log\n")
    (tmp_path / ".shoal" / "ignore").write_text("!small.iso\nmine\n")
    rules = IgnoreRules(Disk(Linux()), str(tmp_path))
    assert rules.ignores("big.iso", is_dir=False)
    assert not rules.ignores("small.iso", is_dir=False)
    assert rules.ignores("mine", is_dir=True)
    (tmp_path / ".shoal" / "ignore").unlink()
    assert rules.refresh()
    assert rules.ignores("small.iso", is_dir=False)
    assert not rules.ignores("mine", is_dir=True)
    assert not rules.refresh()


@pytest.mark.parametrize("line", ["!", "[z-a]", "foo\\"])
def test_a_line_that_is_no_rule_is_told_and_the_others_count(tmp_path: Path, line: str) -> None:
    (tmp_path / ".shoalignore").write_text(f"*.log\n{line}\n*.tmp\n")
    rules = IgnoreRules(Disk(Linux()), str(tmp_path))
    assert rules.ignores("x.tmp", is_dir=False)
    assert rules.faults == {".shoalignore": f"line 2 is no rule: {line!r}; the others count"}
    (tmp_path / ".shoalignore").write_text("*.log\n")
    assert rules.refresh()
    assert rules.faults == {}


async def test_a_change_of_either_file_counts_at_once(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / ".shoalignore").write_text("*.log\n")
    (one.root / ".shoal" / "ignore").write_text("mine/\n")
    (one.root / "x.log").write_text("x")
    (one.root / "mine").mkdir()
    (one.root / "mine" / "f").write_text("mine")
    async with running(one, other):
        await settle(one, other)
        assert sorted(path.name for path in other.root.iterdir()) == [".shoal", ".shoalignore"]
        (one.root / ".shoal" / "ignore").unlink()
        await trio.sleep(0.4)
        await settle(one, other)
        assert (other.root / "mine" / "f").read_text() == "mine"
        (one.root / ".shoalignore").write_text("*.tmp\n")
        await trio.sleep(0.4)
        await settle(one, other)
        assert (other.root / "x.log").read_text() == "x"
        (other.root / "y.tmp").write_text("y")  # by rules that came from elsewhere
        await trio.sleep(0.4)
        await settle(one, other)
        assert not (one.root / "y.tmp").exists()
        assert not (other.root / ".shoal" / "ignore").exists()


async def test_what_is_synced_already_stays_so_when_a_rule_comes_to_match_it(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "x.log").write_text("1")
    async with running(one, other):
        await settle(one, other)
        (one.root / ".shoal" / "ignore").write_text("*.log\n")
        await trio.sleep(0.4)
        (one.root / "x.log").write_text("22")
        await trio.sleep(0.4)
        await settle(one, other)
        assert (other.root / "x.log").read_text() == "22"
        (one.root / "x.log").unlink()
        await trio.sleep(0.6)
        await settle(one, other)
        assert not (other.root / "x.log").exists()


async def test_a_rule_that_is_none_is_a_problem_of_its_file(pair: tuple[Device, Device]) -> None:
    one, _ = pair
    async with running(one):
        await settle(one)
        (one.root / ".shoalignore").write_text("!\n")
        await trio.sleep(0.4)
        await settle(one)
        assert [problem.path for problem in one.engine.state().problems] == [".shoalignore"]
        (one.root / ".shoalignore").write_text("")
        await trio.sleep(0.4)
        await settle(one)
        assert one.engine.state().problems == ()
