"""When a holder runs full, by what it used: with the error shown, and nothing said where nothing can be."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.packs.forecast import DAY, LASTS, MOST_DAYS, Forecast, Sample, forecast, record, samples

GB = 10**9


def grown(
    days: int, daily: float, noise: float = 0.0, weekly: float = 0.0, offered: int = 100 * GB, seed: int = 0
) -> list[Sample]:
    rng = random.Random(seed or days)
    return [
        Sample(day * DAY, int(10 * GB + daily * day + weekly * (day % 7 == 6) + rng.gauss(0, noise)), offered)
        for day in range(days)
    ]


def of(known: list[Sample], now: float | None = None) -> Forecast:
    found = forecast(known, now)
    assert found is not None
    return found


@given(st.integers(20, 200), st.floats(0.1, 2))
def test_what_grows_by_as_much_each_day_runs_full_when_that_says(days: int, daily: float) -> None:
    found = of(grown(days, daily * GB))
    left = 90 * GB - daily * GB * (days - 1)
    if 0 < left / (daily * GB) < 60:
        assert found.full_in is not None
        assert found.full_in == pytest.approx(left / (daily * GB), abs=2)


def test_the_day_lies_in_the_band() -> None:
    found = of(grown(60, 1 * GB, noise=0.3 * GB))
    assert found.earliest is not None
    assert found.full_in is not None
    assert found.earliest <= found.full_in <= (found.latest or 1000)
    assert found.earliest <= 31 <= (found.latest or 1000)
    assert found.error > 0


@pytest.mark.parametrize("days", [30, 60])
def test_of_many_that_grow_few_run_full_outside_the_band_and_fewer_before_it(days: int) -> None:
    outside, before, count = 0, 0, 100
    for seed in range(count):
        rng = random.Random(seed)
        use = [10.0 * GB]
        while use[-1] < 60 * GB:
            use.append(use[-1] + max(0.0, rng.gauss(0.4 * GB, 0.4 * GB)))
        found = of([Sample(day * DAY, int(used), 60 * GB) for day, used in enumerate(use[:days])])
        full_in = len(use) - days
        before += full_in < (found.earliest or math.inf)
        outside += not (found.earliest or math.inf) <= full_in <= (found.latest or math.inf)
    assert outside / count < 0.3
    assert before / count < 0.2


@given(st.integers(1, 10**6))
def test_the_earliest_comes_first_and_the_latest_last(seed: int) -> None:
    found = of(grown(40, 0.5 * GB, noise=1 * GB, seed=seed))
    earliest, full, latest = (at or math.inf for at in (found.earliest, found.full_in, found.latest))
    assert earliest <= full <= latest


@given(st.integers(5, 200), st.integers(0, 99 * GB))
def test_what_does_not_grow_never_runs_full(days: int, used: int) -> None:
    found = of([Sample(day * DAY, used, 100 * GB) for day in range(days)])
    assert (found.full_in, found.full_on, found.earliest, found.add, found.advice) == (None, None, None, 0, None)


def test_what_no_longer_grows_does_not_run_full() -> None:
    found = of([Sample(day * DAY, 10 * GB + min(day, 30) * GB, 100 * GB) for day in range(90)])
    assert found.full_in is None


def test_what_is_full_is_full_tomorrow() -> None:
    assert of([Sample(day * DAY, 100 * GB, 100 * GB) for day in range(30)]).full_in == 1


def test_what_comes_and_goes_by_the_week_is_not_taken_for_growth() -> None:
    found = of(grown(63, 0, weekly=20 * GB))
    assert found.seasonal
    assert abs(found.daily) < 0.2 * GB
    assert found.full_in is None


@pytest.mark.parametrize(("days", "seasonal"), [(20, False), (21, True)])
def test_a_week_is_looked_for_from_three_of_them_on(days: int, seasonal: bool) -> None:
    assert of(grown(days, 0, weekly=20 * GB)).seasonal is seasonal


def test_what_is_advised_lasts_for_half_a_year() -> None:
    known = grown(60, 0.5 * GB, noise=0.1 * GB)
    advice = of(known).advice
    assert advice is not None
    more = [Sample(each.time, each.used, each.offered + advice.add) for each in known]
    assert (of(more).earliest or 1000) >= LASTS


def test_advice_says_by_which_day_to_add() -> None:
    found = of(grown(60, 1 * GB, noise=0.3 * GB))
    assert found.advice is not None
    assert found.advice.add == found.add > 0
    assert found.advice.by == found.earliest_on
    assert found.advice.lasts_until == found.as_of + timedelta(days=LASTS)


def test_days_are_counted_from_the_last_sample() -> None:
    found = of(grown(30, 1 * GB))
    assert found.as_of == date(1970, 1, 30)
    assert found.full_on == date(1970, 1, 30) + timedelta(days=found.full_in or 0)


def test_a_forecast_of_days_that_were_hidden_says_how_good_it_is() -> None:
    assert of(grown(60, 1 * GB)).backtest == pytest.approx(0, abs=1000)
    # grew until the days that are hidden, and no more
    turned = of([Sample(day * DAY, 10 * GB + min(day, 45) * GB, 100 * GB) for day in range(60)])
    assert turned.backtest == pytest.approx(sum(range(1, 15)) / 14 * GB, rel=0.05)


def test_of_too_few_days_to_hide_some_no_such_error_is_said() -> None:
    assert of(grown(6, 1 * GB)).backtest is None


@pytest.mark.parametrize("days", [0, 1, 4])
def test_of_a_few_days_nothing_is_said(days: int) -> None:
    assert forecast(grown(days, 1 * GB)) is None


@given(st.randoms())
def test_the_order_of_samples_and_their_number_in_a_day_do_not_matter(rng: random.Random) -> None:
    known = grown(30, 1 * GB)
    doubled = [*known, *known]
    rng.shuffle(doubled)
    assert forecast(doubled) == forecast(known)


def test_of_two_samples_of_one_moment_the_same_one_counts_in_any_order() -> None:
    known = [*grown(30, 1 * GB), Sample(29 * DAY, 1 * GB, 100 * GB)]
    assert forecast(known) == forecast(known[::-1])


def test_days_that_nobody_saw_are_between_those_before_and_after() -> None:
    known = grown(60, 1 * GB)
    assert of(known[:20] + known[40:]).full_in == of(known).full_in


def test_who_was_away_for_years_is_known_by_the_days_since() -> None:
    back = [Sample(each.time + 1000 * DAY, each.used, each.offered) for each in grown(30, 1 * GB)]
    assert of([*grown(30, 0), *back]).as_of == date(1970, 1, 1) + timedelta(days=1029)


@pytest.mark.parametrize("time", [0.0, 20_000 * DAY + 4000 * DAY, -DAY, math.nan, math.inf, 1e300])
def test_what_a_clock_that_jumped_says_is_not_believed(time: float) -> None:
    known = [Sample(20_000 * DAY + each.time, each.used, each.offered) for each in grown(30, 1 * GB)]
    assert forecast([*known, Sample(time, 90 * GB, 100 * GB)]) == forecast(known)


@pytest.mark.parametrize(("used", "offered"), [(-1, GB), (GB, -1), (1 << 70, GB)])
def test_sizes_that_are_none_are_not_believed(used: int, offered: int) -> None:
    known = grown(30, 1 * GB)
    assert forecast([*known, Sample(30 * DAY, used, offered)]) == forecast(known)


def test_what_is_of_later_than_now_is_not_looked_at() -> None:
    known = grown(60, 1 * GB)
    assert forecast(known, now=29 * DAY + 5) == forecast(known[:30])


@given(
    st.lists(
        st.builds(
            Sample, st.floats() | st.floats(0, 1000 * DAY), st.integers() | st.integers(0, 100 * GB), st.just(100 * GB)
        ),
        max_size=40,
    )
)
def test_any_samples_are_taken(known: list[Sample]) -> None:
    found = forecast(known)
    assert found is None or math.isfinite(found.daily)
    history = None
    for each in known:
        history = record(history, each)
    assert samples(history) == sorted(samples(history), key=lambda each: each.time)


def test_a_history_has_the_last_of_each_day_and_two_years_at_most() -> None:
    history = None
    for day in range(MOST_DAYS + 50):
        history = record(history, Sample(day * DAY + 10, day, 1000))
        history = record(history, Sample(day * DAY + 20, day + 1, 1000))
    found = samples(history)
    assert len(found) == MOST_DAYS
    assert found[-1].used == MOST_DAYS + 50


def test_a_history_forecasts_as_its_samples_do() -> None:
    history = None
    for sample in grown(30, 1 * GB, noise=0.3 * GB):
        history = record(history, sample)
    assert forecast(samples(history)) == forecast(grown(30, 1 * GB, noise=0.3 * GB))


def test_of_nothing_there_is_no_history() -> None:
    assert samples(None) == []


def test_a_clock_that_went_back_harms_one_day() -> None:
    history = None
    for sample in grown(30, 1 * GB):
        history = record(history, sample)
    jumped = samples(record(history, Sample(3 * DAY, 0, 100 * GB)))
    assert [each for each in jumped if each not in samples(history)] == [Sample(3 * DAY, 0, 100 * GB)]


@pytest.mark.parametrize("sample", [Sample(math.nan, 1, 1), Sample(-1, 1, 1), Sample(DAY, -1, 1)])
def test_nonsense_changes_no_history(sample: Sample) -> None:
    history = record(None, Sample(DAY, 5, 10))
    assert record(history, sample) == history
