"""`python -m tests.durability_sim`: ten years of a thousand holders, by policy; a table, and with --plot a picture.

The figures depend on the options alone, and not on the machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.durability_sim.report import Line, plot, table
from tests.durability_sim.world import Setting, World

from shoal.transfer.placement import Policy

POLICIES: tuple[tuple[str, Policy, bool, bool], ...] = (
    ("3 copies, no repair", Policy(3), True, False),
    ("2 copies, zones unknown", Policy(2), False, True),
    ("2 copies", Policy(2), True, True),
    ("3 copies, zones unknown", Policy(3), False, True),
    ("3 copies", Policy(3), True, True),
    ("6+3", Policy(k=6, m=3), True, True),
    ("10+4", Policy(k=10, m=4), True, True),
)


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability_sim", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--packs", type=int, default=3000, help="that are simulated")
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as SVG")
    options = parser.parse_args()
    setting = Setting(nodes=options.nodes, packs=options.packs, years=options.years)
    lines = []
    for name, policy, knows_zones, repairs in POLICIES:
        began = time.monotonic()
        world = World(setting, policy, options.seed, knows_zones=knows_zones, repairs=repairs)
        lines.append(Line(name, policy, world.run()))
        print(f"{time.monotonic() - began:6.0f} s  {name}: {lines[-1].outcome}", file=sys.stderr, flush=True)
    print(table(setting, lines))
    if options.plot is not None:
        options.plot.write_text(plot(setting, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
