"""The local API as a stranger on the machine, a hostile web page, and a careless script meet it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Node

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("api") / "home")
    started.up()
    yield started
    started.down()


def call(
    node: Node, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, Any] | list[Any]]:
    """Return status and JSON of the answer. Headers: with the token, unless given otherwise."""
    token = (node.home / "api.token").read_text()
    connection = http.client.HTTPConnection(node.api, timeout=10)
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} | headers
    try:
        connection.request(method, path, body, {name: value for name, value in sent.items() if value})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_with_the_token_it_answers(node: Node) -> None:
    status, said = call(node, "GET", "/api/status")
    assert status == 200
    assert isinstance(said, dict)
    assert said["device"]["name"] == "home"


@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer x", "Basic eDp5"])
def test_without_the_token_it_says_nothing(node: Node, token: str) -> None:
    status, said = call(node, "GET", "/api/status", Authorization=token)
    assert status == 401
    assert isinstance(said, dict)
    assert said["type"] == "shoal:unauthorized"


def test_another_host_name_is_refused_so_dns_rebinding_gets_nowhere(node: Node) -> None:
    assert call(node, "GET", "/api/status", Host="evil.example")[0] == 421


def test_another_pages_requests_are_refused(node: Node) -> None:
    assert call(node, "POST", "/api/shutdown", b"{}", Origin="http://evil.example")[0] == 403
    assert call(node, "GET", "/api/status")[0] == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"path": 5}', b'{"path": "\\ud800"}', b"\xff"])
def test_a_malformed_body_is_a_problem_object(node: Node, body: bytes) -> None:
    status, said = call(node, "POST", "/api/folders", body)
    assert status in (400, 409, 422)
    assert isinstance(said, dict)
    assert said["type"].startswith("shoal:")
    assert said["title"]


@pytest.mark.parametrize("route", ["/api/folders/join", "/api/conflicts/resolve"])
def test_text_that_no_disk_can_have_is_a_problem_object(node: Node, route: str) -> None:
    body = {"path": "/\ud800", "name": "\ud800", "exclude": ["\ud800"], "keep": "mine"}
    status, said = call(node, "POST", route, json.dumps(body).encode())
    assert status in (400, 404)
    assert isinstance(said, dict)
    assert said["title"]


def test_an_unknown_path_is_a_problem_object(node: Node) -> None:
    status, said = call(node, "GET", "/api/../../etc/passwd")
    assert status == 404
    assert isinstance(said, dict)
    assert said["type"].startswith("shoal:")


def test_garbage_on_the_port_does_not_end_it(node: Node) -> None:
    host, port = node.api.split(":")
    for garbage in (b"\x16\x03\x01garbage\r\n\r\n", b"GET " + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as sock:
            sock.sendall(garbage)
    assert call(node, "GET", "/api/status")[0] == 200


def test_secrets_are_for_their_owner_alone(node: Node) -> None:
    assert node.home.stat().st_mode & 0o777 == 0o700
    for name in ("device.key", "api.token", "account.backup"):
        assert (node.home / name).stat().st_mode & 0o777 == 0o600, name


def test_a_name_that_is_not_utf8_does_not_break_the_status(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(str(folder).encode() + b"/caf\xe9")
        node.run("folder", "add", str(folder))
        try:
            node.run("scan")
            (problem,) = node.json("status")["folders"][0]["problems"]
            assert problem["path"] == "caf\\xe9"
            assert "socket" in problem["reason"]
            node.run("status")
        finally:
            node.run("folder", "remove", "odd")
