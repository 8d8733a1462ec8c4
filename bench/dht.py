"""`python -m bench dht --nodes N --keys K`: real nodes on loopback that serve the DHT.

One announces K keys; peers that know one other and nobody else look one up each, the first questions of their lives,
connections and all; then 30% of the others are killed at once, and keys are looked up again.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nacl.signing
import trio

from bench.processes import free_port, wait_until
from bench.shoal_node import ShoalNode
from shoal.bootstrap.host import run_host
from shoal.bootstrap.kad import KadStreams
from shoal.bootstrap.peerid import device_from_text, peer_id_bytes
from shoal.dht.driver import Dht
from shoal.dht.keyspace import Key, PeerId
from shoal.dht.table import MemoryTable

LOOKUPS = 50  # by nodes that know what they learnt before
COLD = 20  # peers that know one other and nothing else, for one look-up each
KILLED = 0.3
PIECE = 10_000  # keys in one call of the API


def run(base: Path, count: int, keys: int) -> None:
    """Measure, and print one row."""
    rng = random.Random(1)
    first = ShoalNode(base, "n0", base / "f", "--dht", "server")
    nodes = [first]
    try:
        first.start()
        known = first.ask("GET", "status")["device"]["addresses"][0]
        nodes += [
            ShoalNode(base, f"n{number}", base / "f", "--dht", "server", "--bootstrap", known)
            for number in range(1, count)
        ]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ShoalNode.start, nodes[1:]))
        wait_until(lambda: _peers(nodes) >= min(count - 1, 20), 300, "all nodes to know each other")
        row: dict[str, object] = {"nodes": count, "keys": keys, "least_peers": _peers(nodes)}
        wanted = [_key(number) for number in range(keys)]
        row |= _announce(nodes[1], wanted)
        spent = [trio.run(_cold_look_up, known, rng.choice(wanted)) for _ in range(COLD)]
        row |= {"cold_median_ms": _median(spent), "cold_found": sum(took is not None for took in spent) / len(spent)}
        spent = _look_up(nodes[2:], rng.sample(wanted, LOOKUPS))
        row |= {"warm_median_ms": _median(spent), "warm_found": sum(took is not None for took in spent) / len(spent)}
        killed = rng.sample(nodes[2:], int(KILLED * count))
        for node in killed:
            node.daemon.kill()
        left = [node for node in nodes[2:] if node not in killed]
        spent = _look_up(left, rng.sample(wanted, 4 * LOOKUPS))
        row |= {
            "killed": len(killed),
            "killed_median_ms": _median(spent),
            "killed_found": sum(took is not None for took in spent) / len(spent),
        }
        print(json.dumps(row), flush=True)
    finally:
        for node in nodes:
            node.daemon.kill()


def _announce(node: ShoalNode, keys: Sequence[str]) -> dict[str, object]:
    before = sum(node.ask("GET", "dht")["sent"].values())
    told = node.ask("GET", "dht")["told"]
    began = time.monotonic()
    for at in range(0, len(keys), PIECE):
        node.ask("POST", "dht/announce", {"keys": keys[at : at + PIECE]})
    wait_until(lambda: node.ask("GET", "dht")["told"] - told >= len(keys), 600, "all keys to be announced")
    took = time.monotonic() - began
    sent = node.ask("GET", "dht")["sent"]
    return {"announce_s": round(took, 1), "announce_messages": sum(sent.values()) - before, "sent": sent}


def _look_up(nodes: Sequence[ShoalNode], keys: Sequence[str]) -> list[float | None]:
    """Return how long each took in milliseconds, None where nobody was found."""
    spent: list[float | None] = []
    for number, key in enumerate(keys):
        began = time.monotonic()
        found = nodes[number % len(nodes)].ask("POST", "dht/find", {"key": key, "enough": 1})
        spent.append(1000 * (time.monotonic() - began) if found else None)
    return spent


async def _cold_look_up(known: str, key: str) -> float | None:
    """Look a key up as a peer that was never there before; return how long it took in milliseconds."""
    seed = secrets.token_bytes(32)
    signing = nacl.signing.SigningKey(seed)
    address, _, peer = known.rpartition("/p2p/")
    async with run_host(seed, [f"/ip4/127.0.0.1/tcp/{free_port()}"]) as host:
        streams = KadStreams(host, set)
        streams.dht = Dht(
            PeerId(peer_id_bytes(host.device)),
            streams,
            MemoryTable(),
            own_addresses=list,
            sign=lambda data: signing.sign(data).signature,
            wall=time.time,
            rng=random.Random(1),
            seeds=lambda: {PeerId(peer_id_bytes(device_from_text(peer))): (address,)},
        )
        began = time.monotonic()
        found = await streams.dht.find_providers(Key(bytes.fromhex(key)))
        return 1000 * (time.monotonic() - began) if found else None


def _median(spent: Sequence[float | None]) -> float:
    return round(statistics.median(took for took in spent if took is not None), 1)


def _peers(nodes: Sequence[ShoalNode]) -> int:
    return min(int(node.ask("GET", "dht")["peers"]) for node in nodes)


def _key(number: int) -> str:
    return (b"\x12\x20" + hashlib.sha256(number.to_bytes(8)).digest()).hex()
