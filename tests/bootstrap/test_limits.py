from __future__ import annotations

from shoal.bootstrap.limits import InboundLimits


def test_one_address_gets_a_bounded_share() -> None:
    limits = InboundLimits(total=10, from_one_address=3)
    assert [limits.admit("1.1.1.1") for _ in range(5)] == [True] * 3 + [False] * 2
    assert limits.admit("2.2.2.2")


def test_all_addresses_together_are_bounded() -> None:
    limits = InboundLimits(total=10, from_one_address=3)
    assert sum(limits.admit(f"10.0.0.{n}") for n in range(50)) == 10


def test_a_place_that_was_given_back_is_taken_again() -> None:
    limits = InboundLimits(total=1, from_one_address=1)
    for _ in range(1000):
        assert limits.admit("1.1.1.1")
        limits.release("1.1.1.1")
