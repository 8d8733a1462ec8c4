from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.bootstrap.backoff import FIRST, MOST, delay


@given(st.integers(1, 1000), st.floats(0, 1))
def test_a_wait_is_never_longer_than_the_most_nor_shorter_than_half_the_first(failures: int, chance: float) -> None:
    assert FIRST / 2 <= delay(failures, chance) <= MOST


@given(st.integers(1, 20), st.floats(0, 1))
def test_waits_do_not_get_shorter_with_failures(failures: int, chance: float) -> None:
    assert delay(failures, chance) <= delay(failures + 1, chance)


def test_devices_that_failed_together_do_not_try_together() -> None:
    assert delay(5, 0.0) < delay(5, 1.0)
