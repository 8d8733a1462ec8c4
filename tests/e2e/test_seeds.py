"""Always-on seeds: what they hold for others without being able to read it, whom they serve, and who finds whom."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from nodes import Node, Seed, free_port, pair, running, until, wait_in_sync

pytestmark = pytest.mark.e2e


@pytest.fixture
def seed(tmp_path: Path) -> Iterator[Seed]:
    made = Seed(tmp_path / "seed")
    with running(made):
        yield made


def folders_at(node: Node) -> dict[str, bool]:
    """Return the folders that a node's first seed holds, and whether it has all there is of them."""
    return {each["folder"]: each["up_to_date"] for each in node.json("seed", "list")[0]["folders"]}


def test_a_device_hears_from_the_seed_what_happened_while_every_other_one_is_off(tmp_path: Path, seed: Seed) -> None:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    (tmp_path / "photos").mkdir()
    with running(one, other):
        one.run("seed", "add", seed.card)
        pair(one, other)
        one.run("folder", "add", str(tmp_path / "photos"))
        other.run("folder", "join", "photos", str(tmp_path / "photos there"))
        wait_in_sync(one, other)
        other.down()
        (tmp_path / "photos" / "canary beach").write_text("canary waves")
        (tmp_path / "secret papers").mkdir()
        one.run("folder", "add", str(tmp_path / "secret papers"))
        one.run("scan")
        until(lambda: folders_at(one) == {"photos": True, "secret papers": True})
        one.down()
        other.up()
        until(lambda: {each["name"] for each in other.json("folder", "list")} == {"photos", "secret papers"})
        until(lambda: other.json("status")["folders"][0]["needed_files"] == 1)
    for path in seed.home.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        for canary in (b"canary", b"secret papers", b"photos"):
            assert canary not in data, f"the seed can read {canary!r} in {path}"


def test_a_closed_seed_serves_whom_it_allows_and_nobody_else(tmp_path: Path) -> None:
    closed, one = Seed(tmp_path / "closed"), Node(tmp_path / "one")
    closed.options = ("--closed",)
    (tmp_path / "f").mkdir()
    with running(closed, one):
        one.run("folder", "add", str(tmp_path / "f"))
        one.run("seed", "add", closed.card)
        time.sleep(3)
        assert one.json("seed", "list")[0]["folders"][0]["accepted"] is False
        assert closed.json("seed", "status")["held_folders"] == 0
        closed.run("seed", "allow", one.json("contact", "card")["card"])
        until(lambda: folders_at(one) == {"f": True})
        account = closed.json("seed", "status")["accounts"][0]
        assert account["folders"] == 1
        assert account["used"] > 0
        closed.run("seed", "deny", account["id"], "--yes")
        until(lambda: closed.json("seed", "status")["held_bytes"] == 0)


def test_a_seed_takes_no_more_of_an_account_than_its_quota(tmp_path: Path, seed: Seed) -> None:
    one = Node(tmp_path / "one")
    folder = tmp_path / "f"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number} {'long name ' * 15}").write_text(str(number))
    with running(one):
        seed.run("seed", "set", "--quota", "2K")
        one.run("folder", "add", str(folder))
        one.run("seed", "add", seed.card)
        until(lambda: one.json("seed", "list")[0]["folders"][0]["accepted"])
        time.sleep(2)
        assert seed.json("seed", "status")["held_bytes"] <= 2000
        assert folders_at(one) == {"f": False}
        seed.run("seed", "set", "--quota", "1G")
        until(lambda: folders_at(one) == {"f": True})


def test_a_seed_that_was_lost_comes_back_on_another_machine_by_its_backup(tmp_path: Path) -> None:
    old, one = Seed(tmp_path / "old"), Node(tmp_path / "one")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").write_text("x")
    with running(old, one):
        one.run("seed", "add", old.card)
        one.run("folder", "add", str(tmp_path / "f"))
        until(lambda: folders_at(one) == {"f": True})
        old.run("seed", "backup", str(tmp_path / "identity"))
        assert (tmp_path / "identity").stat().st_mode & 0o77 == 0
        card = old.card
        old.kill()
        new = Seed(tmp_path / "new")
        new.listen = old.listen
        new.run("seed", "restore", str(tmp_path / "identity"))
        with running(new):
            assert new.card == card
            until(lambda: one.json("seed", "list")[0]["connected"])
            until(lambda: folders_at(one) == {"f": True})


