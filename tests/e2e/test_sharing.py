"""Folders shared with other people: contacts, links, roles, and taking all of it back; real daemons."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Node, call_api, pair, running, wait_in_sync

pytestmark = pytest.mark.e2e


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def folder(node: Node) -> Path:
    return node.home.with_name(node.home.name + "-F")


def card(node: Node) -> str:
    made: str = node.json("contact", "card")["card"]
    return made


def offered(node: Node) -> list[Any]:
    found: list[Any] = node.json("shares")["offered"]
    return found


def audit(node: Node, kind: str) -> list[str]:
    return [record["text"] for record in node.json("audit") if record["kind"] == kind]


def text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


@pytest.fixture
def people(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two people with a device each; Anna has a folder F with something in it."""
    anna, ben = Node(tmp_path / "anna"), Node(tmp_path / "ben")
    with running(anna, ben):
        folder(anna).mkdir()
        (folder(anna) / "old").write_text("old")
        anna.run("folder", "add", str(folder(anna)), "--name", "F")
        yield anna, ben


def shared(anna: Node, ben: Node, role: str) -> None:
    """Share F with Ben, and have him keep it."""
    anna.run("share", "F", card(ben), "--role", role)
    until(lambda: bool(offered(ben)) and offered(ben)[0]["folder"] == "F")
    ben.run("accept", "F", str(folder(ben)))
    wait_in_sync(anna, ben)


def test_a_folder_is_offered_to_a_contact_accepted_and_synced_both_ways(people: tuple[Node, Node]) -> None:
    anna, ben = people
    shared(anna, ben, "writer")
    assert text(folder(ben) / "old") == "old"
    (folder(ben) / "from ben").write_text("hello")
    (folder(anna) / "old").write_text("new")
    wait_in_sync(anna, ben)
    assert text(folder(anna) / "from ben") == "hello"
    assert text(folder(ben) / "old") == "new"
    (person,) = [each for each in anna.json("shares")["shared"][0]["people"] if not each["is_you"]]
    assert (person["name"], person["role"], person["accepted"]) == ("ben", "writer", True)


def test_a_link_lets_somebody_in_once(people: tuple[Node, Node], tmp_path: Path) -> None:
    anna, ben = people
    link = anna.json("share", "F", "--link", "--role", "reader")["link"]
    ben.run("accept", link, str(folder(ben)))
    wait_in_sync(anna, ben)
    assert text(folder(ben) / "old") == "old"
    carl = Node(tmp_path / "carl")
    with running(carl):
        assert "used up" in carl.error("accept", link)


def test_what_a_reader_changes_stays_his(people: tuple[Node, Node]) -> None:
    anna, ben = people
    shared(anna, ben, "reader")
    (folder(ben) / "mine").write_text("mine")
    (folder(ben) / "old").write_text("changed")
    (folder(anna) / "more").write_text("more")
    wait_in_sync(anna)
    until(lambda: text(folder(ben) / "more") == "more")
    time.sleep(1)
    assert {path.name for path in folder(anna).iterdir()} == {".shoal", "old", "more"}
    assert text(folder(anna) / "old") == "old"
    assert "receive-only" in ben.error("folder", "mode", "F", "both")
    assert "only an owner" in ben.error("share", "F", card(anna))


PATCH = """
from shoal.node.access import Access

Access.may_write = lambda self, folder: True
Access.limit = lambda self, log, folder: None
"""


def test_a_reader_who_patches_his_client_is_refused_by_all_and_reported(
    people: tuple[Node, Node], tmp_path: Path
) -> None:
    anna, ben = people
    shared(anna, ben, "reader")
    carl = Node(tmp_path / "carl")
    with running(carl):
        shared(anna, carl, "reader")
        ben.down()
        (tmp_path / "patch").mkdir()
        (tmp_path / "patch" / "sitecustomize.py").write_text(PATCH)
        ben.environment = {**os.environ, "PYTHONPATH": str(tmp_path / "patch")}
        ben.up()
        (folder(ben) / "old").write_text("forged")
        (folder(ben) / "planted").write_text("planted")
        ben.run("scan")
        for node in (anna, carl):
            until(lambda node=node: bool(audit(node, "write-refused")))  # type: ignore[misc]
            assert audit(node, "write-refused") == ["ben wrote to F and may not: it was refused"]
        (folder(anna) / "new").write_text("new")
        until(lambda: text(folder(carl) / "new") == "new")
        wait_in_sync(anna, carl)
        for node in (anna, carl):
            assert {path.name for path in folder(node).iterdir()} == {".shoal", "old", "new"}
            assert text(folder(node) / "old") == "old"


