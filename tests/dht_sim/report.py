"""The figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def markdown(results: dict[str, Any]) -> str:
    """Return three tables: the day, growth, and sweeps."""
    return "\n".join([*_day(results["day"]), "", *_growth(results["growth"]), "", *_sweeps(results)])


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def _spread(spread: dict[str, float], digits: int) -> list[str]:
    return [f"{spread[name]:,.{digits}f}" for name in ("mean", "p50", "p95", "p99", "most")]


def _day(day: dict[str, Any]) -> list[str]:
    facts = [
        ("peers there at a time, mean", f"{day['there']:,.0f}"),
        ("peers that were there at all", f"{day['peers']:,}"),
        ("hours, after 3 to settle", f"{day['hours']:g}"),
        ("look-ups of an announced key", f"{day['asked']:,}"),
        ("of those, found a provider", f"{day['success']:.3%}"),
        *((f"the same, announced {age} ago", f"{share:.3%}") for age, share in day["success_by_age"].items()),
        ("messages to announce one key by itself", f"{day['one_key']:.1f}"),
        ("checks, an hour and peer", f"{day['upkeep']['check']:.0f}"),
        ("messages of refreshing look-ups, an hour and peer", f"{day['upkeep']['refresh']:.0f}"),
        ("checks that nobody answered", f"{day['failures']['check']:.1%}"),
        ("peers in tables that are not there", f"{day['tables']['gone']:.1%}"),
        ("the same, of those that others are told of", f"{day['tables']['told_gone']:.1%}"),
    ]
    spreads = [
        ("hops of a look-up that found", *_spread(day["hops"], 2)),
        ("questions it asked", *_spread(day["messages"], 1)),
        ("seconds it took", *_spread(day["seconds"], 2)),
        ("questions answered, an hour and peer", *_spread(day["load"], 0)),
        ("records a peer keeps, of those with any", *_spread(day["records"], 1)),
        ("peers in a table", *_spread(day["tables"]["size"], 0)),
    ]
    return [
        *_table(("a day", "figure"), facts),
        "",
        *_table(("a day", "mean", "p50", "p95", "p99", "most"), spreads),
    ]


def _growth(grown: list[dict[str, float]]) -> list[str]:
    rows = [(f"{each['nodes']:,}", f"{each['hops']:.2f}", f"{each['messages']:.1f}") for each in grown]
    return _table(("peers", "hops to the nearest", "questions, to find the 20 nearest"), rows)


def _sweeps(results: dict[str, Any]) -> list[str]:
    alone = results["day"]["one_key"]
    rows = [
        (
            f"{each['nodes']:,}",
            f"{each['keys']:,}",
            f"{each['lookups']:,}",
            f"{each['lookup_messages']:,}",
            f"{each['batch_messages']:,}",
            f"{each['messages']:,}",
            f"{each['messages'] / each['nodes']:.1f}",
            f"{alone * each['keys'] / each['messages']:,.0f}",
            f"{each['told'] / each['keys']:.1f}",
            f"{each['found']:.1%}",
        )
        for each in results["sweeps"]
    ]
    head = (
        "peers",
        "keys",
        "look-ups",
        "their messages",
        "batches",
        "all messages",
        "a peer",
        "times fewer than one by one",
        "peers that took a key",
        "found after",
    )
    return _table(head, rows)
