"""Rules of the product, broken on purpose: the simulator must notice each."""

from __future__ import annotations

from collections.abc import Callable

MUTATIONS: dict[str, Callable[[], None]] = {}


def break_rule(name: str) -> None:
    """Have this process's Shoal break the rule."""
    MUTATIONS[name]()
