"""`python -m tests.sim`: lives from one seed, or from many; a single one that fails is minimised."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time

from tests.sim.end import Failure
from tests.sim.minimise import minimise
from tests.sim.mutations import MUTATIONS, break_rule
from tests.sim.world import run


def main() -> int:
    """Run; the exit code is 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and print all that happens in it")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 500), metavar=("FIRST", "COUNT"))
    parser.add_argument("--forever", action="store_true", help="go on after those until a seed fails")
    parser.add_argument("--operations", type=int, default=60)
    parser.add_argument("--devices", type=int, default=3)
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break this rule, and stop once that is noticed")
    parser.add_argument("--whole", action="store_true", help="do not minimise the failure of a single seed")
    parser.add_argument("--odd-disks", action=argparse.BooleanOptionalAction, help="in every seed, or in none")
    options = parser.parse_args()
    if options.mutation is not None:
        break_rule(options.mutation)
    if options.seed is not None:
        return run_one(
            options.seed, options.devices, options.operations, whole=options.whole, odd_disks=options.odd_disks
        )
    first, count = options.seeds
    failed: list[int] = []
    start = time.process_time()
    for seed in itertools.count(first) if options.forever else range(first, first + count):
        try:
            run(seed, options.devices, options.operations, odd_disks=options.odd_disks)
        except Failure as error:
            failed.append(seed)
            print(f"seed {seed}: {str(error).splitlines()[0]}", flush=True)
            if options.mutation is not None or options.forever:
                break
        if options.forever and (seed + 1 - first) % 500 == 0:
            print(f"{seed + 1 - first} seeds are well", flush=True)
    spent = time.process_time() - start
    done = seed + 1 - first
    print(f"{done} seeds, {len(failed)} failed {failed[:20]}, {spent / done:.3f} CPU s a seed")
    return bool(failed)


def run_one(seed: int, devices: int, operations: int, *, whole: bool, odd_disks: bool | None) -> int:
    """Run a seed, and print what happened in it; or, where it fails, in what is left of it when minimised."""
    try:
        world = run(seed, devices, operations, odd_disks=odd_disks)
    except Failure as error:
        found = error if whole else minimise(seed, devices, operations, error, odd_disks=odd_disks)
        print(f"seed {seed}: {found}")
        return 1
    print("\n".join(world.script))
    print(f"seed {seed} is well; all calls: {world.digest}")
    return 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what a seed decides
        command = [sys.executable, "-m", "tests.sim", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})
    sys.exit(main())
