"""What is read much becomes hot where it is read, and cools by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.packs.heat import HALF, HOT, MOST, Heat

PACK = b"p" * 32


def warmed(reads: int, now: float = 0.0) -> Heat:
    heat = Heat()
    for _ in range(reads):
        heat.read(PACK, "home", now)
    return heat


def test_what_is_read_often_is_hot_where_it_is_read() -> None:
    assert warmed(int(HOT)).hot(0.0) == [(PACK, "home")]


def test_what_is_read_seldom_is_not() -> None:
    assert warmed(int(HOT) - 1).hot(0.0) == []


def test_reads_of_other_zones_do_not_add_up() -> None:
    heat = warmed(int(HOT) - 1)
    heat.read(PACK, "office", 0.0)
    assert heat.hot(0.0) == []


def test_reads_that_are_long_apart_do_not_add_up() -> None:
    heat = Heat()
    for number in range(100):
        heat.read(PACK, "home", number * HALF)
    assert heat.hot(100 * HALF) == []


def test_what_is_hot_stays_so_for_a_time_and_then_cools() -> None:
    heat = warmed(int(HOT))
    assert heat.hot(HALF) == [(PACK, "home")]
    assert heat.hot(3 * HALF) == []
    assert heat.hot(0.0) == []


def test_it_is_told_when_that_ends() -> None:
    heat = warmed(int(HOT))
    [(pack, zone, until)] = heat.hot_until(HALF)
    assert (pack, zone) == (PACK, "home")
    assert until == pytest.approx(2 * HALF)
    assert heat.hot(until - 1)
    assert not heat.hot(until + 1)


def test_a_read_puts_off_the_end() -> None:
    heat = warmed(int(HOT))
    before = heat.hot_until(HALF)[0][2]
    heat.read(PACK, "home", HALF)
    assert heat.hot_until(HALF)[0][2] > before


def test_what_cooled_is_not_hot_again_by_one_read() -> None:
    heat = warmed(int(HOT))
    heat.hot(3 * HALF)
    heat.read(PACK, "home", 3 * HALF)
    assert heat.hot(3 * HALF) == []


def test_what_cooled_unseen_is_not_hot_by_one_read_either() -> None:
    heat = warmed(int(HOT))
    heat.read(PACK, "home", 10 * HALF)
    assert heat.hot(10 * HALF) == []


def test_how_often_it_is_asked_does_not_matter() -> None:
    asked, left = warmed(int(HOT)), warmed(int(HOT))
    for second in range(0, int(HALF), 60):
        asked.hot(float(second))
    assert asked.hot_until(HALF)[0][2] == pytest.approx(left.hot_until(HALF)[0][2])


def test_a_clock_that_goes_back_makes_nothing_hotter() -> None:
    heat = warmed(int(HOT) - 1, now=1e6)
    heat.read(PACK, "away", 0.0)
    assert heat.hot(0.0) == []


def test_what_is_hot_cools_by_a_clock_that_went_back() -> None:
    heat = warmed(int(HOT), now=1e9)
    assert heat.hot(0.0) == [(PACK, "home")]
    assert heat.hot(3 * HALF) == []


@given(st.lists(st.floats(-1e9, 1e9), max_size=int(HOT) - 1))
def test_no_clock_makes_few_reads_hot(times: list[float]) -> None:
    heat = Heat()
    for time in times:
        heat.read(PACK, "home", time)
        assert heat.hot(time) == []


def test_no_more_is_remembered_than_fits_and_the_hottest_stays() -> None:
    heat = warmed(int(HOT))
    for number in range(2 * MOST):
        heat.read(number.to_bytes(32), "home", 1.0)
    assert heat.hot(1.0) == [(PACK, "home")]


def test_no_more_are_hot_than_are_remembered() -> None:
    heat = Heat()
    for number in range(MOST + 1):
        for _ in range(int(HOT)):
            heat.read(number.to_bytes(32), "home", 0.0)
    assert MOST // 2 < len(heat.hot(0.0)) <= MOST
