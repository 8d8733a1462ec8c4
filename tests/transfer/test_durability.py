"""How likely a pack is lost: the formula, and what chance does."""

from __future__ import annotations

import math
import random

import pytest

from shoal.transfer.durability import YEAR, mean_years_to_loss, yearly_loss


def lived(pieces: int, needed: int, failures: float, repair_days: float, rng: random.Random) -> float:
    """Return after how many years a pack is lost, by chance."""
    lost, years = 0, 0.0
    repairs = YEAR / repair_days
    while lost <= pieces - needed:
        fails, mends = (pieces - lost) * failures, lost * repairs
        years += rng.expovariate(fails + mends)
        lost += 1 if rng.random() < fails / (fails + mends) else -1
    return years


@pytest.mark.parametrize(("pieces", "needed"), [(1, 1), (2, 1), (3, 1), (5, 3)])
def test_the_mean_time_is_that_of_many_lives(pieces: int, needed: int) -> None:
    rng = random.Random(7)
    lives = [lived(pieces, needed, 2.0, 60, rng) for _ in range(4000)]
    expected = mean_years_to_loss(pieces, needed, 2.0, 60)
    assert sum(lives) / len(lives) == pytest.approx(expected, rel=0.1)


def test_one_copy_is_lost_as_often_as_its_holder() -> None:
    assert yearly_loss(1, 1, 0.05, 1) == pytest.approx(-math.expm1(-0.05))


def test_more_copies_and_quicker_repair_lose_less() -> None:
    assert yearly_loss(3, 1, 0.05, 2) < yearly_loss(2, 1, 0.05, 2)
    assert yearly_loss(2, 1, 0.05, 1) < yearly_loss(2, 1, 0.05, 2)


@pytest.mark.parametrize(("pieces", "needed", "failures", "days"), [(1, 2, 0.1, 1), (2, 0, 0.1, 1), (2, 1, 0, 1)])
def test_what_makes_no_sense_is_refused(pieces: int, needed: int, failures: float, days: float) -> None:
    with pytest.raises(ValueError, match="have to be"):
        yearly_loss(pieces, needed, failures, days)
