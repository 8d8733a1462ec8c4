"""The few operations of a failing life that matter: delta debugging, as Zeller and Hildebrandt describe it (ddmin)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.sim.end import Failure
from tests.sim.world import run


def minimise(seed: int, devices: int, operations: int, failure: Failure, *, odd_disks: bool | None = None) -> Failure:
    """Return the failure of the same kind of a life without the operations that are not needed for it."""
    found = failure

    def fails(kept: Sequence[int]) -> bool:
        nonlocal found
        try:
            run(seed, devices, operations, frozenset(range(operations)) - set(kept), odd_disks=odd_disks)
        except Failure as error:
            if error.kind == failure.kind:
                found = error
                return True
        return False

    ddmin(list(range(operations)), fails)
    return found


def ddmin(items: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> Sequence[int]:
    """Return a part of `items` that fails, none of which can be left out alone. The last call of `fails` that returned
    True was for what is returned."""
    parts = 2
    while len(items) >= 2:
        size = -(-len(items) // parts)
        for at in range(0, len(items), size):
            rest = [*items[:at], *items[at + size :]]
            if fails(rest):
                items, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(items):
                break
            parts = min(len(items), 2 * parts)
    return items
