"""`python -m tests.dht_sim`: a day of a network of many peers, how look-ups grow with its size, and what sweeps cost.

The figures depend on the options alone, and not on the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.dht_sim.experiments import Growth, day, growth, settled, sweeps
from tests.dht_sim.plot import plot
from tests.dht_sim.report import markdown

SIZES = (100, 300, 1000, 3000, 10_000)
KEYS = (10_000, 100_000, 1_000_000)
SMALLEST_SWEPT = 1000  # peers, of the networks in which keys are announced by the million
ENOUGH = 0.995  # of the look-ups


def main() -> int:
    """Run; the exit code is 1 when too few look-ups found what was announced."""
    parser = argparse.ArgumentParser(prog="python -m tests.dht_sim", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000, help="that are there at a time, of twice as many")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=2000, help="that are announced and looked up")
    parser.add_argument("--lookups", type=int, default=20_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw growth and sweeps, as SVG")
    parser.add_argument("--read", type=Path, metavar="FILE", help="run nothing, and report what --json wrote")
    options = parser.parse_args()
    if options.read is not None:
        results = json.loads(options.read.read_text())
    else:
        # There are millions of contacts, and no cycles: looking for some takes most of the time.
        gc.disable()
        results = run(options.nodes, options.hours, options.seed, options.keys, options.lookups)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.plot is not None:
        options.plot.write_text(plot(results))
    print(markdown(results))
    return int(results["day"]["success"] < ENOUGH)


def run(nodes: int, hours: float, seed: int, keys: int, lookups: int) -> dict[str, Any]:
    """Run all three experiments."""
    began = time.monotonic()

    def said(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", file=sys.stderr, flush=True)

    grown: list[Growth] = []
    swept: list[dict[str, Any]] = []
    for size in (*(size for size in SIZES if size < nodes), nodes):
        if size < nodes:
            network = settled(size, seed)
        else:
            figures, network = day(nodes, hours, seed, keys=keys, lookups=lookups, said=said)
        grown.append(growth(network, size))
        if size >= min(SMALLEST_SWEPT, nodes):
            counts = KEYS if nodes >= SMALLEST_SWEPT else KEYS[:2]
            swept += [
                {"nodes": size, "messages": each.messages} | dataclasses.asdict(each)
                for each in sweeps(network, counts)
            ]
        said(f"{size} peers are done")
    return {
        "day": dataclasses.asdict(figures),
        "growth": [dataclasses.asdict(each) for each in grown],
        "sweeps": swept,
    }


if __name__ == "__main__":
    sys.exit(main())
