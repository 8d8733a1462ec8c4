"""Whole lives of three devices: see `world`. One that fails prints its seed: `python -m tests.sim --seed N`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
CI_SEEDS = [(0, 250), (250, 250)]  # first and count, a process each
# Those that found a fault once.
FOUND = [686, 689, 699, 1015, 1106, 1132, 1407, 1452, 1489, 1501, 1771, 1794, 1882, 2035, 2081, 2137, 2209, 4149, 4209]
FOUND += [4601, 4941, 4978, 5136, 9305]
ODD_SEEDS = [(0, 36), (36, 36)]  # all with disks that do not hold all names
CHEAP = ["replace-without-looking", "order-by-mtime", "delete-beats-edit"]  # rules whose breaking shows at once
ODD = {"take-all-disks-for-ordinary": 0, "forget-twins": 100}  # the first seed, with disks that do not hold all names
COSTLY = [
    "remove-without-looking",
    "place-without-sync",
    "forget-before-durable",
    "edit-replaces-the-unseen",
    "trust-inodes",
    "read-too-soon",
    "store-without-sync",
    "no-intentions",
    "unknown-kept-files",
    "places-by-arrival",
]


def start(*options: str) -> subprocess.Popen[str]:
    """Run in a process of its own: the order of sets is part of what a seed decides."""
    command = [sys.executable, "-m", "tests.sim", *options]
    env = os.environ | {"PYTHONHASHSEED": "0"}
    return subprocess.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def simulate(*options: str) -> tuple[int, str]:
    process = start(*options)
    said, _ = process.communicate()
    return process.returncode, said


def test_simulated_lives_end_the_same_with_nothing_lost() -> None:
    check_all([start("--seeds", str(first), str(count)) for first, count in CI_SEEDS])


def test_lives_with_disks_that_do_not_hold_all_names_end_the_same() -> None:
    check_all([start("--odd-disks", "--seeds", str(first), str(count)) for first, count in ODD_SEEDS])


def check_all(processes: list[subprocess.Popen[str]]) -> None:
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)


def test_seeds_that_found_a_fault_once_find_none() -> None:
    processes = [start("--only", *map(str, part)) for part in (FOUND[::2], FOUND[1::2])]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)


def test_a_seed_replays_exactly_to_the_last_system_call() -> None:
    (code, one), (_, other) = simulate("--seed", "3"), simulate("--seed", "3")
    assert code == 0
    assert "all calls" in one
    assert one == other


@pytest.mark.parametrize("rule", CHEAP)
def test_a_broken_rule_is_noticed(rule: str) -> None:
    code, said = simulate("--mutation", rule, "--seeds", "0", "30")
    assert code == 1, said


@pytest.mark.parametrize("rule", ODD)
def test_a_broken_rule_for_disks_that_do_not_hold_all_names_is_noticed(rule: str) -> None:
    code, said = simulate("--mutation", rule, "--odd-disks", "--seeds", str(ODD[rule]), "90")
    assert code == 1, said


@pytest.mark.soak
def test_a_failure_is_minimised_to_the_operations_that_matter() -> None:
    (_, whole), (_, found) = (
        simulate("--mutation", "order-by-mtime", "--seed", "1", *options) for options in (["--whole"], [])
    )
    assert found.split(":")[:2] == whole.split(":")[:2]
    assert len(found.splitlines()) < len(whole.splitlines()) / 2


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 10_000, 250))
def test_many_simulated_lives_end_the_same(first: int) -> None:
    code, said = simulate("--seeds", str(first), "250")
    assert code == 0, said


@pytest.mark.soak
@pytest.mark.parametrize("rule", [*CHEAP, *COSTLY])
def test_each_broken_rule_is_noticed_within_two_thousand_seeds(rule: str) -> None:
    code, said = simulate("--mutation", rule, "--seeds", "0", "2000")
    assert code == 1, said
