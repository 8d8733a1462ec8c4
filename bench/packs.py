"""What sealed replicas cost: sealing and packing, erasure coding, and planning who holds what. CPU seconds of one core.

python -m bench packs [--packs 1024 --runs N]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from shoal.transfer import erasure, packs
from shoal.transfer.placement import Holder, Policy, mine

MIB = 1 << 20
TERABYTE = 32_768  # packs
HOLDERS = 12


def main(arguments: list[str]) -> int:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(prog="bench packs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--packs", type=int, default=TERABYTE, help="that are planned; 32,768 are 1 TB")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"planned": _planned(options.packs)}
    secret = b"s" * 32
    for name, size, count in (("1 MiB", MIB - 64, 32), ("4 KiB", 4096, 4096)):
        chunks = [(os.urandom(32), os.urandom(size)) for _ in range(count)]
        found[f"seal and pack, chunks of {name}, MiB/s"] = _rate(
            partial(packs.build, secret, chunks), size * count, options.runs
        )
    data = os.urandom(packs.PACK_SIZE)
    coding = erasure.Coding(6, 3)
    pieces = erasure.encode(data, coding)
    worst = dict(enumerate(pieces[3:], 3))
    found["encode 6+3, MiB/s"] = _rate(lambda: erasure.encode(data, coding), len(data), options.runs)
    found["decode 6+3 without three data pieces, MiB/s"] = _rate(
        lambda: erasure.decode(worst, coding, len(data)), len(data), options.runs
    )
    print(json.dumps(found))
    return 0


def _rate(work: Callable[[], object], size: int, runs: int) -> int:
    seconds = []
    for _ in range(runs + 1):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return round(size / MIB / statistics.median(seconds[1:]))


def _planned(count: int) -> dict[str, float]:
    """Plan a terabyte for one of twelve holders of an erasure code, of which one was lost."""
    holders = [Holder(os.urandom(32), f"zone {number % 3}", 1e12) for number in range(HOLDERS)]
    names = [os.urandom(32) for _ in range(count)]
    policy = Policy(k=6, m=3, min_zones=3)
    claims = {pack: {h.device: (index,) for index, h in enumerate(holders[:9])} for pack in names}
    began, cpu = time.perf_counter(), time.process_time()
    plan = mine(holders[-1].device, names, holders[1:], policy, claims)
    return {
        "packs": count,
        "seconds": round(time.perf_counter() - began, 2),
        "CPU seconds": round(time.process_time() - cpu, 2),
        "pieces to fetch": len(plan.needs),
        "MiB resident at most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
