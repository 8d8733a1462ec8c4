from __future__ import annotations

from shoal.node.speeds import WINDOW, Speeds

ONE, OTHER = b"1" * 32, b"2" * 32


def test_speed_is_bytes_over_the_window() -> None:
    speeds = Speeds()
    for second in range(100):
        speeds.observe(second, {ONE: second * 1000}, {OTHER: second * 10})
    assert speeds.of(ONE) == (1000.0, 0.0)
    assert speeds.of(OTHER) == (0.0, 10.0)


def test_what_stopped_counts_as_stopped_after_the_window() -> None:
    speeds = Speeds()
    speeds.observe(0, {}, {})
    speeds.observe(1, {ONE: 5000}, {})
    for second in range(2, 2 + int(WINDOW) + 1):
        speeds.observe(second, {ONE: 5000}, {})
    assert speeds.of(ONE) == (0.0, 0.0)


def test_before_two_samples_nothing_is_known() -> None:
    speeds = Speeds()
    assert speeds.of(ONE) == (0.0, 0.0)
    speeds.observe(0, {ONE: 7}, {})
    assert speeds.of(ONE) == (0.0, 0.0)