def test_who_may_only_read_from_now_on_keeps_what_he_wrote_and_adds_nothing(people: tuple[Node, Node]) -> None:
    anna, ben = people
    shared(anna, ben, "writer")
    (folder(ben) / "written").write_text("ben's")
    wait_in_sync(anna, ben)
    anna.run("share", "F", "ben", "--role", "reader")
    until(lambda: ben.json("status")["folders"][0]["role"] == "reader")
    (folder(ben) / "late").write_text("late")
    (folder(anna) / "written").write_text("anna's")
    until(lambda: text(folder(ben) / "written") == "anna's")
    wait_in_sync(anna)
    assert {path.name for path in folder(anna).iterdir()} == {".shoal", "old", "written"}
    anna.run("share", "F", "ben", "--role", "writer")
    until(lambda: text(folder(anna) / "late") == "late")


def test_who_is_removed_gets_nothing_new_and_gives_nothing_and_keeps_the_files(people: tuple[Node, Node]) -> None:
    anna, ben = people
    shared(anna, ben, "writer")
    (folder(ben) / "kept").write_text("from ben")
    wait_in_sync(anna, ben)
    anna.run("unshare", "F", "ben")
    until(lambda: ben.json("folder", "list") == [])
    (folder(anna) / "secret").write_text("secret")
    (folder(ben) / "late").write_text("late")
    wait_in_sync(anna)
    time.sleep(1)
    assert {path.name for path in folder(ben).iterdir()} == {".shoal", "old", "kept", "late"}
    assert {path.name for path in folder(anna).iterdir()} == {".shoal", "old", "kept", "secret"}
    assert "F has new keys" in audit(anna, "keys-rotated")
    assert audit(ben, "unshared") == ["you have no part in F any more"]
    anna.run("share", "F", "ben", "--role", "writer")
    until(lambda: bool(offered(ben)))
    ben.run("accept", "F", str(folder(ben)))
    wait_in_sync(anna, ben)
    assert text(folder(ben) / "secret") == "secret"
    assert text(folder(anna) / "late") == "late"


def test_a_link_that_expired_was_cancelled_or_is_torn_is_refused_in_a_line(people: tuple[Node, Node]) -> None:
    anna, ben = people
    link = anna.json("share", "F", "--link", "--role", "writer", "--uses", "0", "--expires", "never")["link"]
    assert "a part of it is missing" in ben.error("accept", link[:40], code=2)
    assert "is no link" in ben.error("accept", "shoal://nothing/x", code=2)
    assert "your own account" in anna.error("accept", link, code=2)
    anna.run("unshare", "F", "--link")
    assert "not valid any more" in ben.error("accept", link)
    status, made = call_api(
        anna, "POST", "/api/folders/F/link", (anna.home / "api.token").read_text().strip(), {"valid_s": 1}
    )
    assert status == 200
    time.sleep(1.1)
    assert "expired" in ben.error("accept", made["link"])
    assert "no length of time" in anna.error("share", "F", "--link", "--expires", "soon", code=2)
    assert ben.json("shares") == {"shared": [], "offered": []}


def test_what_cannot_be_shared_is_refused_in_a_line(people: tuple[Node, Node]) -> None:
    anna, ben = people
    assert "no contact card" in anna.error("contact", "add", "shoal://contact/abc", code=2)
    assert "no contact card" in anna.error("contact", "add", "ben", code=2)
    assert "your own card" in anna.error("contact", "add", card(anna), code=2)
    assert "nobody called" in anna.error("share", "F", "ben")
    assert "is no role" in anna.error("share", "F", card(ben), "--role", "boss", code=2)
    assert "no folder 'G'" in anna.error("share", "G", card(ben))
    assert "nothing at" in anna.error("share", "F/nothing", card(ben))
    assert "is not a folder" in anna.error("share", "F/old", card(ben))
    assert "either who" in anna.error("share", "F", code=2)
    assert "nobody shares" in ben.error("accept", "F")
    assert "nobody shares" in ben.error("decline", "F")
    anna.run("contact", "add", card(ben), "--name", "Benny")
    assert "has that role already" in anna.error("unshare", "F", "Benny")
    assert "is not shared" in anna.error("unshare", "F")
    assert [each["name"] for each in anna.json("contact", "list")] == ["Benny"]
    anna.run("contact", "remove", "Benny")
    assert anna.json("contact", "list") == []


