"""Limits of speed as people say them, and when they hold."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shoal.node.errors import UserError
from shoal.node.limits import (
    DAY,
    Limits,
    Rates,
    Rules,
    Schedule,
    decode,
    encode,
    is_local,
    parse_days,
    parse_rate,
    parse_time,
    say_days,
    say_time,
)
from shoal.node.store import MemoryStore, StoreDamaged

WORK = Schedule(Rates(500_000, None), frozenset(range(5)), 8 * 60, 18 * 60)
NIGHT = Schedule(Rates(None, None), frozenset({4}), 22 * 60, 6 * 60)

rates = st.builds(Rates, st.none() | st.integers(1000, 1 << 40), st.none() | st.integers(1000, 1 << 40))
schedules = st.builds(
    Schedule, rates, st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, DAY - 1), st.integers(0, DAY - 1)
)
rules = st.builds(Rules, rates, st.booleans(), st.lists(schedules, max_size=5).map(tuple))


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        ("2M", 2_000_000),
        ("500k", 500_000),
        ("1.5 MB/s", 1_500_000),
        ("20mbit", 2_500_000),
        ("100000", 100_000),
        ("1G", 1_000_000_000),
        ("off", None),
    ],
)
def test_speeds_are_read_as_people_write_them(said: str, rate: int | None) -> None:
    assert parse_rate(said) == rate


@pytest.mark.parametrize("said", ["", "fast", "-1M", "0", "999", "2X", "nan", "1e99G", "M", "2 2M"])
def test_what_is_no_speed_is_refused(said: str) -> None:
    with pytest.raises(UserError, match=r"no speed|less than"):
        parse_rate(said)


@pytest.mark.parametrize("said", ["8", "8:5", "24:01", "12:60", "-1:00", "noon", ""])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(UserError, match="no time"):
        parse_time(said)


@pytest.mark.parametrize("said", ["", "monday", "mon-", "mon-xyz", "mon,,tue"])
def test_what_is_no_day_is_refused(said: str) -> None:
    with pytest.raises(UserError, match="no day"):
        parse_days(said)


def test_days_may_go_over_the_end_of_the_week() -> None:
    assert parse_days("sat-mon") == {5, 6, 0}
    assert parse_days("mon-fri,sun") == {0, 1, 2, 3, 4, 6}


@given(st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, DAY - 1))
def test_days_and_times_are_said_as_they_are_read(days: frozenset[int], minute: int) -> None:
    assert parse_days(say_days(days)) == days
    assert parse_time(say_time(minute)) == minute


@given(rules)
def test_rules_are_stored_as_they_are(said: Rules) -> None:
    assert decode(encode(said)) == said


def test_a_schedule_takes_the_place_of_the_usual_rates_while_it_holds() -> None:
    said = Rules(Rates(2_000_000, 9_000_000), schedules=(WORK,))
    assert said.in_force(0, 8 * 60 - 1) == Rates(2_000_000, 9_000_000)
    assert said.in_force(0, 8 * 60) == Rates(500_000, None)
    assert said.in_force(4, 18 * 60 - 1) == Rates(500_000, None)
    assert said.in_force(4, 18 * 60) == Rates(2_000_000, 9_000_000)
    assert said.in_force(5, 12 * 60) == Rates(2_000_000, 9_000_000)


def test_a_schedule_that_ends_before_it_begins_ends_on_the_next_day() -> None:
    said = Rules(Rates(1000, 1000), schedules=(NIGHT,))
    assert said.in_force(4, 23 * 60) == Rates(None, None)
    assert said.in_force(5, 5 * 60) == Rates(None, None)
    assert said.in_force(5, 6 * 60) == Rates(1000, 1000)
    assert said.in_force(4, 5 * 60) == Rates(1000, 1000)
    assert said.in_force(5, 23 * 60) == Rates(1000, 1000)


@given(rules, st.integers(0, 6), st.integers(0, DAY - 1))
def test_of_several_that_hold_the_lower_rate_counts_in_any_order(said: Rules, weekday: int, minute: int) -> None:
    turned = Rules(said.rates, said.lan, said.schedules[::-1])
    found = said.in_force(weekday, minute)
    assert found == turned.in_force(weekday, minute)
    for schedule in said.schedules:
        if schedule.holds(weekday, minute) and schedule.rates.up is not None:
            assert found.up is not None
            assert found.up <= schedule.rates.up


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("192.168.1.7", True),
        ("10.0.0.1", True),
        ("127.0.0.1", True),
        ("fe80::1%eth0", True),
        ("fd00::7", True),
        ("::ffff:192.168.1.7", True),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        ("100.64.0.1", False),
        ("", False),
        ("relay", False),
    ],
)
def test_the_local_network_is_told_by_the_address(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_limits_are_as_they_were_after_a_restart_and_follow_the_clock() -> None:
    store, now = MemoryStore(), time.strptime("2026-11-26 12:00", "%Y-%m-%d %H:%M")
    Limits(store, lambda: now).set_rules(Rules(Rates(2_000_000, None), True, (WORK,)))
    later = Limits(store, lambda: now)
    far, _ = later.ways("8.8.8.8")
    assert far.rate == 500_000
    now = time.strptime("2026-11-26 19:00", "%Y-%m-%d %H:%M")
    later.apply()
    assert far.rate == 2_000_000


def test_the_local_network_is_excepted_until_it_is_said_otherwise() -> None:
    limits = Limits(MemoryStore())
    limits.set_rules(Rules(Rates(1000, 2000)))
    (near, _), (far, down) = limits.ways("192.168.1.7"), limits.ways("8.8.8.8")
    assert (near.rate, far.rate, down.rate) == (None, 1000, 2000)
    limits.set_rules(Rules(Rates(1000, 2000), lan=True))
    assert near.rate == 1000


@given(st.binary(max_size=40))
@example(b"\xff\xff")
@example(b"\x84\xf6\xf6\xf4\x81\x85\xf6\xf6\x01\x00\x00")
def test_what_cannot_be_read_of_them_is_a_damaged_store(data: bytes) -> None:
    try:
        decode(data)
    except StoreDamaged as error:
        assert "limits" in str(error)  # noqa: PT017
