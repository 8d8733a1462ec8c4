"""Devices that need the same share it out: the source sends each chunk little more than once, and whoever is slow,
silent, gone or lying holds nobody up for long. In virtual time, with links of their own."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.transfer.scheduler import Scheduler
from shoal.transfer.shares import Shares

F = b"folder"
SOURCE = b"source"
MIB = 1 << 20
RATE = 12.5 * MIB  # bytes a second of a device's link, each way
TICK = 0.05  # seconds


@dataclass
class Device:
    """One that lacks everything; `slow`: its link is so many times slower."""

    name: bytes
    slow: float = 1.0
    silent: bool = False  # it tells nobody what it has
    toggles: bool = False  # it says every other second that it needs nothing, and at once that it does
    lies: bool = False  # it says that it has everything, and has nothing
    joins: float = 0.0
    leaves: float = float("inf")
    scheduler: Scheduler = field(default_factory=Scheduler)
    has: set[bytes] = field(default_factory=set)
    told: set[bytes] = field(default_factory=set)
    owed: dict[bytes, list[bytes]] = field(default_factory=dict)  # holder -> chunks on their way, in order
    done_at: float | None = None


def run(devices: list[Device], chunks: dict[bytes, int], limit: float = 600.0) -> tuple[Counter[bytes], float]:
    """Let them fetch; return what the source sent, by chunk, and when the last was done."""
    sent: Counter[bytes] = Counter()
    credit: dict[tuple[bytes, bytes], float] = defaultdict(float)
    present: set[bytes] = set()
    now = 0.0
    by_name = {device.name: device for device in devices}
    while any(d.done_at is None and d.joins <= now < d.leaves for d in devices) or now < max(d.joins for d in devices):
        now += TICK
        assert now < limit, [(d.name, len(d.has)) for d in devices]
        for device in devices:
            if device.name not in present and device.joins <= now < device.leaves:
                present.add(device.name)
                device.scheduler.want(F, chunks.items())
                device.scheduler.holder_joined(SOURCE, SOURCE)
                for name in present - {device.name}:
                    device.scheduler.holder_joined(name, name)
                    by_name[name].scheduler.holder_joined(device.name, device.name)
            if device.name in present and now >= device.leaves:
                present.discard(device.name)
                for left in devices:
                    left.scheduler.holder_left(device.name)
                    left.owed.pop(device.name, None)
        needing = {name for name in present if by_name[name].done_at is None}
        toggling = {name for name in needing if by_name[name].toggles and now % 2 < TICK}
        for device in (by_name[name] for name in sorted(present)):
            if toggling:
                device.scheduler.set_rivals(F, device.name, needing - {device.name} - toggling, now)
            device.scheduler.set_rivals(F, device.name, needing - {device.name}, now)
            fresh = set(chunks) - device.told if device.lies else device.has - device.told
            if fresh and not device.silent:
                device.told |= fresh
                for other in needing - {device.name}:
                    by_name[other].scheduler.on_have(device.name, F, sorted(fresh), now)
        for device in (by_name[name] for name in sorted(needing)):
            for holder in [SOURCE, *sorted(present - {device.name})]:
                while (request := device.scheduler.next_request(holder, 4 * MIB, now)) is not None:
                    device.owed.setdefault(holder, []).extend(request.ids)
        busy = Counter(h for d in devices for h, owed in d.owed.items() if owed)
        for device in (by_name[name] for name in sorted(needing)):
            taking = sum(1 for owed in device.owed.values() if owed)
            for holder, owed in device.owed.items():
                if not owed:
                    continue
                slow = by_name[holder].slow if holder in by_name else 1.0
                share = min(RATE / slow / busy[holder], RATE / device.slow / taking)
                credit[device.name, holder] += share * TICK
                device.scheduler.heard(holder, now)
                while owed and (
                    credit[device.name, holder] >= chunks[owed[0]] or owed[0] not in _of(by_name, holder, chunks)
                ):
                    chunk = owed.pop(0)
                    if chunk not in _of(by_name, holder, chunks):
                        device.scheduler.on_missing(holder, F, chunk)
                        continue
                    credit[device.name, holder] -= chunks[chunk]
                    if holder == SOURCE:
                        sent[chunk] += chunks[chunk]
                    device.scheduler.on_chunk(F, chunk, holder, chunks[chunk], now)
                    device.has.add(chunk)
                if not owed:
                    credit[device.name, holder] = 0.0
            if len(device.has) == len(chunks):
                device.done_at = now
    return sent, now


def _of(by_name: dict[bytes, Device], holder: bytes, chunks: dict[bytes, int]) -> set[bytes]:
    return by_name[holder].has if holder in by_name else set(chunks)


def content(rng: random.Random, count: int) -> dict[bytes, int]:
    return {rng.randbytes(32): rng.randint(MIB // 2, 2 * MIB) for _ in range(count)}


@pytest.mark.parametrize("seed", range(5))
def test_the_source_sends_little_more_than_once_and_all_are_done_with_little_delay(seed: int) -> None:
    chunks = content(random.Random(seed), 160)
    size = sum(chunks.values())
    sent, seconds = run([Device(b"device %d" % number) for number in range(4)], chunks)
    assert sent.total() <= 1.15 * size
    assert seconds <= 1.25 * size / RATE


def test_one_that_is_slow_delays_itself_alone() -> None:
    chunks = content(random.Random(7), 120)
    devices = [Device(b"a"), Device(b"b"), Device(b"slow", slow=20)]
    run(devices, chunks)
    quick = [device.done_at or 0.0 for device in devices[:2]]
    assert max(quick) <= 3 * sum(chunks.values()) / RATE


@pytest.mark.parametrize("how", ["silent", "lies", "leaves", "toggles"])
def test_one_that_says_nothing_lies_leaves_or_comes_and_goes_holds_nobody_up_for_long(how: str) -> None:
    chunks = content(random.Random(8), 120)
    bad = Device(b"bad", silent=how in ("silent", "toggles"), toggles=how == "toggles", lies=how == "lies")
    bad.leaves = {"leaves": 4.0, "toggles": 100.0}.get(how, float("inf"))
    bad.slow = 1000.0 if how == "toggles" else 1.0
    devices = [Device(b"a"), Device(b"b"), bad]
    run(devices, chunks)
    good = [device.done_at or 0.0 for device in devices[:2]]
    assert max(good) <= 3 * sum(chunks.values()) / RATE + 10


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_they_do_everyone_who_stays_gets_everything(seed: int) -> None:
    rng = random.Random(seed)
    devices = [
        Device(
            b"device %d" % number,
            slow=rng.choice([1, 1, 3, 15]),
            silent=rng.random() < 0.2,
            toggles=rng.random() < 0.2,
            lies=rng.random() < 0.15,
            joins=rng.choice([0.0, 0.0, 3.0]),
            leaves=rng.choice([float("inf"), float("inf"), rng.random() * 6]),
        )
        for number in range(rng.randint(1, 4))
    ]
    run(devices, content(rng, rng.randint(1, 40)))
    assert all(device.done_at is not None for device in devices if device.leaves == float("inf"))


@given(
    st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=6, unique=True),
    st.binary(min_size=32, max_size=32),
)
def test_every_device_computes_the_same_owner(devices: list[bytes], chunk: bytes) -> None:
    owners = set()
    for own in devices:
        shares = Shares(own)
        shares.set_rivals([each for each in devices if each != own], 0.0)
        owners.add(shares.owner(chunk))
    assert len(owners) == 1


def test_shares_are_about_equal() -> None:
    rng = random.Random(1)
    shares = Shares(b"device 0")
    shares.set_rivals([b"device %d" % number for number in range(1, 5)], 0.0)
    owners = Counter(shares.owner(rng.randbytes(32)) for _ in range(5000))
    assert len(owners) == 5
    assert max(owners.values()) < 1.2 * min(owners.values())
