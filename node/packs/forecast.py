"""When a holder runs full: additive Holt-Winters over the days of its use, with a week as season.

    level, trend and season as in Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., 8.3;
    the spread of a forecast h days ahead is that of a day's errors times the root of
    1 + sum over j < h of (a (1 + b j))^2 (there, 8.7)

Parameters are those of a small grid with the least error of one day ahead. It is small, so no library is used for it.
Pure. A history is one sample a day, the last of the day, of two years at most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cbor2

DAY = 86_400
MOST_DAYS = 730
LEAST_DAYS = 5
WEEK = 7
SEASON_FROM = 3 * WEEK  # days of history from which on a week is looked for
AHEAD = 365  # days
LASTS = 180  # days for which what is advised to be added is to last
BAND = 1.2816  # standard deviations that hold 80 % of a normal distribution
GRID = (0.1, 0.3, 0.6, 0.9)
TRENDS = (0.01, 0.05, 0.2)
SEASONS = (0.05, 0.3)


@dataclass(frozen=True, slots=True)
class Sample:
    """How much was used of what was offered, bytes, at a Unix time in seconds."""

    time: float
    used: int
    offered: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a holder runs full, in days from the last sample: `full_in`, and the earliest and latest by the band of
    80 %; None: not within a year. `daily`: bytes a day; `error`: the mean error of a day's forecast, bytes; `add`:
    bytes to add so that there is room for half a year."""

    days: int
    full_in: int | None
    earliest: int | None
    latest: int | None
    daily: float
    error: float
    add: int
    seasonal: bool


def record(history: bytes | None, sample: Sample) -> bytes:
    """Return a history with a sample more: the last of each day counts. A clock that went back changes what was said of
    that day, and nothing else."""
    days = _read(history)
    days[int(sample.time) // DAY] = (max(0, sample.used), max(0, sample.offered))
    return cbor2.dumps([[day, *days[day]] for day in sorted(days)[-MOST_DAYS:]])


def samples(history: bytes | None) -> list[Sample]:
    """Return what a history says, by day."""
    return [Sample(day * DAY, *value) for day, value in sorted(_read(history).items())]


def forecast(known: Sequence[Sample]) -> Forecast | None:
    """Return when a holder runs full; None where there are too few days to say."""
    if not known:
        return None
    by_day = {int(each.time) // DAY: each for each in sorted(known, key=lambda each: each.time) if each.used >= 0}
    if len(by_day) < LEAST_DAYS:
        return None
    values = _daily(by_day)
    seasonal = len(values) >= SEASON_FROM
    fits = [
        _fit(values, alpha, beta, gamma)
        for alpha, beta, gamma in itertools.product(GRID, TRENDS, SEASONS if seasonal else (0.0,))
    ]
    best = min(fits, key=lambda fit: fit.error)
    offered = by_day[max(by_day)].offered
    full = [best.full_in(offered, sign) for sign in (0.0, BAND, -BAND)]
    needed = best.ahead(LASTS) + BAND * best.spread(LASTS)
    return Forecast(
        len(by_day),
        full[0],
        full[1],
        full[2],
        (best.ahead(4 * WEEK) - best.ahead(0)) / (4 * WEEK),
        best.mean_error,
        max(0, math.ceil(needed) - offered),
        seasonal,
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    level: float
    trend: float
    season: tuple[float, ...]
    alpha: float
    beta: float
    error: float  # root of the mean square
    mean_error: float

    def ahead(self, days: int) -> float:
        """Return what is expected so many days ahead."""
        return self.level + self.trend * days + self.season[(days - 1) % len(self.season)]

    def spread(self, days: int) -> float:
        """Return the standard deviation of that."""
        steps = range(1, days)
        return self.error * math.sqrt(1 + sum((self.alpha * (1 + self.beta * step)) ** 2 for step in steps))

    def full_in(self, offered: int, sign: float) -> int | None:
        """Return the first day on which it is full, at so many standard deviations."""
        reached = (d for d in range(1, AHEAD + 1) if self.ahead(d) + sign * self.spread(d) >= offered)
        return next(reached, None)


def _fit(values: Sequence[float], alpha: float, beta: float, gamma: float) -> _Fit:
    period = WEEK if gamma else 1
    first = values[:period]
    level = sum(first) / period
    trend = (values[-1] - values[0]) / max(1, len(values) - 1)
    season = [value - level - trend * (at - (period - 1) / 2) for at, value in enumerate(first)] if gamma else [0.0]
    level += trend * (period - 1) / 2
    errors: list[float] = []
    for at in range(period, len(values)):
        expected = level + trend + season[at % period]
        error = values[at] - expected
        errors.append(error)
        before = level
        level = alpha * (values[at] - season[at % period]) + (1 - alpha) * (level + trend)
        trend = beta * (level - before) + (1 - beta) * trend
        if gamma:
            season[at % period] += gamma * (values[at] - level - season[at % period])
    turned = tuple(season[(len(values) + at) % period] for at in range(period))
    count = max(1, len(errors))
    square = math.sqrt(sum(error * error for error in errors) / count)
    return _Fit(level, trend, turned, alpha, beta, square, sum(map(abs, errors)) / count)


def _daily(by_day: dict[int, Sample]) -> list[float]:
    """Return one value for each day, those that lack between what is known."""
    days = sorted(by_day)
    values: list[float] = []
    for one, other in itertools.pairwise(days):
        step = (by_day[other].used - by_day[one].used) / (other - one)
        values += [by_day[one].used + step * at for at in range(min(other - one, MOST_DAYS))]
    return [*values, float(by_day[days[-1]].used)][-MOST_DAYS:]


def _read(history: bytes | None) -> dict[int, tuple[int, int]]:
    return {day: (used, offered) for day, used, offered in cbor2.loads(history)} if history is not None else {}