def test_two_devices_that_both_moved_find_each_other_by_the_dht(tmp_path: Path) -> None:
    stranger = Node(tmp_path / "stranger")  # serves the DHT, and has nothing to do with them
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    with running(stranger):
        stranger.down()
        stranger.up("--dht", "server")
        known = stranger.json("status")["device"]["addresses"][0]
        for node in (one, other):
            node.up("--bootstrap", known)
        try:
            pair(one, other)
            until(lambda: all(node.json("dht", "status")["announced"] for node in (one, other)))
            for node in (one, other):
                node.down()
                node.listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
            for node in (one, other):
                node.up("--bootstrap", known)
            until(lambda: one.json("peers")[0]["connected"])
        finally:
            one.down()
            other.down()


def test_a_banned_peer_is_left_and_comes_back_when_the_ban_is_lifted(tmp_path: Path) -> None:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    with running(one, other):
        pair(one, other)
        until(lambda: one.json("peers")[0]["connected"])
        one.run("peers", "ban", "other", "--reason", "it floods")
        until(lambda: not one.json("peers")[0]["connected"])
        time.sleep(3)
        assert not one.json("peers")[0]["connected"], "it may connect no more"
        assert [(each["name"], each["reason"]) for each in one.json("peers", "bans")] == [("other", "it floods")]
        one.down()
        one.up()
        assert len(one.json("peers", "bans")) == 1
        one.run("peers", "unban", "other")
        until(lambda: one.json("peers")[0]["connected"])


def test_what_was_announced_is_found_by_others(tmp_path: Path, seed: Seed) -> None:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    known = seed.json("status")["device"]["addresses"][0]
    try:
        one.up("--bootstrap", known)
        other.up("--bootstrap", known)
        one.run("dht", "announce", "text:a pack")
        until(lambda: other.json("dht", "find", "text:a pack"))
        found = other.json("dht", "find", "text:a pack")
        assert [each["peer"] for each in found] == [one.json("status")["device"]["id"]]
    finally:
        one.down()
        other.down()


def test_health_and_metrics_are_there_without_a_token(seed: Seed) -> None:
    with urlopen(f"http://{seed.api}/api/health", timeout=10) as answer:
        assert json.loads(answer.read())["ok"]
    with urlopen(f"http://{seed.api}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert "shoal_dht_serves 1\n" in text
    assert "# TYPE shoal_dht_questions_total counter\n" in text


def test_a_unit_for_systemd_runs_this_seed(tmp_path: Path) -> None:
    lines = Seed(tmp_path / "seed").run("seed", "unit").stdout.splitlines()
    start = next(line for line in lines if line.startswith("ExecStart="))
    assert start.endswith(f" --home {tmp_path / 'seed'} seed up --foreground")
    assert f"ReadWritePaths={tmp_path / 'seed'}" in lines
    assert "Restart=always" in lines


def test_what_makes_no_sense_gets_one_line(tmp_path: Path, seed: Seed) -> None:
    assert "card" in seed.error("seed", "add", "nonsense", code=2)
    assert "no seed" in seed.error("seed", "remove", "nobody")
    assert "no key" in seed.error("dht", "find", "zz", code=2)
    assert "no peer" in seed.error("peers", "ban", "nobody")
    assert "no size" in seed.error("seed", "set", "--quota", "much", code=2)
    assert "nothing" in seed.error("seed", "set", code=2)
    assert "no account" in seed.error("seed", "deny", "nobody", "--yes")
    assert "identity already" in seed.error("seed", "restore", str(_backup(seed, tmp_path)), code=1)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"garbage")
    assert "no identity" in Seed(tmp_path / "new").error("seed", "restore", str(garbage))
    fresh = Node(tmp_path / "fresh")
    assert "peer id" in fresh.error("up", "--bootstrap", "/ip4/127.0.0.1/tcp/1", code=2)


def _backup(seed: Seed, place: Path) -> Path:
    file = place / "backup"
    seed.run("seed", "backup", str(file))
    assert "there already" in seed.error("seed", "backup", str(file))
    seed.down()
    return file
