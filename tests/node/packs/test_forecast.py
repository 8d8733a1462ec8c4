"""When a holder runs full, by what it used: with the error shown, and nothing said where nothing can be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.packs.forecast import DAY, MOST_DAYS, Sample, forecast, record, samples

GB = 10**9


def grown(days: int, daily: float, noise: float = 0.0, weekly: float = 0.0, offered: int = 100 * GB) -> list[Sample]:
    rng = random.Random(days)
    return [
        Sample(day * DAY, int(10 * GB + daily * day + weekly * (day % 7 == 6) + rng.gauss(0, noise)), offered)
        for day in range(days)
    ]


@given(st.integers(20, 200), st.floats(0.1, 2))
def test_what_grows_by_as_much_each_day_runs_full_when_that_says(days: int, daily: float) -> None:
    found = forecast(grown(days, daily * GB))
    assert found is not None
    left = 90 * GB - daily * GB * (days - 1)
    if 0 < left / (daily * GB) < 60:
        assert found.full_in is not None
        assert found.full_in == pytest.approx(left / (daily * GB), rel=0.25, abs=2)


def test_the_day_lies_in_the_band() -> None:
    found = forecast(grown(60, 1 * GB, noise=0.3 * GB))
    assert found is not None
    assert found.earliest is not None
    assert found.full_in is not None
    assert found.earliest <= found.full_in <= (found.latest or 1000)
    assert found.earliest <= 31 <= (found.latest or 1000)
    assert found.error > 0


def test_what_does_not_grow_never_runs_full() -> None:
    found = forecast(grown(60, 0))
    assert found is not None
    assert found.full_in is None
    assert found.add == 0


def test_what_comes_and_goes_by_the_week_is_not_taken_for_growth() -> None:
    found = forecast(grown(63, 0, weekly=20 * GB))
    assert found is not None
    assert found.seasonal
    assert abs(found.daily) < 0.2 * GB


def test_what_is_advised_lasts_for_half_a_year() -> None:
    found = forecast(grown(60, 0.5 * GB))
    assert found is not None
    assert 10 * GB + 0.5 * GB * 59 + found.daily * 100 < 100 * GB + found.add < 200 * GB


@pytest.mark.parametrize("days", [0, 1, 4])
def test_of_a_few_days_nothing_is_said(days: int) -> None:
    assert forecast(grown(days, 1 * GB)) is None


@given(st.randoms())
def test_the_order_of_samples_and_their_number_in_a_day_do_not_matter(rng: random.Random) -> None:
    known = grown(30, 1 * GB)
    doubled = [*known, *known]
    rng.shuffle(doubled)
    assert forecast(doubled) == forecast(known)


def test_days_that_nobody_saw_are_between_those_before_and_after() -> None:
    known = grown(60, 1 * GB)
    found, whole = forecast(known[:20] + known[40:]), forecast(known)
    assert found is not None
    assert whole is not None
    assert found.full_in == whole.full_in


def test_a_history_has_the_last_of_each_day_and_two_years_at_most() -> None:
    history = None
    for day in range(MOST_DAYS + 50):
        history = record(history, Sample(day * DAY + 10, day, 1000))
        history = record(history, Sample(day * DAY + 20, day + 1, 1000))
    found = samples(history)
    assert len(found) == MOST_DAYS
    assert found[-1].used == MOST_DAYS + 50


def test_a_clock_that_went_back_harms_one_day() -> None:
    history = None
    for sample in grown(30, 1 * GB):
        history = record(history, sample)
    jumped = record(history, Sample(3 * DAY, 0, 100 * GB))
    assert len(samples(jumped)) == 30
