"""Limits of speed: no more than the rate, whatever is sent and however the rate changes; and nothing waits for long."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.pace import BURST, PIECE_MOST, Pace, Throttle, Way

RATES = st.integers(1000, 100_000_000)
PIECES = st.lists(st.tuples(st.integers(1, PIECE_MOST), st.floats(0, 2)), min_size=1, max_size=60)


@given(RATES, PIECES)
def test_no_stretch_of_time_carries_more_than_the_rate_and_a_burst(rate: int, pieces: list[tuple[int, float]]) -> None:
    pace, now = Pace(rate), 0.0
    gone: list[tuple[float, int]] = []
    for size, idle in pieces:
        now += idle + pace.reserve(size, now + idle)
        gone.append((now, size))
    for first in range(len(gone)):
        total = 0
        for when, size in gone[first:]:
            total += size
            most = rate * (when - gone[first][0] + 2 * BURST) + max(size for _, size in gone)
            assert total <= most * (1 + 1e-9)


@given(RATES, PIECES)
def test_what_is_always_at_work_gets_the_whole_rate(rate: int, pieces: list[tuple[int, float]]) -> None:
    pace, now = Pace(rate), 0.0
    for size, _ in pieces:
        now += pace.reserve(size, now)
    assert now <= sum(size for size, _ in pieces) / rate + 1e-6


@given(RATES, RATES)
def test_what_is_owed_is_owed_in_bytes_when_the_rate_changes(slow: int, quick: int) -> None:
    pace = Pace(slow)
    pace.reserve(slow, 0.0)  # a second's worth
    pace.set_rate(quick, 0.0)
    wait = pace.reserve(1, 0.0)
    assert wait == pytest.approx(max(0.0, (slow * (1 - BURST) + 1) / quick - BURST), abs=1e-3)


def test_nothing_is_owed_when_a_limit_goes() -> None:
    pace = Pace(1000)
    pace.reserve(1_000_000, 0.0)
    pace.set_rate(None, 0.0)
    assert pace.reserve(1 << 30, 0.0) == 0.0
    pace.set_rate(1000, 1.0)
    assert pace.reserve(1, 1.0) == 0.0


def test_a_peer_that_is_excepted_does_not_wait_and_takes_nothing_from_the_others() -> None:
    throttle = Throttle(lambda: 0.0)
    throttle.rate = 1000
    excepted, limited = Way(throttle, lambda: True), Way(throttle, lambda: False)
    excepted.pause(1 << 30)
    assert excepted.piece is None
    assert excepted.rate is None
    assert throttle.reserve(50) == 0.0
    assert limited.rate == 1000


def test_pieces_and_frames_are_small_where_the_rate_is_low() -> None:
    throttle = Throttle(lambda: 0.0)
    way = Way(throttle, lambda: False)
    assert way.frame(4 << 20) == 4 << 20
    throttle.rate = 1_000_000
    assert way.piece == 100_000
    assert way.frame(4 << 20) == 500_000
    throttle.rate = 1 << 40
    assert way.frame(4 << 20) == 4 << 20


def way_that_waits_for_hours() -> tuple[Throttle, Way]:
    throttle = Throttle()
    throttle.rate = 1000
    return throttle, Way(throttle, lambda: False)


async def test_who_waits_goes_on_when_the_limit_goes() -> None:
    throttle, way = way_that_waits_for_hours()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, way.pause, 1 << 30)
            nursery.start_soon(way.wait, 1 << 30)
            await trio.sleep(0.1)
            throttle.rate = None


async def test_who_waits_in_a_thread_goes_on_when_nobody_needs_it_any_more() -> None:
    _, way = way_that_waits_for_hours()
    over: list[bool] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, way.pause, 1 << 30, lambda: bool(over))
            await trio.sleep(0.1)
            over.append(True)


@given(RATES, st.lists(RATES, max_size=4), st.integers(1, 1_000_000))
def test_what_waits_is_owed_in_bytes_when_the_rate_changes(rate: int, rates: list[int], size: int) -> None:
    throttle = Throttle(lambda: 0.0)
    throttle.rate = rate
    way = Way(throttle, lambda: False)
    left = size - 2 * rate * BURST
    for seconds in way._waits(size):
        left -= seconds * (throttle.rate or 0)
        if rates:
            throttle.rate = rates.pop()
    assert left == pytest.approx(min(0.0, size - 2 * rate * BURST), abs=1)