def test_an_offer_is_declined(people: tuple[Node, Node]) -> None:
    anna, ben = people
    anna.run("share", "F", card(ben))
    until(lambda: bool(offered(ben)))
    ben.run("decline", "F")
    until(lambda: len(anna.json("shares")["shared"][0]["people"]) == 1)
    assert offered(ben) == []


def test_all_devices_of_both_have_it_also_such_as_are_added_later(people: tuple[Node, Node], tmp_path: Path) -> None:
    anna, ben = people
    shared(anna, ben, "writer")
    phone, tablet = Node(tmp_path / "phone"), Node(tmp_path / "tablet")
    with running(phone, tablet):
        pair(ben, phone)
        pair(anna, tablet)
        for node in (phone, tablet):
            node.run("folder", "join", "F", str(folder(node)))
        wait_in_sync(anna, ben, phone, tablet)
        (folder(phone) / "photo").write_text("photo")
        wait_in_sync(anna, ben, phone, tablet)
        assert text(folder(tablet) / "photo") == "photo"
        assert text(folder(tablet) / "old") == "old"


def test_a_part_of_a_folder_is_shared_without_the_rest(people: tuple[Node, Node], tmp_path: Path) -> None:
    anna, ben = people
    tablet, phone = Node(tmp_path / "tablet"), Node(tmp_path / "phone")
    with running(tablet, phone):
        pair(anna, tablet)
        tablet.run("folder", "join", "F", str(folder(tablet)))
        (folder(anna) / "trips" / "rome").mkdir(parents=True)
        (folder(anna) / "trips" / "rome" / "photo").write_text("rome")
        (folder(anna) / "trips" / "secret plans").write_text("secret")
        wait_in_sync(anna, tablet)
        anna.run("share", "F/trips/rome", card(ben), "--role", "writer")
        until(lambda: bool(offered(ben)))
        ben.run("accept", "rome", str(folder(ben)))
        wait_in_sync(anna, tablet, ben)
        assert {path.name for path in folder(ben).iterdir()} == {".shoal", "photo"}
        (folder(ben) / "from ben").write_text("hello")
        (folder(anna) / "trips" / "rome" / "photo").write_text("rome 2")
        (folder(anna) / "trips" / "later").write_text("later")
        wait_in_sync(anna, tablet, ben)
        until(lambda: text(folder(tablet) / "trips" / "rome" / "from ben") == "hello")
        wait_in_sync(anna, tablet, ben)
        for node in (anna, tablet):
            rome = folder(node) / "trips" / "rome"
            assert {path.name for path in rome.iterdir()} == {".shoal", "photo", "from ben"}
            assert text(rome / "photo") == "rome 2"
            assert text(folder(node) / "trips" / "later") == "later"
        assert text(folder(ben) / "photo") == "rome 2"
        pair(anna, phone)
        phone.run("folder", "join", "F", str(folder(phone)))
        until(lambda: text(folder(phone) / "trips" / "rome" / "from ben") == "hello")
        wait_in_sync(anna, phone)
        assert text(folder(phone) / "trips" / "secret plans") == "secret"
        shared_whole = Node(tmp_path / "carl")
        with running(shared_whole):
            shared(anna, shared_whole, "reader")
            wait_in_sync(anna, shared_whole)
            assert text(folder(shared_whole) / "trips" / "secret plans") == "secret"
            until(lambda: text(folder(shared_whole) / "trips" / "rome" / "from ben") == "hello")
            wait_in_sync(anna, shared_whole)
            anna.run("unshare", "F", "carl")
            until(lambda: shared_whole.json("folder", "list") == [])
        held = b"".join(path.read_bytes() for path in ben.home.rglob("*") if path.is_file())
        assert b"secret plans" not in held


