"""Whole lives of three devices: see `world`. One that fails prints its seed: `python -m tests.sim --seed N`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def simulate(first: int, count: int) -> None:
    """Run seeds in a process of their own: the order of sets is part of what a seed decides."""
    command = [sys.executable, "-m", "tests.sim", "--seeds", str(first), str(count)]
    done = subprocess.run(
        command, cwd=PROJECT, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_simulated_lives_end_the_same_with_nothing_lost() -> None:
    simulate(0, 60)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_many_simulated_lives_end_the_same(first: int) -> None:
    simulate(first, 100)
