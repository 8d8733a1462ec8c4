"""The life of a family: two accounts, five devices, three shared folders, a theft, a quarrel and a broken laptop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes import Node, pair, running, say, wait_in_sync

pytestmark = pytest.mark.e2e


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def folder(node: Node, name: str) -> Path:
    return node.home.with_name(f"{node.home.name}-{name}")


def write(node: Node, name: str, file: str, text: str) -> None:
    (folder(node, name) / file).write_text(text)


def files(node: Node, name: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder(node, name).iterdir() if path.name != ".shoal"}


def share(owner: Node, name: str, with_: Node, role: str) -> None:
    """Share a folder with an account, and have the device keep it."""
    owner.run("share", name, with_.json("contact", "card")["card"], "--role", role)
    until(lambda: name in [offer["folder"] for offer in with_.json("shares")["offered"]])
    with_.run("accept", name, str(folder(with_, name)))


def roles(node: Node, name: str) -> dict[str, str]:
    (found,) = [each for each in node.json("shares")["shared"] if each["folder"] == name]
    return {person["name"]: person["role"] for person in found["people"]}


def test_the_life_of_a_family(tmp_path: Path) -> None:
    laptop, phone, tower = (Node(tmp_path / name) for name in ("laptop", "phone", "tower"))
    desktop, tablet = Node(tmp_path / "desktop"), Node(tmp_path / "tablet")
    anna, ben = (laptop, phone, tower), (desktop, tablet)
    with running(*anna, *ben):
        say(laptop, "correct horse battery staple\n", "register", "anna")
        for node in (phone, tower):
            pair(laptop, node)
        pair(desktop, tablet)
        words = laptop.json("account", "paper-key")["words"]

        # Three folders: Ben writes to Photos, reads Papers, and had Music first, which Anna owns with him.
        for owner, name in ((laptop, "Photos"), (laptop, "Papers"), (desktop, "Music")):
            folder(owner, name).mkdir()
            write(owner, name, "first", f"{name} by {owner.home.name}")
            owner.run("folder", "add", str(folder(owner, name)), "--name", name)
        share(laptop, "Photos", desktop, "writer")
        share(laptop, "Papers", desktop, "reader")
        share(desktop, "Music", laptop, "owner")
        for node, name in (
            (phone, "Photos"),
            (tower, "Photos"),
            (tower, "Papers"),
            (tablet, "Photos"),
            (phone, "Music"),
        ):
            node.run("folder", "join", name, str(folder(node, name)))
        write(tablet, "Photos", "tablet", "a photo")
        write(desktop, "Papers", "mine", "not for others")
        write(phone, "Music", "song", "la la")
        wait_in_sync(*anna, tablet)
        until(lambda: files(desktop, "Music").get("song") == "la la")
        for node in (laptop, phone, tower, desktop, tablet):
            assert files(node, "Photos") == {"first": "Photos by laptop", "tablet": "a photo"}
        for node in (laptop, tower):
            assert files(node, "Papers") == {"first": "Papers by laptop"}
        assert roles(laptop, "Music") == {"desktop": "owner", "anna": "owner"}

        # The phone is stolen: nobody talks to it any more, in either account, and the keys are new.
        phone.down()
        tower.run("device", "revoke", "phone", "--yes")
        owners = laptop, tower, desktop, tablet
        until(lambda: any("Music has new keys" in said(node, "keys-rotated") for node in owners))
        write(desktop, "Music", "secret song", "for us")
        write(laptop, "Photos", "secret photo", "for us")
        phone.up()
        for name in ("Photos", "Music"):
            write(phone, name, "from the thief", "let me in")
        until(lambda: bool(phone.json("status")["device"]["revoked"]))
        wait_in_sync(laptop, tower, tablet)
        until(lambda: "secret song" in files(laptop, "Music"))
        time.sleep(2)
        assert "secret photo" not in files(phone, "Photos")
        assert "secret song" not in files(phone, "Music")
        for node, name in ((laptop, "Music"), (desktop, "Music"), (tablet, "Photos"), (tower, "Photos")):
            assert "from the thief" not in files(node, name)

        # Ben may not see Papers any more: he keeps what he has.
        laptop.run("unshare", "Papers", "desktop")
        until(lambda: "Papers" not in [each["name"] for each in desktop.json("folder", "list")])
        write(laptop, "Papers", "will", "all to the cat")
        wait_in_sync(laptop, tower)
        assert files(tower, "Papers") == {"first": "Papers by laptop", "will": "all to the cat"}
        assert files(desktop, "Papers") == {"first": "Papers by laptop", "mine": "not for others"}

        # The laptop breaks; a new one has the account by the paper key, and all folders, Ben's too.
        laptop.kill()
        fresh = Node(tmp_path / "fresh")
        with running(fresh):
            address = tower.json("status")["device"]["addresses"][0]
            recovered = say(fresh, f"{words}\n", "recover", "--address", address)
            assert recovered.returncode == 0, recovered.stderr
            until(lambda: {each["name"] for each in fresh.json("folder", "list")} == {"Photos", "Papers", "Music"})
            for name in ("Photos", "Papers", "Music"):
                fresh.run("folder", "join", name, str(folder(fresh, name)))
            until(lambda: "secret song" in files(fresh, "Music"))
            write(fresh, "Photos", "new", "by the new laptop")
            write(fresh, "Music", "new", "by the new laptop")
            until(lambda: "new" in files(desktop, "Music") and "new" in files(tablet, "Photos"))
            wait_in_sync(fresh, tower)
            assert files(fresh, "Papers") == files(tower, "Papers")
            assert roles(fresh, "Photos")["desktop"] == "writer"
            for node in (fresh, tower, desktop, tablet, phone):
                node.run("audit", "--verify")
            assert "desktop has no part in Papers any more" in said(tower, "unshared")
            assert any("phone" in text for text in said(tower, "device-revoked"))


def said(node: Node, kind: str) -> list[str]:
    records: list[dict[str, Any]] = node.json("audit")
    return [record["text"] for record in records if record["kind"] == kind]
