"""Several people's accounts on one node: apart in everything, and one's fault is its own; real daemons."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Node, call_api, running, say

pytestmark = pytest.mark.e2e
GOOD = "seven brown kettles sing"


class Member(Node):
    """An account beside the first one, by its own commands."""

    def __init__(self, server: Node, name: str) -> None:
        super().__init__(server.home / "accounts" / name)
        self.api = server.api


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "server")
    with running(made):
        yield made


def add(server: Node, name: str) -> Member:
    server.run("account", "add", name, "--folders", str(server.home.with_name(f"of {name}")))
    return Member(server, name)


def place(member: Member) -> Path:
    return member.home.parents[1].with_name(f"of {member.home.name}")


def wait_in_sync(*nodes: Node) -> None:
    for node in nodes:
        node.run("scan")
        node.run("status", "--wait", "--timeout", "60")


def test_each_has_folders_devices_and_tokens_of_its_own(server: Node, tmp_path: Path) -> None:
    anna, otto = add(server, "anna"), add(server, "otto")
    laptop = Node(tmp_path / "laptop")
    with running(laptop):
        laptop.run("pair", anna.json("pair")["link"])
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "letter").write_text("dear otto")
        laptop.run("folder", "add", str(mine), "--name", "Letters")
        anna.run("folder", "join", "Letters", str(place(anna) / "Letters"))
        wait_in_sync(anna, laptop)
        assert (place(anna) / "Letters" / "letter").read_text() == "dear otto"
        assert otto.json("folder", "list") == server.json("folder", "list") == []
        assert {device["name"] for device in otto.json("device", "list")} == {"otto on server"}
        assert len(anna.json("device", "list")) == 2
        server.down()
        server.up()
        (mine / "second").write_text("more")
        deadline = time.monotonic() + 60
        while not (place(anna) / "Letters" / "second").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_token_is_good_for_its_own_account_alone(server: Node) -> None:
    anna, otto = add(server, "anna"), add(server, "otto")
    for member, name in ((anna, "anna"), (otto, "otto")):
        assert say(member, GOOD + "\n", "register", name).returncode == 0
    assert "taken on this node" in say(server, GOOD + "\n", "register", "anna").stderr
    status, made = call_api(server, "POST", "/api/users/login", None, {"username": "anna", "password": GOOD})
    assert status == 200
    assert isinstance(made, dict)
    status, found = call_api(server, "GET", "/api/users/profile", made["token"])
    assert isinstance(found, dict)
    assert found["username"] == "anna"
    for path in ("/api/accounts", "/api/accounts/otto"):
        assert call_api(server, "GET", path, made["token"])[0] in (404, 405)
    assert call_api(server, "POST", "/api/accounts", made["token"], {"name": "eve", "folders": "/tmp/eve"})[0] == 404
    assert len(anna.json("token", "list")) == 1
    assert otto.json("token", "list") == []


def test_nobody_reads_or_writes_outside_of_the_place_for_the_own_folders(server: Node, tmp_path: Path) -> None:
    anna, otto = add(server, "anna"), add(server, "otto")
    (tmp_path / "secret").mkdir()
    assert "outside of" in anna.error("folder", "add", str(tmp_path / "secret"))
    assert "outside of" in anna.error("folder", "add", str(place(otto)))
    (place(anna) / "way out").symlink_to(tmp_path / "secret")
    assert "outside of" in anna.error("folder", "add", str(place(anna) / "way out"))
    (place(anna) / "F").mkdir()
    (place(anna) / "F" / "f").write_text("x")
    anna.run("folder", "add", str(place(anna) / "F"))
    wait_in_sync(anna)
    version = anna.json("history", str(place(anna) / "F" / "f"))[0]["version"]
    away = str(tmp_path / "secret" / "f")
    refused = anna.error("restore", str(place(anna) / "F" / "f"), "--version", version, "--to", away)
    assert "outside of" in refused
    assert not list((tmp_path / "secret").iterdir())
    assert "which is synced" in server.error("folder", "add", str(place(anna)))


def test_one_is_stopped_started_and_removed_and_its_files_stay(server: Node) -> None:
    anna, otto = add(server, "anna"), add(server, "otto")
    (place(anna) / "F").mkdir()
    anna.run("folder", "add", str(place(anna) / "F"))
    server.run("--account", "anna", "down")
    assert "anna: stopped" in server.run("account", "list").stdout
    assert otto.json("status")["device"]["name"] == "otto on server"
    server.run("account", "start", "anna")
    assert [folder["name"] for folder in anna.json("folder", "list")] == ["F"]
    kept = Path(server.json("account", "remove", "anna")["kept_at"])
    assert (kept / "device.key").exists()
    assert (place(anna) / "F" / ".shoal").exists()
    assert [each["name"] for each in server.json("account", "list")] == ["otto"]
    assert "no account 'anna'" in server.error("--account", "anna", "status")


def test_one_whose_store_is_damaged_ends_alone_and_one_that_is_locked_waits_for_its_password(server: Node) -> None:
    anna, otto = add(server, "anna"), add(server, "otto")
    assert say(otto, GOOD + "\n", "account", "protect").returncode == 0
    server.down()
    (anna.home / "store" / "CURRENT").write_bytes(b"damaged")
    server.up()
    deadline = time.monotonic() + 30
    while any(not each["fault"] for each in server.json("account", "list")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "otto: this node's keys are sealed with a password" in server.run("account", "list").stdout
    assert "the password is wrong" in say(server, "wrong\n", "account", "start", "otto", "--password").stderr
    assert say(server, GOOD + "\n", "account", "start", "otto", "--password").returncode == 0
    assert otto.json("status")["device"]["name"] == "otto on server"


def test_what_cannot_be_is_said_in_one_line(server: Node, tmp_path: Path) -> None:
    add(server, "anna")
    place = ("--folders", str(tmp_path / "place"))
    assert "already" in server.error("account", "add", "anna", *place)
    assert "cannot be an account's name" in server.error("account", "add", "../anna", *place, code=2)
    assert "which is another's" in server.error("account", "add", "eve", "--folders", str(server.home))
    assert "which is another's" in server.error("account", "add", "eve", "--folders", str(tmp_path))
    assert "no account 'eve'" in server.error("account", "remove", "eve")
    assert "no account 'eve'" in server.error("--account", "eve", "status")
    assert "within its node" in server.error("--account", "anna", "up")
