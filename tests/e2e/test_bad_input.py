"""Bad input: one line that says what was wrong and what to do, and nothing changed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Node, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("bad-input") / "home")
    started.up()
    yield started
    started.down()


def test_a_folder_that_does_not_exist(node: Node, tmp_path: Path) -> None:
    assert "there is no folder" in node.error("folder", "add", str(tmp_path / "nowhere"))


def test_a_file_where_a_folder_is_due(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "not a folder" in node.error("folder", "add", str(tmp_path / "file"))


def test_a_folder_inside_another_or_around_it(node: Node, tmp_path: Path) -> None:
    (tmp_path / "outer" / "kept" / "inner").mkdir(parents=True)
    node.run("folder", "add", str(tmp_path / "outer" / "kept"))
    try:
        for path in (tmp_path / "outer", tmp_path / "outer" / "kept" / "inner"):
            assert str(tmp_path / "outer" / "kept") in node.error("folder", "add", str(path))
            assert not (path / ".shoal").exists()
    finally:
        node.run("folder", "remove", "kept")


def test_a_folder_that_holds_the_nodes_own_home(node: Node) -> None:
    assert "home" in node.error("folder", "add", str(node.home.parent))
    assert "home" in node.error("folder", "add", str(node.home))


def test_a_folder_that_cannot_be_written(node: Node) -> None:
    assert "write" in node.error("folder", "add", "/proc/self")


def test_a_name_that_is_taken(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    node.run("folder", "add", str(tmp_path / "a"), "--name", "taken")
    try:
        assert "taken" in node.error("folder", "add", str(tmp_path / "b"), "--name", "taken")
    finally:
        node.run("folder", "remove", "taken")


def test_a_folder_that_the_account_does_not_have(node: Node, tmp_path: Path) -> None:
    assert "no folder 'nothing'" in node.error("folder", "join", "nothing", str(tmp_path / "x"))
    assert "no folder 'nothing'" in node.error("folder", "remove", "nothing")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("code", ["", "12", "abc-def", "271-48213-9075x"])
def test_a_code_that_is_none(node: Node, code: str) -> None:
    assert "13 digits" in node.error("pair", code, code=2)


def test_an_address_that_is_none(node: Node) -> None:
    assert "peer id" in node.error("pair", "271-48213-90756", "--address", "10.0.0.1:22", code=2)


def test_nobody_at_the_address(node: Node) -> None:
    somebody = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
    address = f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{somebody}"
    assert "cannot be reached" in node.error("pair", "271-48213-90756", "--address", address)


def test_a_port_in_use(node: Node, tmp_path: Path) -> None:
    other = Node(tmp_path / "other")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = f"/ip4/127.0.0.1/tcp/{port}"
        assert "in use" in other.error("up", "--listen", listen, "--api", other.api, "--no-mdns")
        error = other.error("up", "--listen", other.listen, "--api", f"127.0.0.1:{port}", "--no-mdns")
        assert f"127.0.0.1:{port}" in error
        assert "--api" in error


def test_a_second_node_with_one_home(node: Node, tmp_path: Path) -> None:
    assert "is running already" in node.run("up").stdout


def test_no_node_running(tmp_path: Path) -> None:
    error = Node(tmp_path / "none").error("status", code=3)
    assert "shoal up" in error


def test_errors_are_json_where_json_is_asked_for(tmp_path: Path) -> None:
    done = Node(tmp_path / "none").run("status", "--json", check=False)
    assert json.loads(done.stdout)["error"] == "not-running"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["folder", "add"], ["status", "--timeout", "soon"], ["up", "--api", "x"]]
)
def test_arguments_of_the_wrong_form(tmp_path: Path, arguments: list[str]) -> None:
    Node(tmp_path / "none").error(*arguments, code=2)


def test_the_version_is_told_as_an_option_and_as_a_command(tmp_path: Path) -> None:
    node = Node(tmp_path / "none")
    assert node.run("--version").stdout == node.run("version").stdout
    assert node.run("version").stdout.strip()


def test_an_address_without_the_devices_id_is_said_to_lack_it(node: Node) -> None:
    error = node.error("pair", "271-48213-90756", "--address", "/ip4/127.0.0.1/tcp/22400", code=2)
    assert "/p2p/" in error
