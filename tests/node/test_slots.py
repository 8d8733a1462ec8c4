"""A group that nothing comes for holds no other up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
from engines import Device, join, running

from shoal.node import replica
from shoal.node.folder import following, slots
from shoal.node.folder.arriving import Landed
from shoal.node.folder.slots import MOST_STALLED, SLOTS, STALLED, URGENT_SLOTS, Slots


def full() -> Slots:
    given = Slots()
    for group in range(SLOTS):
        given.begin(group, 0.0)
    return given


def test_a_slot_is_free_again_when_its_group_is_done() -> None:
    given = full()
    assert given.free(1.0) == 0
    assert given.free_urgent(1.0) == URGENT_SLOTS
    given.end(1)
    assert given.free(1.0) == 1


def test_a_group_that_nothing_comes_for_gives_its_slot_away() -> None:
    given = full()
    given.news(1, 5.0)
    assert given.next_time() == STALLED
    assert given.free(STALLED) == SLOTS - 1
    assert given.next_time() == 5.0 + STALLED


def test_it_takes_a_slot_again_when_something_comes() -> None:
    given = full()
    assert given.free(STALLED) == SLOTS
    given.news(1, STALLED + 1)
    assert given.free(STALLED + 1) == SLOTS - 1
    given.end(1)
    assert given.free(STALLED + 1) == SLOTS


def test_only_so_many_give_theirs_away() -> None:
    given = Slots()
    for group in range(MOST_STALLED + SLOTS):
        given.begin(group, 0.0)
    assert given.free(STALLED) == 0
    assert given.next_time() == float("inf")


async def test_files_whose_holder_is_mute_do_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "SMALL", 0)  # none goes before the others
    monkeypatch.setattr(following, "GROUP_BYTES", 1)
    monkeypatch.setattr(slots, "STALLED", 0.1)
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    fetch = other.engine._filler._fetch
    asked = 0

    async def mute(
        wants: Sequence[tuple[bytes, int]], sink: Callable[[Landed], Awaitable[None]], priority: int
    ) -> list[bytes]:
        nonlocal asked
        if any(length == 4 for _, length in wants):
            asked += 1
            await trio.sleep_forever()
        return await fetch(wants, sink, priority)

    other.engine._filler._fetch = mute
    async with running(one, other):
        join(one, other)
        for number in range(2 * SLOTS):
            (one.root / f"mute{number}").write_text(f"mut{number}")
        with trio.fail_after(20):
            while asked < SLOTS:  # noqa: ASYNC110
                await trio.sleep(0.05)
            (one.root / "another").write_text("honest")
            while not (other.root / "another").exists():  # noqa: ASYNC110
                await trio.sleep(0.05)
