"""A node whose secrets are sealed on its disk; real daemons."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Node, pair, running, say, wait_in_sync

pytestmark = pytest.mark.e2e
GOOD = "seven brown kettles sing"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two devices that keep a folder; each one's is home-F."""
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    with running(one, other):
        pair(one, other)
        folder(one).mkdir()
        (folder(one) / "old").write_text("old")
        one.run("folder", "add", str(folder(one)), "--name", "F")
        other.run("folder", "join", "F", str(folder(other)))
        wait_in_sync(one, other)
        yield one, other


def folder(node: Node) -> Path:
    return node.home.with_name(node.home.name + "-F")


def files_of(home: Path) -> list[bytes]:
    return [path.read_bytes() for path in home.rglob("*") if path.is_file()]


def unlock(node: Node, password: str) -> str:
    done = say(node, password + "\n", "unlock", "--listen", node.listen, "--api", node.api, "--no-mdns")
    return "" if done.returncode == 0 else done.stderr


def test_a_home_that_was_stolen_opens_with_the_password_alone(two: tuple[Node, Node]) -> None:
    one, other = two
    seed = (one.home / "device.key").read_bytes()
    assert "guessed soon" in say(one, "password\n", "account", "protect").stderr
    assert say(one, GOOD + "\n", "account", "protect").returncode == 0
    one.run("lock")
    assert not any(seed in data for data in files_of(one.home))
    assert "sealed with a password" in one.error("up", "--listen", one.listen, "--api", one.api, "--no-mdns")
    assert "the password is wrong" in unlock(one, GOOD + "!")
    assert unlock(one, GOOD) == ""
    (folder(one) / "new").write_text("new")
    wait_in_sync(one, other)
    assert (folder(other) / "new").read_text() == "new"
    one.kill()  # a crash
    assert unlock(one, GOOD) == ""
    one.run("account", "protect", "--off")
    one.down()
    assert (one.home / "device.key").read_bytes() == seed
    one.up()
    wait_in_sync(one, other)


def test_with_a_keyring_it_starts_by_itself(two: tuple[Node, Node], tmp_path: Path) -> None:
    one, other = two
    one.down()
    one.environment = {**os.environ, "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    one.up()
    assert "no keyring" in one.error("account", "protect", "--keyring")
    one.down()
    support = Path(__file__).parents[1] / "support"
    one.environment = {
        **os.environ,
        "PYTHON_KEYRING_BACKEND": "file_keyring.FileKeyring",
        "FILE_KEYRING": str(tmp_path / "keyring"),
        "PYTHONPATH": str(support),
    }
    one.up()
    seed = (one.home / "device.key").read_bytes()
    one.run("account", "protect", "--keyring")
    one.down()
    assert not any(seed in data for data in files_of(one.home))
    one.up()
    (folder(other) / "new").write_text("new")
    wait_in_sync(one, other)
    one.down()
    (tmp_path / "keyring").unlink()
    assert "no key for this home" in one.error("up", "--listen", one.listen, "--api", one.api, "--no-mdns")


def test_a_lost_store_is_built_anew_from_the_sealed_copy(two: tuple[Node, Node]) -> None:
    one, other = two
    assert say(one, GOOD + "\n", "account", "protect").returncode == 0
    one.run("lock")
    (one.home / "store" / "CURRENT").write_bytes(b"damaged")
    one.run("repair")
    assert unlock(one, GOOD) == ""
    (folder(one) / "new").write_text("new")
    wait_in_sync(one, other)
    assert (folder(other) / "new").exists()


def test_what_is_not_sealed_is_not_locked(two: tuple[Node, Node]) -> None:
    assert "not sealed" in two[0].error("lock")
    assert "not sealed by a password" in two[0].error("unlock")
    two[0].run("account", "protect", "--off")
