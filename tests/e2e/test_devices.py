"""The devices of an account: named, revoked, told to erase; real daemons."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes import SHOAL, Node, pair, running, say, wait_in_sync

pytestmark = pytest.mark.e2e


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def names(node: Node) -> set[str]:
    return {device["name"] for device in node.json("device", "list")}


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[tuple[Node, Node, Node]]:
    """Three devices of one account."""
    nodes = Node(tmp_path / "one"), Node(tmp_path / "other"), Node(tmp_path / "phone")
    with running(*nodes):
        one, other, phone = nodes
        pair(one, other)
        pair(one, phone)
        yield nodes


@pytest.fixture
def three(devices: tuple[Node, Node, Node]) -> tuple[Node, Node, Node]:
    """Three devices that keep a folder, each at home-F."""
    one, other, phone = devices
    folder(one).mkdir()
    (folder(one) / "old").write_text("old")
    one.run("folder", "add", str(folder(one)), "--name", "F")
    for node in (other, phone):
        node.run("folder", "join", "F", str(folder(node)))
    wait_in_sync(*devices)
    return devices


def folder(node: Node) -> Path:
    return node.home.with_name(node.home.name + "-F")


def test_a_device_is_renamed_for_all(devices: tuple[Node, Node, Node]) -> None:
    one, other, phone = devices
    one.run("device", "rename", "phone", "My phone")
    until(lambda: "My phone" in names(other))
    until(lambda: phone.json("status")["device"]["name"] == "My phone")
    until(lambda: "My phone: connected" in one.run("device", "list").stdout)


def test_a_device_that_is_revoked_while_it_is_away_gets_nothing_new_and_gives_nothing(
    three: tuple[Node, Node, Node],
) -> None:
    one, other, phone = three
    phone.down()
    assert "cannot be undone" in one.error("device", "revoke", "phone", code=2)
    one.run("device", "revoke", "phone", "--yes")
    until(lambda: "phone" not in names(other))
    (folder(one) / "secret").write_text("after it was stolen")
    wait_in_sync(one, other)
    assert (folder(other) / "secret").exists()
    phone.up()
    (folder(phone) / "from the thief").write_text("let me in")
    until(lambda: bool(phone.json("status")["device"]["revoked"]))
    (folder(other) / "note").write_text("and so on")
    wait_in_sync(one, other)
    assert (folder(one) / "note").exists()
    assert {path.name for path in folder(phone).iterdir()} == {".shoal", "old", "from the thief"}
    assert not (folder(one) / "from the thief").exists()
    assert "removed from its account" in phone.run("status").stdout
    assert "removed from its account" in phone.error("device", "rename", "one", "mine")
    offer = one.json("pair")
    assert "removed from its account" in phone.error("pair", offer["code"], "--address", offer["addresses"][0])
    assert "removed from its account" in phone.error("pair")
    assert "removed from its account" in phone.error("status", "--wait")


def test_a_device_that_is_revoked_while_it_is_connected_hears_of_it_and_erases_its_copies(
    three: tuple[Node, Node, Node],
) -> None:
    one, other, phone = three
    (folder(phone) / "below").mkdir()
    (folder(phone) / "below" / "own").write_text("own")
    (folder(phone) / "link").symlink_to(folder(one))
    wait_in_sync(*three)
    one.run("device", "revoke", "phone", "--yes", "--erase")
    until(lambda: not list(folder(phone).iterdir()), seconds=10)
    assert phone.json("status")["folders"] == []
    assert (folder(one) / "below" / "own").read_text() == "own"
    wait_in_sync(one, other)
    assert (folder(other) / "old").exists()
    listed = one.run("device", "list", "--all").stdout
    assert "phone: revoked" in listed


def test_what_was_written_before_and_after_a_revocation_comes_to_whoever_was_away(
    three: tuple[Node, Node, Node],
) -> None:
    one, other, _ = three
    other.down()
    (folder(one) / "before").write_text("before")
    one.run("scan")
    one.run("device", "revoke", "phone", "--yes")
    (folder(one) / "after").write_text("after")
    one.run("scan")
    other.up()
    wait_in_sync(one, other)
    assert {path.name for path in folder(other).iterdir()} == {".shoal", "old", "before", "after"}


def test_a_new_device_that_is_paired_after_a_revocation_gets_everything(
    three: tuple[Node, Node, Node], tmp_path: Path
) -> None:
    one, _, _ = three
    one.run("device", "revoke", "phone", "--yes")
    (folder(one) / "after").write_text("after")
    fresh = Node(tmp_path / "fresh")
    with running(fresh):
        pair(one, fresh)
        fresh.run("folder", "join", "F", str(folder(fresh)))
        wait_in_sync(one, fresh)
        assert {path.name for path in folder(fresh).iterdir()} == {".shoal", "old", "after"}


def test_what_cannot_be_done_to_a_device_is_said_in_one_line(devices: tuple[Node, Node, Node]) -> None:
    one = devices[0]
    assert "no device 'tablet'" in one.error("device", "revoke", "tablet", "--yes")
    assert "does not revoke itself" in one.error("device", "revoke", "one", "--yes", code=2)
    assert "cannot be a device's name" in one.error("device", "rename", "phone", " ", code=2)
    until(lambda: "phone" in names(devices[1]))
    assert "let another in" in devices[1].error("device", "revoke", "phone", "--yes", "--erase")
    one.run("device", "rename", "phone", "other")
    assert "several devices are named 'other'" in one.error("device", "revoke", "other", "--yes")
    end = next(d["id"] for d in one.json("device", "list") if d["name"] == "other")[-8:]
    one.run("device", "rename", end, "third")


def test_an_account_comes_to_a_new_device_by_its_paper_key(three: tuple[Node, Node, Node], tmp_path: Path) -> None:
    one = three[0]
    words = one.json("account", "paper-key")["words"]
    assert any(device["kind"] == "paper" for device in one.json("device", "list"))
    address = one.json("status")["device"]["addresses"][0]
    fresh = Node(tmp_path / "fresh")
    with running(fresh):
        recovered = say(fresh, words.upper(), "recover", "--address", address)
        assert recovered.returncode == 0, recovered.stderr
        fresh.run("folder", "join", "F", str(folder(fresh)))
        wait_in_sync(one, fresh)
        assert (folder(fresh) / "old").read_text() == "old"
        until(lambda: "fresh" in names(three[1]))
        fresh.run("device", "revoke", "phone", "--yes")
        until(lambda: "phone" not in names(one))


def test_words_that_are_no_paper_key_or_one_that_was_revoked_are_refused(
    tmp_path: Path,
) -> None:
    one, fresh = Node(tmp_path / "one"), Node(tmp_path / "fresh")
    with running(one, fresh):
        _refuse_words(one, fresh)


def _refuse_words(one: Node, fresh: Node) -> None:
    words = one.json("account", "paper-key")["words"].split()
    name = next(device["name"] for device in one.json("device", "list") if device["kind"] == "paper")
    one.run("device", "revoke", name, "--yes")
    address = one.json("status")["device"]["addresses"][0]
    for said, reason in [
        (words, "no account that was reached has that paper key, or it was revoked"),
        (words[:-1], "24 words, not 23"),
        (["shoal", *words[1:]], "'shoal' is none of the words"),
        (words[::-1], "not a paper key"),
    ]:
        done = say(fresh, " ".join(said), "recover", "--address", address)
        assert done.returncode != 0
        assert done.stderr.startswith("error: "), done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert reason in done.stderr
    assert len(names(fresh)) == 1


def test_what_matters_to_security_is_in_the_audit_log(devices: tuple[Node, Node, Node]) -> None:
    one, other, _ = devices
    until(lambda: "phone" in names(other))
    one.run("device", "revoke", "phone", "--yes")
    until(lambda: "phone" not in names(other))
    kinds = [record["kind"] for record in one.json("audit")]
    assert {"pairing-offered", "paired", "device-added", "device-revoked", "keys-rotated"} <= set(kinds)
    assert "device-revoked" in [record["kind"] for record in other.json("audit")]
    assert "whole" in one.run("audit", "--verify").stdout
    one.down()
    one.up()
    assert len(one.json("audit")) > len(kinds)
    assert "phone is of the account no more" in one.run("audit").stdout


def test_a_device_is_added_by_a_link_and_the_link_is_shown_as_a_qr_code(tmp_path: Path) -> None:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    with running(one, other):
        command = [*SHOAL, "--home", str(one.home), "pair", "--qr"]
        lines: list[str] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shown:
            assert shown.stdout is not None
            while not any("Waiting" in line for line in lines):
                lines.append(shown.stdout.readline())
            shown.kill()
        assert sum(line.count("\u2588") for line in lines) > 100
        link = next(line for line in lines if "shoal://" in line).split("'")[1]
        other.run("pair", link)
        until(lambda: names(one) == {"one", "other"})
        assert "no link" in one.error("pair", "shoal://else/where", code=2)
