"""`python -m tests.sim [--seed N] [--seeds FIRST COUNT] [--operations N] [--devices N]`: one seed, or many."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.sim.world import Failure, run


def main() -> int:
    """Run; the exit code is 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 500), metavar=("FIRST", "COUNT"))
    parser.add_argument("--operations", type=int, default=60)
    parser.add_argument("--devices", type=int, default=3)
    options = parser.parse_args()
    first, count = (options.seed, 1) if options.seed is not None else options.seeds
    failed = []
    start = time.process_time()
    for seed in range(first, first + count):
        try:
            run(seed, options.devices, options.operations)
        except Failure as error:
            failed.append(seed)
            print(error if count == 1 else str(error).splitlines()[0], flush=True)
    spent = time.process_time() - start
    print(f"{count} seeds, {len(failed)} failed {failed[:20]}, {spent / count:.3f} CPU s a seed")
    return bool(failed)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what a seed decides
        command = [sys.executable, "-m", "tests.sim", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})
    sys.exit(main())
