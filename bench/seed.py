"""`python -m bench seed --devices N`: a seed that serves N devices, each of an account of its own with a folder.

What it holds in memory once it has everything, and what it costs to have them connected and idle.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.processes import wait_until
from bench.shoal_node import ShoalNode, make_files

FILES = 100
IDLE = 30.0  # seconds


def run(base: Path, count: int) -> None:
    """Measure, and print one row."""
    seed = ShoalNode(base, "seed", base / "none", "--seed", "--open")
    devices = [ShoalNode(base, f"d{number}", base / f"d{number}") for number in range(count)]
    try:
        seed.start()
        card = seed.ask("GET", "seed")["card"]
        alone = seed.ask("GET", "seed")["resident_bytes"]
        began = time.monotonic()
        for device in devices:
            make_files(device.folder, FILES)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda device: _begin(device, card), devices))
        wait_until(lambda: seed.ask("GET", "seed")["held_folders"] == count, 600, "the seed to hold all folders")
        wait_until(lambda: seed.ask("GET", "seed")["relay_reservations"] == count, 600, "all to have a place")
        took = time.monotonic() - began
        time.sleep(5)
        before, at = seed.daemon.cpu_seconds(), time.monotonic()
        time.sleep(IDLE)
        found = seed.ask("GET", "seed")
        row = {
            "devices": count,
            "all_served_s": round(took, 1),
            "rss_alone_mib": round(alone / 2**20),
            "rss_mib": round(found["resident_bytes"] / 2**20),
            "idle_cpu_s_per_minute": round((seed.daemon.cpu_seconds() - before) / (time.monotonic() - at) * 60, 2),
            "sessions": found["sessions"],
            "held_bytes": found["held_bytes"],
            "dht_records": found["dht_records"],
        }
        print(json.dumps(row), flush=True)
    finally:
        for node in (seed, *devices):
            if hasattr(node, "daemon"):
                node.daemon.kill()


def _begin(device: ShoalNode, card: str) -> None:
    device.start()
    device.add()
    device.ask("POST", "seeds", {"card": card})
