"""The simulator in small: look-ups find, hops grow slower than the network, and sweeps cost by peers, not by keys."""

from __future__ import annotations

import math
import random
import statistics
import xml.etree.ElementTree

import pytest
from tests.dht_sim.__main__ import ENOUGH, run
from tests.dht_sim.churn import HOUR, session_length, sessions
from tests.dht_sim.experiments import day, growth, settled, sweeps
from tests.dht_sim.plot import plot
from tests.dht_sim.report import markdown


def test_sessions_are_as_long_as_was_measured_in_the_wild() -> None:
    rng = random.Random(1)
    lengths = [session_length(rng) for _ in range(50_000)]
    assert statistics.median(lengths) < HOUR
    assert statistics.fmean(length < 8 * HOUR for length in lengths) == pytest.approx(0.876, abs=0.01)
    assert statistics.fmean(length > 24 * HOUR for length in lengths) == pytest.approx(0.025, abs=0.005)


def test_half_of_all_peers_are_there_at_any_time() -> None:
    rng = random.Random(2)
    places = [list(sessions(rng, 24 * HOUR)) for _ in range(2000)]
    for now in (0, 12 * HOUR, 23 * HOUR):
        there = sum(any(each.start <= now < each.end for each in place) for place in places)
        assert there == pytest.approx(1000, abs=80)


def test_what_was_announced_is_found_while_peers_come_and_go_and_upkeep_is_cheap() -> None:
    figures, _ = day(150, 5, seed=1, keys=100, lookups=500)
    assert figures.asked == 500
    assert figures.success >= ENOUGH
    assert figures.hops.mean <= math.log2(150) / 2
    assert figures.tables.told_gone <= 0.15
    assert figures.upkeep["check"] + figures.upkeep["refresh"] <= 400
    assert figures.load.p99 <= 3 * figures.load.mean


def test_hops_grow_slower_than_the_logarithm_of_the_network_and_sweeps_cost_by_peers_and_not_by_keys() -> None:
    small, large = settled(60, seed=1), settled(240, seed=1)
    hops = growth(large, 240).hops - growth(small, 60).hops
    assert hops <= math.log2(240 / 60) / 2
    few, many = sweeps(large, [1000, 10_000])
    assert many.messages <= 1.3 * few.messages
    assert many.found >= ENOUGH
    (fewer_peers,) = sweeps(small, [10_000])
    assert many.messages / fewer_peers.messages == pytest.approx(4, rel=0.6)


def test_one_seed_is_one_day() -> None:
    assert day(40, 1.5, seed=3, keys=20, lookups=50)[0] == day(40, 1.5, seed=3, keys=20, lookups=50)[0]


def test_the_figures_are_told_and_drawn() -> None:
    results = run(nodes=40, hours=1.5, seed=1, keys=20, lookups=50)
    assert "| 40 | 10,000 |" in markdown(results)
    xml.etree.ElementTree.fromstring(plot(results))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_day_of_ten_thousand_peers() -> None:
    figures, network = day(10_000, 24, seed=1, keys=2000, lookups=20_000)
    assert figures.success >= ENOUGH
    assert figures.hops.mean <= math.log2(10_000) / 2
    few, many = sweeps(network, [10_000, 1_000_000])
    assert many.messages <= 3 * few.messages