def test_a_part_of_a_shared_folder_is_shared_with_more_and_stays_with_those_who_have_the_whole(
    people: tuple[Node, Node], tmp_path: Path
) -> None:
    anna, ben = people
    (folder(anna) / "rome").mkdir()
    (folder(anna) / "rome" / "photo").write_text("rome")
    shared(anna, ben, "writer")
    carl = Node(tmp_path / "carl")
    with running(carl):
        anna.run("share", "F/rome", card(carl), "--role", "writer")
        until(lambda: bool(offered(carl)))
        carl.run("accept", "rome", str(folder(carl)))
        until(lambda: "rome" in [each["name"] for each in ben.json("folder", "list") if each["joined"]])
        wait_in_sync(anna, ben, carl)
        (folder(ben) / "rome" / "from ben").write_text("ben")
        (folder(carl) / "from carl").write_text("carl")
        (folder(ben) / "outside").write_text("outside")
        wait_in_sync(anna, ben, carl)
        until(lambda: text(folder(ben) / "rome" / "from carl") == "carl")
        assert text(folder(carl) / "from ben") == "ben"
        for node in (anna, ben):
            assert {path.name for path in folder(node).iterdir()} == {".shoal", "old", "rome", "outside"}
            names = {path.name for path in (folder(node) / "rome").iterdir()}
            assert names == {".shoal", "photo", "from ben", "from carl"}
        assert {path.name for path in folder(carl).iterdir()} == {".shoal", "photo", "from ben", "from carl"}


def test_a_holder_passes_changes_on_between_devices_that_never_meet_and_can_read_nothing(
    people: tuple[Node, Node], tmp_path: Path
) -> None:
    anna, ben = people
    tablet = Node(tmp_path / "tablet")
    secrets = {what: f"canary-{what}-{os.urandom(6).hex()}" for what in ("folder", "file", "content")}
    with running(tablet):
        pair(anna, tablet)
        kept, there = tmp_path / "kept", tmp_path / "there"
        kept.mkdir()
        anna.run("folder", "add", str(kept), "--name", secrets["folder"])
        tablet.run("folder", "join", secrets["folder"], str(there))
        anna.run("share", secrets["folder"], card(ben), "--role", "holder")
        until(lambda: bool(offered(ben)))
        ben.run("accept", offered(ben)[0]["folder"])
        wait_in_sync(anna, tablet)
        tablet.down()
        (kept / secrets["file"]).write_text(secrets["content"])
        wait_in_sync(anna)
        anna.down()
        tablet.up()
        until(lambda: secrets["file"] in tablet.run("ls", secrets["folder"]).stdout)
        assert not (there / secrets["file"]).exists()
        ben.kill()
        ben.up()
        anna.up()
        until(lambda: text(there / secrets["file"]) == secrets["content"])
        assert ben.json("shares")["shared"][0]["held_entries"] > 0
        held = b"".join(path.read_bytes() for path in ben.home.rglob("*") if path.is_file())
        for secret in secrets.values():
            assert secret.encode() not in held
        anna.run("share", secrets["folder"], "ben", "--role", "reader")
        until(lambda: [each["folder"] for each in offered(ben)] == [secrets["folder"]])
        ben.run("accept", secrets["folder"], str(folder(ben)))
        until(lambda: text(folder(ben) / secrets["file"]) == secrets["content"])
        anna.run("unshare", secrets["folder"], "ben")
        until(lambda: ben.json("folder", "list") == [])


def test_what_a_writer_wrote_stays_when_he_leaves_also_where_the_owner_is_away(
    people: tuple[Node, Node], tmp_path: Path
) -> None:
    anna, ben = people
    carl = Node(tmp_path / "carl")
    with running(carl):
        shared(anna, ben, "writer")
        shared(anna, carl, "reader")
        (folder(ben) / "early").write_text("early")
        wait_in_sync(anna, ben, carl)
        anna.down()
        (folder(ben) / "late").write_text("late")
        ben.run("scan")
        until(lambda: text(folder(carl) / "late") == "late")
        ben.run("unshare", "F")
        anna.up()
        until(lambda: text(folder(anna) / "late") == "late")
        wait_in_sync(anna, carl)
        for node in (anna, ben, carl):
            assert {path.name for path in folder(node).iterdir()} == {".shoal", "old", "early", "late"}
        assert "ben" not in [each["name"] for each in anna.json("shares")["shared"][0]["people"]]
