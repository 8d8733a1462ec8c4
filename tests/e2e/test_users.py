"""Registering, logging in and out: by the CLI and over HTTP, against a real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Node, call_api, running, say

pytestmark = pytest.mark.e2e
GOOD = "seven brown kettles sing"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "one")
    with running(made):
        yield made


def test_who_registered_logs_in_uses_the_token_and_logs_out(node: Node) -> None:
    assert say(node, GOOD + "\n", "register", "anna", "--email", "anna@example.org").returncode == 0
    status, made = call_api(
        node, "POST", "/api/users/login", None, {"username": "anna", "password": GOOD, "label": "page"}
    )
    assert status == 200
    token = str(made["token"])
    assert call_api(node, "GET", "/api/status", token)[0] == 200
    assert [each["label"] for each in node.json("token", "list")] == ["page"]
    assert call_api(node, "POST", "/api/users/logout", token, {})[0] == 200
    assert call_api(node, "GET", "/api/status", token)[0] == 401
    kinds = [record["kind"] for record in node.json("audit")]
    assert kinds[-3:] == ["registered", "log-in", "log-out"]


def test_a_token_outlives_a_restart_and_ends_when_it_is_revoked(node: Node) -> None:
    say(node, GOOD + "\n", "register", "anna")
    made = json.loads(say(node, GOOD + "\n", "login", "anna", "--json").stdout)
    node.down()
    node.up()
    assert call_api(node, "GET", "/api/status", made["token"])[0] == 200
    node.run("logout", made["id"])
    assert call_api(node, "GET", "/api/status", made["token"])[0] == 401


def test_wrong_passwords_are_refused_then_delayed_and_recorded(node: Node) -> None:
    say(node, GOOD + "\n", "register", "anna")
    said = [
        call_api(node, "POST", "/api/users/login", None, {"username": "anna", "password": "guess"}) for _ in range(4)
    ]
    assert [status for status, _ in said] == [401, 401, 401, 429]
    assert said[-1][1]["type"] == "shoal:throttled"
    assert [record["kind"] for record in node.json("audit")].count("log-in-failed") == 3
    assert call_api(node, "GET", "/api/users/profile", None)[0] == 401


def test_the_profile_and_the_password_are_changed(node: Node, tmp_path: Path) -> None:
    picture = tmp_path / "me.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    say(node, GOOD + "\n", "register", "anna")
    node.run("profile", "--name", "Anna B.", "--avatar", str(picture))
    assert node.json("profile")["avatar"] == "image/png"
    assert "Anna B." in node.run("profile").stdout
    assert say(node, f"{GOOD}\nnine green lamps hum\n", "profile", "--password").returncode == 0
    assert say(node, GOOD + "\n", "login", "anna").returncode != 0
    assert say(node, "nine green lamps hum\n", "login", "anna").returncode == 0


@pytest.mark.parametrize(
    ("typed", "arguments", "reason"),
    [
        ("password\n", ("register", "anna"), "guessed soon"),
        ("short\n", ("register", "anna"), "8 to 256 characters"),
        (GOOD + "\n", ("register", "an na"), "cannot be a user's name"),
        (GOOD + "\n", ("register", "anna", "--email", "nowhere"), "no e-mail address"),
        (GOOD + "\n", ("login", "anna"), "the name or the password is wrong"),
        ("", ("profile",), "nobody registered"),
        ("", ("profile", "--name", "x"), "nobody registered"),
        ("", ("logout", "12345678"), "no token"),
    ],
)
def test_bad_input_is_one_line(node: Node, typed: str, arguments: tuple[str, ...], reason: str) -> None:
    done = say(node, typed, *arguments)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
