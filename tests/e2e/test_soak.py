"""Twenty nodes for an hour, each of which is stopped or killed and started again now and then: memory and tasks stay
what they were, and nothing goes unhandled. `SHOAL_SOAK_SECONDS` makes it shorter."""

from __future__ import annotations

import os
import random
import statistics
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from nodes import Node, running

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

NODES = 20
STAYING = 4  # that are never stopped: what they grow by is what is looked at
SECONDS = float(os.environ.get("SHOAL_SOAK_SECONDS", "3600"))
WARM = 0.25  # of the time is what everything needs to get used to it


class Peer(Node):
    """A node that serves the DHT, and knows one other."""

    known: str = ""

    def up(self, *more: str) -> None:
        super().up("--dht", "server", *(["--bootstrap", self.known] if self.known else []), *more)

    def figures(self) -> dict[str, float]:
        """Return its figures."""
        with urlopen(f"http://{self.api}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.split() for line in lines if not line.startswith("#"))
        return {name.removeprefix("shoal_"): float(value) for name, value in pairs}


@pytest.mark.timeout(SECONDS + 600)
def test_memory_and_tasks_stay_what_they_were_while_others_come_and_go(tmp_path: Path) -> None:
    rng = random.Random(1)
    peers = [Peer(tmp_path / f"n{number:02}") for number in range(NODES)]
    with running(peers[0]):
        for peer in peers[1:]:
            peer.known = peers[0].json("status")["device"]["addresses"][0]
        with running(*peers[1:]):
            staying = peers[:STAYING]
            samples: list[list[dict[str, float]]] = []
            deadline = time.monotonic() + SECONDS
            number = restarts = 0
            while time.monotonic() < deadline:
                peer = rng.choice(peers[STAYING:])
                peer.kill() if rng.random() < 0.5 else peer.down()
                time.sleep(rng.uniform(0, 5))
                peer.up()
                restarts += 1
                for _ in range(3):
                    number += 1
                    rng.choice(peers).run("dht", "announce", f"text:{number}")
                    rng.choice(peers).run("dht", "find", f"text:{rng.randrange(number) + 1}")
                samples.append([each.figures() for each in staying])
            warm = int(len(samples) * WARM)
            for place, peer in enumerate(staying):
                for name, most in (("resident_bytes", 1.10), ("tasks", 1.25)):
                    values = [sample[place][name] for sample in samples[warm:]]
                    third = max(1, len(values) // 3)
                    begin, end = statistics.median(values[:third]), statistics.median(values[-third:])
                    print(f"{peer.home.name} {name}: {begin:.0f} -> {end:.0f} in {restarts} restarts")
                    assert end <= begin * most, f"{name} of {peer.home.name} grew from {begin:.0f} to {end:.0f}"
            for peer in peers:
                log = (peer.home / "daemon.log").read_text(errors="replace")
                assert "Traceback" not in log, f"{peer.home.name}: {log[-3000:]}"
