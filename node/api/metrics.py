"""What a node tells a monitor: whether it is well, and figures in the text format of Prometheus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import trio

from shoal.node.daemon import Node

PAGE = 4096


def figures(node: Node) -> dict[str, Any]:
    """Return the figures of a node, by name; those that only grow end with `_total`."""
    found = {
        "uptime_seconds": (node.now_ms() - node.started_ms) / 1000,
        "resident_bytes": resident_bytes(),
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "connections": len(node.host.connected()),
        "sessions": len(node.sessions),
        "received_bytes_total": node.fetcher.stats.received,
        "sent_bytes_total": node.fetcher.stats.sent,
        "held_folders": len(node.holding.all),
        "held_bytes": sum(held.size for held in node.holding.all.values()),
        "pack_bytes": node.packs.shelf.used_all(),
        "pack_repair_bytes_total": node.packs.counts["repair_received"],
        "pack_served_bytes_total": node.packs.counts["served"],
        "banned_peers": len(node.bans.all()),
    }
    if node.finding.mode != "off":
        dht = node.finding.dht
        found |= {
            "dht_serves": int(dht.serves),
            "dht_peers": sum(each.answered is not None for each in dht.routing),
            "dht_records": dht.providers.size,
            "dht_questions_total": dht.questions,
            "dht_lookups_total": dht.stats.lookups,
            "dht_failed_total": dht.stats.failed,
        }
    if node.ways.relay is not None:
        relay = node.ways.relay.statistics()
        found |= {
            "relay_reservations": relay.reservations,
            "relay_circuits": relay.circuits,
            "relay_circuits_total": relay.circuits_begun,
            "relay_bytes_total": relay.bytes_carried,
            "relay_refused_total": relay.reservations_refused + relay.circuits_refused,
        }
    return found


def prometheus(node: Node) -> str:
    """Return the figures in Prometheus' text format, version 0.0.4."""
    lines = []
    for name, value in figures(node).items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# TYPE shoal_{name} {kind}", f"shoal_{name} {value}"]
    return "\n".join(lines) + "\n"


def health(node: Node) -> dict[str, Any]:
    """Return whether a node is well. `ok`: False where it cannot do its work."""
    ok = not node.account.is_revoked and bool(node.host.addresses())
    return {"ok": ok, "uptime_s": round((node.now_ms() - node.started_ms) / 1000), "time": time.time()}


def resident_bytes() -> int:
    """Return the memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
