"""Keeps the fault of one peer, or of one folder, from sinking the whole node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shoal.node.store import StoreDamaged, StoreFull


@contextmanager
def bulkhead(what: str, report: Callable[[str], None]) -> Iterator[None]:
    """End the block at its first error, and `report` it in a line. A damaged store and a cancellation go through.

    Trouble with the disk is told as it is; anything else should not have happened, and its traceback is logged.
    """
    try:
        yield
    except* StoreDamaged:
        raise
    except* (OSError, StoreFull) as group:
        report(_line(_first(group)))
    except* Exception as group:
        logging.getLogger("shoal").error("%s ended by a fault of Shoal's", what, exc_info=group)
        error = _first(group)
        report(f"a fault of Shoal's ({type(error).__name__}); the daemon's log file has the details")


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _line(error: BaseException) -> str:
    if isinstance(error, StoreFull):
        return "the disk that holds Shoal's home is full"
    return str(getattr(error, "strerror", None) or error)
