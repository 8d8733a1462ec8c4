"""The three experiments: a day of a network, how look-ups grow with it, and what announcing very many keys costs."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tests.dht_sim.churn import HOUR
from tests.dht_sim.network import Network
from tests.dht_sim.workload import Asked, Swept, Workload, ask, new_key, sweep

from shoal.dht.keyspace import BITS, Point

WARM_UP = 3 * HOUR  # before anything is counted: all first peers come at once, with old tables
SAMPLE = 200  # peers whose tables are looked at, each hour
PROBES = 300  # look-ups of random points to measure how far it is
CHECKED_KEYS = 200  # of a sweep, looked up afterwards


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure is spread over what it was taken of."""

    mean: float
    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Take it; of nothing, all is 0."""
        ordered = sorted(values)
        if not ordered:
            return cls(0, 0, 0, 0, 0)
        p50, p95, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99))
        return cls(statistics.fmean(ordered), p50, p95, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Tables:
    """Routing tables. `size`: peers in one; `gone`: the share of those which are not there; `told_gone`: the same of
    those that others are told of."""

    size: Spread
    gone: float
    told_gone: float


@dataclass(frozen=True, slots=True)
class Day:
    """A network of which `there` peers are there at a time, on average, for `hours`.

    `upkeep`, `failures`: messages an hour and peer, by purpose, and the share of them that nobody answered; `load`:
    questions that a peer answered, an hour; `records`: that a peer keeps, of those with any; `one_key`: messages to
    announce one key by itself."""

    nodes: int
    hours: float
    seed: int
    there: float
    peers: int
    asked: int
    success: float
    success_by_age: dict[str, float]
    hops: Spread
    messages: Spread
    seconds: Spread
    timeouts: float
    upkeep: dict[str, float]
    failures: dict[str, float]
    load: Spread
    records: Spread
    tables: Tables
    one_key: float


@dataclass(frozen=True, slots=True)
class Growth:
    """Look-ups of random points in a network of `nodes`: how far it is to the nearest peer, and what that takes."""

    nodes: int
    hops: float
    messages: float
    seconds: float


def day(
    nodes: int,
    hours: float,
    seed: int,
    *,
    keys: int,
    lookups: int,
    said: Callable[[str], None] = lambda what: None,
) -> tuple[Day, Network]:
    """Run a network, and count after `WARM_UP`. `said`: is told how far it is."""
    end = WARM_UP + hours * HOUR
    network = Network(nodes, end + HOUR, seed)
    network.run(WARM_UP)
    for node in network.nodes.values():
        node.served, node.online, node.since = 0, 0.0, network.now
    network.messages.clear()
    network.failures.clear()
    work = Workload(network, random.Random(seed + 1))
    work.plan(keys, lookups, network.now, end)
    sizes: list[float] = []
    counts = [0, 0, 0, 0]  # peers in tables, of them gone; told of, of them gone
    there: list[int] = []
    while network.now < end:
        network.run(min(end, network.now + HOUR))
        there.append(len(network.there))
        said(f"hour {len(there)}: {len(network.there)} peers are there")
        _look_at_tables(network, sizes, counts)
    for node in network.there:
        node.online += network.now - node.since
    peer_hours = statistics.fmean(there) * hours
    found = [each for each in work.asked if each.found and each.messages]
    counted = [node for node in network.nodes.values() if node.online >= HOUR]
    figures = Day(
        nodes=nodes,
        hours=hours,
        seed=seed,
        there=statistics.fmean(there),
        peers=len(network.nodes),
        asked=len(work.asked),
        success=statistics.fmean(each.found for each in work.asked),
        success_by_age=_by_age(work.asked),
        hops=Spread.of(each.hops for each in found),
        messages=Spread.of(each.messages for each in found),
        seconds=Spread.of(each.seconds for each in found),
        timeouts=statistics.fmean(each.failed for each in work.asked),
        upkeep={purpose: network.messages[purpose] / peer_hours for purpose in ("check", "refresh")},
        failures={purpose: network.failures[purpose] / max(1, count) for purpose, count in network.messages.items()},
        load=Spread.of(node.served * HOUR / node.online for node in counted),
        records=Spread.of(node.providers.size for node in network.there if node.providers is not None),
        tables=Tables(Spread.of(sizes), counts[1] / counts[0], counts[3] / max(1, counts[2])),
        one_key=work.announce_messages / max(1, work.announcements),
    )
    return figures, network


def growth(network: Network, nodes: int) -> Growth:
    """Measure how far it is in a network that has run."""
    walks = [network.walk(network.someone(), Point(network.rng.getrandbits(BITS)), "probe") for _ in range(PROBES)]
    return Growth(
        nodes,
        statistics.fmean(walk.lookup.hops for walk in walks),
        statistics.fmean(walk.messages for walk in walks),
        statistics.fmean(walk.seconds for walk in walks),
    )


def settled(nodes: int, seed: int) -> Network:
    """Return a network that has run for as long as it takes to settle."""
    network = Network(nodes, WARM_UP + HOUR, seed)
    network.run(WARM_UP)
    return network


def sweeps(network: Network, counts: Sequence[int]) -> list[Swept]:
    """Let one peer announce so many keys, and look up some of them."""
    done = []
    rng = random.Random(len(network.there))
    for count in counts:
        provider = network.someone()
        keys = [new_key(rng) for _ in range(count)]
        checked = set(keys[:CHECKED_KEYS])
        swept = sweep(network, provider, keys, checked)
        found = [ask(network, network.someone(), key, 0.0).found for key in sorted(checked)]
        done.append(replace(swept, found=statistics.fmean(found)))
    return done


def _look_at_tables(network: Network, sizes: list[float], counts: list[int]) -> None:
    for node in network.rng.sample(network.there, min(SAMPLE, len(network.there))):
        sizes.append(len(node.table))
        for contact in node.table:
            gone = not network.nodes[contact.peer].is_there
            told = contact.answered is not None and not contact.failures
            counts[0] += 1
            counts[1] += gone
            counts[2] += told
            counts[3] += gone and told


def _by_age(asked: list[Asked]) -> dict[str, float]:
    """Return the share that was found, by hours since the key was announced."""
    shares = {}
    for low, high in ((0, 6), (6, 12), (12, 18), (18, 24)):
        found = [each.found for each in asked if low * HOUR <= each.age < high * HOUR]
        if found:
            shares[f"{low}-{high} h"] = statistics.fmean(found)
    return shares
