"""What is read much becomes hot where it is read, and cools by itself."""

from __future__ import annotations

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


def test_a_clock_that_goes_back_makes_nothing_hotter() -> None:
    heat = warmed(int(HOT) - 1, now=1e6)
    heat.read(PACK, "away", 0.0)
    assert heat.hot(0.0) == []


def test_no_more_is_remembered_than_fits_and_the_hottest_stays() -> None:
    heat = warmed(int(HOT))
    for number in range(2 * MOST):
        heat.read(number.to_bytes(32), "home", 1.0)
    assert heat.hot(1.0) == [(PACK, "home")]
