"""Twelve holders in three zones, each in a network of its own: some die with their disks, and the others mend that."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from machines import Device, until
from netns import Internet, why_not
from nodes import SHOAL

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.soak,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.timeout(3600),
]

ZONES = ("home", "office", "cloud")
MIB = int(os.environ.get("SHOAL_REPLICA_MIB", "192"))
GRACE = "20s"


class Holder(Device):
    """A seed in a zone."""

    zone = ""

    @property
    def card(self) -> str:
        return str(self.json("seed", "card")["card"])

    @property
    def pieces(self) -> dict[str, int]:
        """The pieces on its disk, with their sizes."""
        found = {}
        for path in (self.home / "packs").rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.suffix[1:].isdigit():
                    found[path.name] = path.stat().st_size
        return found

    def received(self) -> int:
        """Bytes of pieces that came since its start."""
        return int(self.json("offer")["bytes_since_start"].get("repair_received", 0))


@contextmanager
def zones(tmp_path: Path, count: int) -> Iterator[tuple[Device, list[Holder], Internet]]:
    """Have a device with the files, and holders in three zones."""
    with Internet() as net:
        one = Device(tmp_path / "one", net.host("one"))
        holders = []
        for number in range(count):
            zone = ZONES[number % 3]
            holder = Holder(tmp_path / f"h{number}", net.host(f"h{number}"), is_seed=True)
            holder.zone = zone
            holders.append(holder)
        try:
            for device in (one, *holders):
                device.up()
            for holder in holders:
                holder.run("seed", "set", "--quota", "100G")
                holder.run("offer", "--zone", holder.zone)
            one.run("offer", "--zone", "home")
            yield one, holders, net
        finally:
            for device in (one, *holders):
                device.down()


def fill(folder: Path) -> dict[str, str]:
    """Write files, MIB in all; return their digests."""
    rng = random.Random(1)
    folder.mkdir()
    known = {}
    size = max(1, MIB // 16)
    for number in range(16):
        digest = hashlib.sha256()
        with (folder / f"file {number}").open("wb") as file:
            for _ in range(size):
                data = rng.randbytes(1 << 20)
                file.write(data)
                digest.update(data)
        known[f"file {number}"] = digest.hexdigest()
    return known


def state(one: Device) -> dict[str, Any]:
    """Return what a node says of its first folder's replicas."""
    return dict(one.json("durability")[0])


def settled(one: Device) -> bool:
    said = state(one)
    return bool(said["packs"]) and not said["chunks_not_packed"] and not said["not_as_policy"]


def back(holders: list[Holder], words: str, net: Internet, tmp_path: Path, known: dict[str, str]) -> float:
    """Have everything back on a new device from seeds alone; return after how many seconds."""
    new = Device(tmp_path / "new", net.host("new"))
    new.up()
    try:
        began = time.monotonic()
        command = [*new.prefix, *SHOAL, "--home", str(new.home), "recover", "--seed", holders[0].card]
        subprocess.run(command, input=words, text=True, check=True, timeout=120)
        for holder in holders[1:]:
            new.run("seed", "add", holder.card)
        new.run("folder", "join", "f", str(tmp_path / "back"))

        def same() -> bool:
            for name, digest in known.items():
                path = tmp_path / "back" / name
                if not path.exists():
                    return False
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        return False
            return True

        until(lambda: len(list((tmp_path / "back").glob("file*"))) == len(known), 1200)
        assert same()
        return time.monotonic() - began
    finally:
        new.down()


@pytest.mark.parametrize(("policy", "deaths"), [("copies", 2), ("erasure", 3)])
def test_nothing_is_lost_with_holders_and_what_they_held_is_elsewhere_soon(
    tmp_path: Path, policy: str, deaths: int
) -> None:
    rng = random.Random(2)
    with zones(tmp_path, 12) as (one, holders, net):
        known = fill(tmp_path / "f")
        words = one.json("account", "paper-key")["words"]
        one.run("folder", "add", str(tmp_path / "f"))
        said = ("--copies", "3", "--min-zones", "2") if policy == "copies" else ("--erasure", "6+3", "--min-zones", "3")
        one.run("folder", "policy", "f", *said, "--grace", GRACE)
        for holder in holders:
            one.run("seed", "add", holder.card)
        placed = until(lambda: settled(one), 1800)
        each = 2 if policy == "copies" else 9

        def seen() -> list[set[str]]:
            return [set(holder.pieces) for holder in holders]

        def is_exact() -> bool:
            before = seen()
            held = sum(map(len, before))
            if not settled(one) or held != each * int(state(one)["packs"]):
                return False
            time.sleep(15)
            return seen() == before

        until(is_exact, 900)  # what was placed before all holders were known, or was packed anew, is gone
        packs = state(one)["packs"]
        whole = state(one)["bytes"]
        one.down()  # the files are of no help, and count as a copy no more once the grace period is over
        dead = rng.sample([holder for holder in holders if holder.pieces], deaths)
        left = [holder for holder in holders if holder not in dead]
        before = {holder: holder.received() for holder in left}
        lost: dict[str, list[int]] = {}
        for holder in dead:
            for name, size in holder.pieces.items():
                lost.setdefault(name.split(".")[0], []).append(size)
            holder.kill()
            shutil.rmtree(holder.home)
        least = sum(sum(sizes) if policy == "copies" else sizes[0] * (6 + len(sizes) - 1) for sizes in lost.values())
        least += whole if policy == "copies" else 0
        wanted = packs * (3 if policy == "copies" else 9)
        began = time.monotonic()
        until(lambda: sum(len(holder.pieces) for holder in left) >= wanted, 1800)
        took = time.monotonic() - began
        received = sum(holder.received() - before[holder] for holder in left)
        restored = back(left, words, net, tmp_path, known)
        print(
            f"\n{policy}: {MIB} MiB in {packs} packs, placed after {placed:.1f} s; {deaths} of 12 holders died, mended"
            f" after {took:.1f} s with {received / 2**20:.1f} MiB, {received / max(1, least):.2f} times the least;"
            f" all back on a new device after {restored:.1f} s"
        )
        assert received <= 1.3 * least
