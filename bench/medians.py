"""What the runs of a bench come to: one row a workload and number of devices."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping

FIGURES = ("seconds", "p99", "worst", "cpu", "received_mib", "sent_mib", "rss_mib", "files_per_s")


def medians(rows: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return, for each workload, every tool's medians, and Shoal's seconds and CPU seconds by Syncthing's; None where
    one of them was not measured, or Syncthing's is 0."""
    workloads: dict[tuple[object, object], dict[str, list[Mapping[str, object]]]] = defaultdict(dict)
    for row in rows:
        workloads[row["workload"], row["devices"]].setdefault(str(row["tool"]), []).append(row)
    found: list[dict[str, object]] = []
    for (workload, devices), tools in workloads.items():
        of = {tool: _of(runs) for tool, runs in tools.items()}
        found.append(
            {
                "median of": workload,
                "devices": devices,
                **{tool: {"runs": len(tools[tool]), **figures} for tool, figures in of.items()},
                "ratio": _ratio(of, "seconds"),
                "cpu_ratio": _ratio(of, "cpu"),
            }
        )
    return found


def _of(runs: list[Mapping[str, object]]) -> dict[str, float]:
    found = {}
    for figure in FIGURES:
        values = [value for run in runs if isinstance(value := run.get(figure), int | float)]
        if values:
            found[figure] = round(statistics.median(values), 3)
    return found


def _ratio(tools: Mapping[str, Mapping[str, float]], figure: str) -> float | None:
    shoal, syncthing = (tools.get(tool, {}).get(figure) for tool in ("shoal", "syncthing"))
    return round(shoal / syncthing, 3) if shoal is not None and syncthing else None
