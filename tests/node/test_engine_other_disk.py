"""A folder is moved to a disk that holds fewer names, or more: nothing of it counts as deleted, and names come back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing
from tests.semantics.case import Case, tree
from tests.semantics.world import RULES, Hand, Meeting, shown
from tests.sim.device import ROOT, Device
from tests.sim.end import check

from shoal.node.name_rules import PLAIN, NameRules


class Moving(Meeting):
    """All have a tree; then the second device's folder is on another disk, and something happens there on the way."""

    def __init__(self, start: str, rules: NameRules, on_the_way: Callable[[Device], None]) -> None:
        super().__init__(Case("", start, ("", ""), ""), range(2))
        self._rules = rules
        self._on_the_way = on_the_way

    async def live(self) -> None:
        device = self.devices[1]
        async with trio.open_nursery() as self._nursery:
            for each in self.devices:
                self._nursery.start_soon(self._keep_up, each)
            for pair in self.links:
                self._nursery.start_soon(self._keep_talking, *pair)
            await trio.sleep(0.5)
            Hand(self.people[0], "A").plant(tree(self._case.start))
            await self._make_peace()
            device.lose()
            device.fs.settle()
            self._move(device, self._rules)
            told, device.fs.on_call = device.fs.on_call, lambda name, path: None
            self._on_the_way(device)
            device.fs.on_call = told
            await trio.sleep(30)
            await self._make_peace()
            check(self.people, self.texts)
            self.outcome = shown(self.people[0]), shown(self.people[1])
            self._nursery.cancel_scope.cancel()

    @staticmethod
    def _move(device: Device, rules: NameRules) -> None:
        device.machine = device.machine.__class__(0.0, 1, watches_badly=False, names=rules)
        device.fs.rules = rules


def play(
    start: str, rules: NameRules, on_the_way: Callable[[Device], None], removed: tuple[str, ...] = ()
) -> tuple[dict[str, str], dict[str, str]]:
    """`removed`: by a person."""

    def both(device: Device) -> None:
        on_the_way(device)
        for path in removed:
            moving.people[1]._remove(f"{ROOT}/{path}")

    moving = Moving(start, rules, both)
    trio.run(moving.live, clock=trio.testing.MockClock(autojump_threshold=0))
    return moving.outcome


@pytest.fixture(autouse=True)
def trio_mode() -> None:
    """These run trio themselves."""


def lose(*paths: str) -> Callable[[Device], None]:
    def act(device: Device) -> None:
        device.fs.rules = PLAIN  # as the copying tool had them on the old disk
        for path in paths:
            device.fs.unlink(f"{ROOT}/{path}")
        device.fs.rules = device.machine.names

    return act


def test_a_twin_that_the_new_disk_could_not_hold_comes_again() -> None:
    usual, other = play("N; n; m", RULES["folding"], lose("n"))
    assert usual == {"N": "N", "n": "n", "m": "m"}
    assert other == {"N": "N", "n (twin)": "n", "m": "m"}


def test_a_name_that_the_new_disk_refuses_comes_again() -> None:
    usual, other = play("a:b; m", RULES["refusing"], lose("a:b"))
    assert usual == {"a:b": "a:b", "m": "m"}
    assert other == {"a\uff1ab": "a:b", "m": "m"}


def test_what_was_removed_on_the_way_beside_is_deleted() -> None:
    usual, other = play("N; n; m; k", RULES["folding"], lose("n"), removed=("k",))
    assert usual.keys() == {"N", "n", "m"}
    assert other.keys() == {"N", "n (twin)", "m"}


def test_the_letters_that_the_new_disk_takes_apart_are_no_rename() -> None:
    def take_apart(device: Device) -> None:
        device.fs.rename(f"{ROOT}/\u00e9", f"{ROOT}/~")
        device.fs.rename(f"{ROOT}/~", f"{ROOT}/e\u0301")

    usual, other = play("\u00e9; m", RULES["storing"], take_apart)
    assert usual == {"\u00e9": "\u00e9", "m": "m"}
    assert other == {"e\u0301": "\u00e9", "m": "m"}


class Unknowing(Meeting):
    """The second device's disk folds names, and was not found to: as one folder of it may do by itself."""

    async def live(self) -> None:
        async with trio.open_nursery() as self._nursery:
            for each in self.devices:
                self._nursery.start_soon(self._keep_up, each)
            for pair in self.links:
                self._nursery.start_soon(self._keep_talking, *pair)
            await trio.sleep(0.5)
            Hand(self.people[0], "A").plant(tree(self._case.start))
            await trio.sleep(60)
            self.outcome = shown(self.people[0]), shown(self.people[1])
            self._nursery.cancel_scope.cancel()


def test_a_folder_that_folds_names_by_itself_waits_with_the_twin_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Device, "_find_rules", lambda self, disk, root: PLAIN)
    meeting = Unknowing(Case("", "N; n; m", ("", ""), "", disks=((1, "folding"),)), range(2))
    trio.run(meeting.live, clock=trio.testing.MockClock(autojump_threshold=0))
    usual, other = meeting.outcome
    assert usual == {"N": "N", "n": "n", "m": "m"}
    assert other.keys() in ({"N", "m"}, {"n", "m"})
    assert all(text == usual[name] for name, text in other.items())
    (problem,) = meeting.devices[1].engine.state().problems
    assert "does not tell it from" in problem.reason
