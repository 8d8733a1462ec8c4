"""The window: grows to the path, stays in its bounds, and does not take a pause for a slow path."""

import pytest

from shoal.transfer.window import LEAST, MOST, Window

MIB = 1024 * 1024


def run_path(window: Window, rate: float, delay: float, seconds: float, start: float = 0.0) -> float:
    """Keep the window full on a path of `rate` bytes a second; return the time when all came."""
    now, line_free = start, start
    while now < start + seconds:
        asked, size = now, window.size
        line_free = max(line_free, asked + delay)
        while size > 0:
            line_free += MIB / rate
            window.on_delivered(MIB, asked, line_free)
            size -= MIB
        now = line_free
    return now


def test_a_fast_long_path_gets_a_window_near_twice_its_product() -> None:
    window = Window()
    run_path(window, rate=100 * MIB, delay=0.1, seconds=20)
    assert 10 * MIB <= window.size <= 25 * MIB


@pytest.mark.parametrize(("rate", "delay", "size"), [(MIB, 0.01, LEAST), (1000 * MIB, 0.5, MOST)])
def test_the_window_stays_within_its_bounds(rate: float, delay: float, size: int) -> None:
    window = Window()
    run_path(window, rate, delay, seconds=30)
    assert window.size == size


def test_a_pause_does_not_shrink_the_window() -> None:
    window = Window()
    now = run_path(window, rate=100 * MIB, delay=0.1, seconds=20)
    before = window.size
    for pause in range(1, 20):
        window.on_delivered(1000, now + 100 * pause - 0.15, now + 100 * pause)
    assert window.size >= LEAST
    run_path(window, rate=100 * MIB, delay=0.1, seconds=20, start=now + 3000)
    assert window.size >= before // 2


@pytest.mark.parametrize(("rate", "delay", "size"), [(500, 0.02, 20), (200, 0.02, 16), (80, 0.02, 8), (40, 0.04, 4)])
def test_a_quick_path_gets_what_a_pipeline_holds_and_a_slow_one_does_not(rate: int, delay: float, size: int) -> None:
    window = Window(16 * MIB)
    now = 0.0
    for _ in range(400):
        now += 1 / rate
        window.on_delivered(MIB, now - delay, now)
    assert window.size == pytest.approx(size * MIB, rel=0.05)
