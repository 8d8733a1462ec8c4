"""Which kept versions are to go: a pure decision. Ages are counted by `Age`, which no wrong clock can hurry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DAY = 24 * 3600.0
ABSENCE_MOST = 7 * DAY  # what one absence ages the kept versions by, at most: the clock may have jumped meanwhile


@dataclass(frozen=True, slots=True)
class Policy:
    """`all_days`: every version is kept for so long; `daily_days`: after that one a day, until so long; `space`: bytes
    that kept versions may take, None for a tenth of the disk."""

    all_days: float = 30
    daily_days: float = 365
    space: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept version. `what`: of which file; `since`: the age at which it was replaced, seconds."""

    name: str
    what: str
    since: float


def surplus(kept: Iterable[Kept], age: float, policy: Policy) -> list[Kept]:
    """Return those that are past their time, whatever space there is."""
    gone: list[Kept] = []
    days: dict[tuple[str, int], Kept] = {}
    for version in sorted(kept, key=lambda each: (each.since, each.name)):
        since = age - version.since
        if since > policy.daily_days * DAY:
            gone.append(version)
        elif since > policy.all_days * DAY:
            day = version.what, int(version.since // DAY)
            if day in days:
                gone.append(days[day])  # an earlier one of that day
            days[day] = version
    return gone


def oldest_first(kept: Iterable[Kept]) -> Sequence[Kept]:
    """Return in which order they go when there is no room for all."""
    return sorted(kept, key=lambda each: (each.since, each.name))


class Age:
    """Counts the seconds that a folder was kept here: time that passed while it ran, and what the wall clock says
    passed while it did not, up to a week at once."""

    def __init__(self, stored: tuple[float, int] | None, now_ms: int, monotonic: float) -> None:
        """`stored`: what `state` returned last."""
        self._base = 0.0
        if stored is not None:
            age, wall_ms = stored
            self._base = age + min(max(0.0, (now_ms - wall_ms) / 1000), ABSENCE_MOST)
        self._start = monotonic

    def now(self, monotonic: float) -> float:
        """Return the age, seconds."""
        return self._base + monotonic - self._start

    def state(self, now_ms: int, monotonic: float) -> tuple[float, int]:
        """Return what is to be stored."""
        return self.now(monotonic), now_ms
