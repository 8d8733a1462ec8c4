"""A group that nothing comes for holds no other up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from engines import Device, join, running, settle

from shoal.crdt.model import NodeId
from shoal.node import replica
from shoal.node.folder import following, slots
from shoal.node.folder.arriving import Landed
from shoal.node.folder.filling import Group
from shoal.node.folder.slots import MOST_STALLED, SLOTS, STALLED, URGENT_SLOTS, Slots


def full() -> Slots[int]:
    given = Slots[int]()
    for group in range(SLOTS):
        given.begin(group, 0.0)
    return given


def test_a_slot_is_free_again_when_its_group_is_done() -> None:
    given = full()
    assert given.free() == 0
    assert given.free_urgent() == URGENT_SLOTS
    given.end(1)
    assert given.free() == 1


def test_a_group_that_nothing_comes_for_gives_its_slot_away() -> None:
    given = full()
    given.news(1, 5.0)
    assert given.next_time() == STALLED
    assert given.give_away(STALLED) == [0, 2]
    assert given.free() == SLOTS - 1
    assert given.next_time() == 5.0 + STALLED


def test_it_takes_a_slot_again_when_something_comes() -> None:
    given = full()
    given.give_away(STALLED)
    given.news(1, STALLED + 1)
    assert given.free() == SLOTS - 1
    given.end(1)
    assert given.free() == SLOTS


def test_only_so_many_give_theirs_away() -> None:
    given = Slots[int]()
    for group in range(MOST_STALLED + SLOTS):
        given.begin(group, 0.0)
    assert given.give_away(STALLED) == list(range(MOST_STALLED))
    assert given.free() == 0
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


async def test_what_has_come_of_a_group_is_placed_though_the_rest_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "STALLED", 0.1)
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    fetch, go_on = other.engine._filler._fetch, trio.Event()

    async def partly(
        wants: Sequence[tuple[bytes, int]], sink: Callable[[Landed], Awaitable[None]], priority: int
    ) -> list[bytes]:
        lacking = await fetch([want for want in wants if want[1] != 4], sink, priority)
        await go_on.wait()
        return lacking + await fetch([want for want in wants if want[1] == 4], sink, priority)

    other.engine._filler._fetch = partly
    for name, text in (("mute", "mute"), ("a", "honest"), ("b", "honest as well")):
        (one.root / name).write_text(text)
    (one.root / "link").symlink_to("a")
    async with running(one):
        await one.engine.scan()
        join(one, other)
        async with running(other):
            with trio.fail_after(20):
                while not all((other.root / name).exists() for name in ("a", "b")):  # noqa: ASYNC110
                    await trio.sleep(0.05)
                while other.engine.state().needed_files > 1:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            assert not (other.root / "mute").exists()
            (other.root / "a").write_text("edited")
            with trio.fail_after(20):
                while (one.root / "a").read_text() != "edited":  # noqa: ASYNC110
                    await trio.sleep(0.05)
            go_on.set()
            await settle(one, other)
            assert (other.root / "mute").read_text() == "mute"


def test_of_a_group_whose_files_take_their_names_nothing_is_taken_out() -> None:
    views = [SimpleNamespace(id=NodeId(bytes([number]) * 16)) for number in range(2)]
    group = Group(cast(Any, views), 0, {})
    group.open[views[0].id] = 1
    assert group.take_whole() == []
    group.is_filling = True
    group.views, kept = list(group.views), group.views
    assert group.take_whole() == [views[1]]
    group.views, group.is_filling = kept, False
    assert group.take_whole() == []
