"""The simulation of years keeps to its own rules, small and quick."""

from __future__ import annotations

import pytest
from tests.durability_sim.report import Line, plot, table
from tests.durability_sim.world import Rates, Setting, World

from shoal.transfer.placement import Policy

SMALL = Setting(nodes=40, zones=5, packs=40, years=2)


def test_without_failures_nothing_is_lost_and_nothing_moves() -> None:
    outcome = World(Setting(20, 4, 20, 1, Rates(0, 0, 0)), Policy(2), 1).run()
    assert (outcome.lost, outcome.repaired, outcome.worst) == (0, 0, 1)


def test_one_that_dies_at_a_time_loses_nothing_that_has_a_copy() -> None:
    outcome = World(Setting(40, 5, 40, 2, Rates(0.05, 0, 0)), Policy(3), 2).run()
    assert outcome.deaths > 0
    assert outcome.lost == 0
    assert outcome.repaired > 0


def test_without_repair_all_is_lost_in_the_end() -> None:
    outcome = World(Setting(20, 4, 20, 30, Rates(0.5, 0, 0)), Policy(2), 1, repairs=False).run()
    assert outcome.lost == 20


def test_zones_that_are_known_save_what_burns_with_one() -> None:
    setting = Setting(40, 4, 100, 1, Rates(0, 0, 0.9))
    assert World(setting, Policy(2), 3).run().lost < World(setting, Policy(2), 3, knows_zones=False).run().lost


def test_the_same_seed_is_the_same_life() -> None:
    assert World(SMALL, Policy(k=4, m=2), 5).run() == World(SMALL, Policy(k=4, m=2), 5).run()


@pytest.mark.parametrize("policy", [Policy(2), Policy(k=4, m=2)])
def test_what_came_of_it_is_told_in_a_table_and_a_picture(policy: Policy) -> None:
    lines = [Line("policy", policy, World(SMALL, policy, 1).run())]
    assert "| policy |" in table(SMALL, lines)
    assert plot(SMALL, lines).startswith("<svg")
