"""Which kept versions go, and how their age is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.node.folder.retention import ABSENCE_MOST, DAY, Age, Kept, Policy, oldest_first, surplus

POLICY = Policy(all_days=30, daily_days=365)


def kept(days: float, what: str = "f") -> Kept:
    return Kept(f"{what}-{days}", what, days * DAY)


def test_every_version_of_the_last_days_stays() -> None:
    assert surplus([kept(day / 10) for day in range(300)], 29.9 * DAY, POLICY) == []


def test_of_an_older_day_the_last_version_stays() -> None:
    gone = surplus([kept(0.1), kept(0.5), kept(0.9), kept(1.1)], 40 * DAY, POLICY)
    assert {each.name for each in gone} == {"f-0.1", "f-0.5"}


def test_each_file_has_days_of_its_own() -> None:
    assert surplus([kept(0.1, "f"), kept(0.2, "g")], 40 * DAY, POLICY) == []


def test_what_is_past_its_last_day_goes() -> None:
    assert [each.name for each in surplus([kept(0), kept(10)], 370 * DAY, POLICY)] == ["f-0"]


def test_the_oldest_goes_first_where_there_is_no_room() -> None:
    assert [each.since for each in oldest_first([kept(3), kept(1), kept(2)])] == [DAY, 2 * DAY, 3 * DAY]


@given(st.lists(st.floats(0, 400), unique=True), st.floats(0, 1000))
def test_of_every_day_that_counts_a_version_stays(days: list[float], age: float) -> None:
    versions = [kept(day) for day in days if day <= age]
    stays = [each for each in versions if each not in surplus(versions, age * DAY, POLICY)]
    counting = {int(each.since // DAY) for each in versions if age * DAY - each.since <= 365 * DAY}
    assert counting == {int(each.since // DAY) for each in stays}


def test_age_counts_what_runs_and_what_passed_while_nothing_ran() -> None:
    age = Age((100.0, 1_000_000), 1_060_000, 5.0)
    assert age.now(5.0) == 160.0
    assert age.now(15.0) == 170.0


def test_a_clock_that_jumped_ahead_by_years_makes_nothing_a_year_older() -> None:
    age = Age((0.0, 0), 10 * 365 * 86_400_000, 0.0)
    assert age.now(0.0) == ABSENCE_MOST


def test_a_clock_that_went_back_makes_nothing_younger() -> None:
    assert Age((500.0, 10**12), 0, 0.0).now(0.0) == 500.0
