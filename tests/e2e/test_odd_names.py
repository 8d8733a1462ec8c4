"""Names that need care on a command line, in an address or in a terminal: each command takes them and shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Node, running

pytestmark = pytest.mark.e2e

NAMES = [
    b"a b.txt",
    b"50% & more? #1+1",
    "Ünï 日本.txt".encode(),
    b"new\nline",
    b"\x1b[31m",
    b"caf\xe9",
    b"-dash",
    b"a:b",
]
FOLDER = "50% & more? #1"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Path]]:
    one = Node(tmp_path_factory.mktemp("odd") / "one")
    root = one.home.parent / FOLDER
    root.mkdir()
    for name in NAMES:
        (root / os.fsdecode(name)).write_bytes(name)
    with running(one):
        one.run("folder", "add", str(root))
        one.run("scan")
        yield one, root


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_the_past_of_a_file_is_found_by_its_name_and_told_in_one_line(kept: tuple[Node, Path], name: bytes) -> None:
    one, root = kept
    path = str(root / os.fsdecode(name))
    said = one.run("history", path).stdout
    assert said.count("\n") == 1
    assert "\x1b" not in said
    one.run("restore", path, "--at", "now", "--to", path + ".back")
    assert Path(path + ".back").read_bytes() == name


def test_lists_show_one_file_a_line_and_nothing_that_a_terminal_obeys(kept: tuple[Node, Path]) -> None:
    one, root = kept
    for listed in (["ls", FOLDER], ["history", str(root), "--limit", "1000"]):
        said = one.run(*listed).stdout
        assert said.isprintable() or set(filter(lambda c: not c.isprintable(), said)) == {"\n"}
        assert len(said.splitlines()) == len(one.json(*listed))


@pytest.mark.parametrize(
    "arguments", [["scan"], ["scrub"], ["ls"], ["folder", "versions"], ["folder", "changes"], ["folder", "remove"]]
)
def test_every_command_takes_a_folder_of_such_a_name(kept: tuple[Node, Path], arguments: list[str]) -> None:
    one, _ = kept
    one.run(*arguments, FOLDER)
