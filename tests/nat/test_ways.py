"""Two devices behind routers of their own, and seeds in public: they find each other, connect directly where their
routers allow it, and through a relay where not; and a folder syncs over whichever way there is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from machines import Device, running, until
from netns import Internet, Kind
from nodes import wait_in_sync

pytestmark = pytest.mark.e2e


def joined(one: Device, other: Device, *seeds: Device) -> None:
    """Have one use the seeds, and the other be of its account."""
    for seed in seeds:
        one.run("seed", "add", seed.json("seed", "card")["card"])
    until(lambda: sum("p2p-circuit" in a for a in one.json("status")["device"]["addresses"]) >= len(seeds), 20)
    other.run("pair", one.json("pair")["link"])


def sync(one: Device, other: Device, name: str) -> None:
    """Have a folder go from one to the other."""
    here, there = one.home.with_name(f"{name} here"), one.home.with_name(f"{name} there")
    here.mkdir()
    (here / "small").write_text("small")
    (here / "large").write_bytes(bytes(range(256)) * 8192)
    one.run("folder", "add", str(here), "--name", name)
    other.run("folder", "join", name, str(there))
    wait_in_sync(one, other)
    assert (there / "large").read_bytes() == (here / "large").read_bytes()


PUNCHED: list[tuple[Kind, Kind]] = [("cone", "cone"), ("full", "symmetric")]
PUNCHED_TOO: list[tuple[Kind, Kind]] = [("rst", "cone"), ("full", "cone")]
RELAYED: list[tuple[Kind, Kind]] = [("symmetric", "symmetric")]
RELAYED_TOO: list[tuple[Kind, Kind]] = [("cone", "symmetric")]


def _all(usual: list[tuple[Kind, Kind]], long: list[tuple[Kind, Kind]]) -> list[Any]:
    """Return parameters: those that are tried always, and those that take long in addition."""
    soak = pytest.mark.soak
    return [pytest.param(each, id="-".join(each)) for each in usual] + [
        pytest.param(each, id="-".join(each), marks=soak) for each in long
    ]


@pytest.mark.parametrize("kinds", _all(PUNCHED, PUNCHED_TOO))
def test_they_connect_directly_where_their_routers_allow_it(
    internet: Internet, tmp_path: Path, kinds: tuple[Kind, Kind]
) -> None:
    seed = Device(tmp_path / "seed", internet.host("seed"), is_seed=True)
    one = Device(tmp_path / "one", internet.router("home", kinds[0]).device("one"))
    other = Device(tmp_path / "other", internet.router("office", kinds[1]).device("other"))
    with running(seed, one, other):
        joined(one, other, seed)
        took = until(lambda: (peer := one.peer("other"))["connected"] and not peer["relayed"], 60)
        print(f"{kinds}: direct after {took:.1f} s")
        sync(one, other, "F")


@pytest.mark.parametrize("kinds", _all(RELAYED, RELAYED_TOO))
def test_they_go_through_a_relay_where_their_routers_do_not(
    internet: Internet, tmp_path: Path, kinds: tuple[Kind, Kind]
) -> None:
    seed = Device(tmp_path / "seed", internet.host("seed"), is_seed=True)
    one = Device(tmp_path / "one", internet.router("home", kinds[0]).device("one"))
    other = Device(tmp_path / "other", internet.router("office", kinds[1]).device("other"))
    with running(seed, one, other):
        joined(one, other, seed)
        took = until(lambda: one.peer("other")["connected"], 60)
        print(f"{kinds}: through a relay after {took:.1f} s")
        sync(one, other, "F")
        assert one.peer("other")["relayed"]


def test_behind_ipv6_firewalls_they_connect_directly(internet: Internet, tmp_path: Path) -> None:
    seed = Device(tmp_path / "seed", internet.host("seed"), is_seed=True)
    one = Device(tmp_path / "one", internet.router("home", "firewall6").device("one"))
    other = Device(tmp_path / "other", internet.router("office", "firewall6").device("other"))
    for device in (seed, one, other):
        device.listen = "/ip6/::/tcp/22400"
    with running(seed, one, other):
        joined(one, other, seed)
        until(lambda: (peer := one.peer("other"))["connected"] and not peer["relayed"], 60)
        sync(one, other, "F")


def changes_come(one: Device, other: Device, name: str, seconds: float) -> float:
    """Have a change go from one to the other; return how long it took."""
    here, there = one.home.with_name(f"{name} here"), one.home.with_name(f"{name} there")
    text = str(time.monotonic())
    (here / text).write_text(text)
    return until(lambda: (there / text).exists(), seconds)


def test_when_a_relay_dies_they_go_on_through_another(internet: Internet, tmp_path: Path) -> None:
    seeds = [Device(tmp_path / f"seed{n}", internet.host(f"seed{n}"), is_seed=True) for n in range(2)]
    one = Device(tmp_path / "one", internet.router("home", "symmetric").device("one"))
    other = Device(tmp_path / "other", internet.router("office", "symmetric").device("other"))
    with running(*seeds, one, other):
        joined(one, other, *seeds)
        sync(one, other, "F")
        until(lambda: sum("p2p-circuit" in a for a in other.json("status")["device"]["addresses"]) == 2, 20)
        seeds[0].kill()
        took = changes_come(one, other, "F", 60)
        seeds[0].up()
        until(lambda: sum("p2p-circuit" in a for a in other.json("status")["device"]["addresses"]) == 2, 60)
        seeds[1].machine.cut()  # it vanishes without a word
        print(f"killed: {took:.1f} s, vanished: {changes_come(one, other, 'F', 60):.1f} s")


def test_a_device_in_another_network_is_found_again(internet: Internet, tmp_path: Path) -> None:
    seed = Device(tmp_path / "seed", internet.host("seed"), is_seed=True)
    home, office, hotel = (internet.router(name) for name in ("home", "office", "hotel"))
    one, other = Device(tmp_path / "one", home.device("one")), Device(tmp_path / "other", office.device("other"))
    with running(seed, one, other):
        joined(one, other, seed)
        sync(one, other, "F")
        hotel.attach(one.machine)
        took = changes_come(one, other, "F", 60)
        home.attach(other.machine)
        hotel.attach(one.machine)  # both, at the same time
        print(f"one moved: {took:.1f} s, both: {changes_come(one, other, 'F', 60):.1f} s")


def test_in_a_network_that_leads_nowhere_they_find_each_other(internet: Internet, tmp_path: Path) -> None:
    lan = internet.lan("lan")
    one, other = Device(tmp_path / "one", lan.device("one")), Device(tmp_path / "other", lan.device("other"))
    one.mdns = other.mdns = True
    with running(one, other):
        other.run("pair", one.json("pair")["code"])
        one.down()
        other.down()
        lan.attach(one.machine)  # at another address than is known
        lan.attach(other.machine)
        one.up()
        other.up()
        print(f"found after {until(lambda: one.peer('other')['connected'], 30):.1f} s")


def test_a_seed_that_is_restarted_while_it_relays_costs_seconds_and_nothing_else(
    internet: Internet, tmp_path: Path
) -> None:
    seed = Device(tmp_path / "seed", internet.host("seed"), is_seed=True)
    one = Device(tmp_path / "one", internet.router("home", "symmetric").device("one"))
    other = Device(tmp_path / "other", internet.router("office", "symmetric").device("other"))
    with running(seed, one, other):
        joined(one, other, seed)
        sync(one, other, "F")
        large = os.urandom(48 << 20)
        (tmp_path / "F here" / "larger").write_bytes(large)
        until(lambda: one.peer("other")["sent_per_s"] > 0, 60)
        seed.down()
        seed.up()
        (tmp_path / "F here" / "later").write_text("later")
        wait_in_sync(one, other)
        assert (tmp_path / "F there" / "larger").read_bytes() == large
        assert (tmp_path / "F there" / "later").exists()
