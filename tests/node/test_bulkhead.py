"""One peer's or folder's fault stays its own."""

from __future__ import annotations

import pytest
import trio

from shoal.node.bulkhead import bulkhead
from shoal.node.store import StoreDamaged, StoreFull


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (StoreFull("x"), "the disk that holds Shoal's home is full"),
        (KeyError("x"), "a fault of Shoal's (KeyError); the daemon's log file has the details"),
    ],
)
async def test_an_error_ends_the_block_and_is_told_in_a_line(error: Exception, said: str) -> None:
    told: list[str] = []
    with bulkhead("it", told.append):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, error)
            await trio.sleep_forever()
    assert told == [said]


async def test_a_damaged_store_is_everyones(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with pytest.raises(ExceptionGroup) as raised, bulkhead("it", told.append):
        raise StoreDamaged("x")
    assert raised.group_contains(StoreDamaged)
    assert told == []


async def test_a_cancellation_goes_through() -> None:
    told: list[str] = []
    after = False
    with trio.CancelScope() as scope:
        scope.cancel()
        with bulkhead("it", told.append):
            await trio.sleep_forever()
        after = True
    assert scope.cancelled_caught
    assert not after
    assert told == []
