"""When a holder runs full: Holt-Winters over the days of its use, additive, its trend damped, with a week as season.

Holt 1957, Winters 1960; as in Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., chapter 8:

    expected = level + p trend + season                       (8.3, 8.2 for the damping p)
    level    = a (seen - season) + (1 - a) (level + p trend)
    trend    = b (level - level before) + (1 - b) p trend
    season   = season + c (seen - expected)
    spread h days ahead = that of a day's errors times the root of 1 + sum over j < h of
        (a + a b (p + p^2 + ... + p^j) + (c where j is whole weeks))^2    (8.7)

Parameters are those of a small grid with the least error of one day ahead. A damped trend says that growth ends, which
is the dangerous thing to be wrong in, so it has to be clearly better. The start is taken from the first days alone, and
no error is counted in them, nor in days that nobody saw. It is small, so neither numpy nor statsmodels is used for it.

A history is one sample a day, the last of the day, of two years at most; CBOR, [[day since 1970, used, offered], ...].
Clocks jump: a few days far from all others are not believed, nor is anything after `now`. Pure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import cbor2

DAY = 86_400
MOST_DAYS = 730
FIT_DAYS = 364  # the last days, which the model is fitted to
LEAST_DAYS = 5
WEEK = 7
SEASON_FROM = 3 * WEEK  # days seen from which on a week is looked for
APART = 60  # days; fewer than LEAST_DAYS that are further than this from all others are of a clock that jumped
AHEAD = 365  # days
LASTS = 180  # days for which what is advised to be added is to last
BAND = 1.2816  # standard deviations that hold 80 % of a normal distribution
LEVELS = (0.1, 0.3, 0.6, 0.9)
TRENDS = (0.01, 0.05, 0.2)
SEASONS = (0.05, 0.3)
DAMPINGS = (1.0, 0.99, 0.96)
BETTER = 0.9  # a damped trend is taken where its error is less than this part of that of one that is not
LAST_TIME = 1 << 36  # seconds; later is no time
MOST_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class Sample:
    """How much was used of what was offered, bytes, at a Unix time in seconds."""

    time: float
    used: int
    offered: int


@dataclass(frozen=True, slots=True)
class Advice:
    """Add so many bytes by that day, the earliest on which it may be full; it then lasts until the other."""

    add: int
    by: date
    lasts_until: date


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a holder runs full, in days from the last sample: `full_in`, and the earliest and latest by the band of
    80 %; None: not within a year. `daily`: bytes a day; `error`: the mean error of a day's forecast, bytes; `add`:
    bytes to add so that there is room for half a year. `as_of`: the day of the last sample. `backtest`: the mean error,
    bytes, of a forecast of the last days by those before them; None: too few."""

    days: int
    full_in: int | None
    earliest: int | None
    latest: int | None
    daily: float
    error: float
    add: int
    seasonal: bool
    as_of: date
    backtest: float | None
    advice: Advice | None

    @property
    def full_on(self) -> date | None:
        """The day on which it is full."""
        return self._day(self.full_in)

    @property
    def earliest_on(self) -> date | None:
        """The first day of the band."""
        return self._day(self.earliest)

    @property
    def latest_on(self) -> date | None:
        """The last day of the band."""
        return self._day(self.latest)

    def _day(self, ahead: int | None) -> date | None:
        return None if ahead is None else self.as_of + timedelta(days=ahead)


def record(history: bytes | None, sample: Sample) -> bytes:
    """Return a history with a sample more: the last of each day counts. A clock that went back changes what was said of
    that day, and nothing else; a sample that is nonsense changes nothing."""
    days = _read(history)
    if _sound(sample):
        days[_day(sample)] = (sample.used, sample.offered)
    return cbor2.dumps([[day, *days[day]] for day in sorted(days)[-MOST_DAYS:]])


def samples(history: bytes | None) -> list[Sample]:
    """Return what a history says, by day."""
    return [Sample(day * DAY, *value) for day, value in sorted(_read(history).items())]


def forecast(known: Iterable[Sample], now: float | None = None) -> Forecast | None:
    """Return when a holder runs full; None where there are too few days to say. What is of a day after `now`, Unix
    seconds, is not looked at."""
    sound = [each for each in known if _sound(each) and (now is None or _day(each) <= now // DAY)]
    in_order = sorted(sound, key=lambda each: (each.time, each.used, each.offered))
    by_day = _believed({_day(each): each for each in in_order})
    if len(by_day) < LEAST_DAYS:
        return None
    last = max(by_day)
    offered, as_of = by_day[last].offered, date(1970, 1, 1) + timedelta(days=last)
    best = _best(by_day)
    path = best.path(AHEAD)
    full, earliest, latest = (
        next((at for at, (mean, spread) in enumerate(path, 1) if mean + sign * spread >= offered), None)
        for sign in (0.0, BAND, -BAND)
    )
    add = max(0, math.ceil(max(mean + BAND * spread for mean, spread in path[:LASTS])) - offered)
    advice = None
    if add and earliest is not None:
        advice = Advice(add, as_of + timedelta(days=earliest), as_of + timedelta(days=LASTS))
    daily = (path[4 * WEEK - 1][0] - best.level - best.season[-1]) / (4 * WEEK)
    seasonal = len(best.season) > 1
    return Forecast(
        len(by_day), full, earliest, latest, daily, best.mean_error, add, seasonal, as_of, _backtest(by_day), advice
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    level: float
    trend: float
    season: tuple[float, ...]
    alpha: float
    beta: float
    gamma: float
    damping: float
    error: float  # standard deviation of a day's
    mean_error: float

    def path(self, days: int) -> list[tuple[float, float]]:
        """Return what is expected of each of so many days, and its standard deviation."""
        found: list[tuple[float, float]] = []
        damped, spread = 0.0, 1.0
        for ahead in range(1, days + 1):
            if ahead > 1:
                weekly = self.gamma if (ahead - 1) % WEEK == 0 else 0.0
                spread += (self.alpha + self.alpha * self.beta * damped + weekly) ** 2
            damped += self.damping**ahead
            mean = self.level + self.trend * damped + self.season[(ahead - 1) % len(self.season)]
            found.append((mean, self.error * math.sqrt(spread)))
        return found


def _best(by_day: dict[int, Sample]) -> _Fit:
    values, seen = _daily(by_day)
    seasons = SEASONS if sum(seen) >= SEASON_FROM else (0.0,)
    fits = [_fit(values, seen, *chosen) for chosen in itertools.product(LEVELS, TRENDS, seasons, DAMPINGS)]
    return min(fits, key=lambda fit: fit.error if fit.damping == 1 else fit.error / BETTER)


def _fit(
    values: Sequence[float], seen: Sequence[bool], alpha: float, beta: float, gamma: float, damping: float
) -> _Fit:
    period = WEEK if gamma else 1
    start = 2 * WEEK if gamma else max(3, min(2 * WEEK, len(values) // 2))
    level, trend = _line(values[:start], period)
    season = [0.0] * period
    if gamma:
        left = [values[at] - level - trend * (at - start + 1) for at in range(start)]
        season = [(left[at] + left[at + WEEK]) / 2 for at in range(WEEK)]
    errors: list[float] = []
    for at in range(start, len(values)):
        before, step = level, damping * trend
        error = values[at] - (level + step + season[at % period])
        if seen[at]:
            errors.append(error)
        level = before + step + alpha * error
        trend = beta * (level - before) + (1 - beta) * step
        if gamma:
            season[at % period] += gamma * error
    turned = tuple(season[(len(values) + at) % period] for at in range(period))
    free = max(1, len(errors) - (3 if gamma else 2))
    spread = math.sqrt(sum(error * error for error in errors) / free)
    mean_error = sum(map(abs, errors)) / max(1, len(errors))
    return _Fit(level, trend, turned, alpha, beta, gamma, damping, spread, mean_error)


def _line(values: Sequence[float], period: int) -> tuple[float, float]:
    """Return the last value and the slope of the line through the values; of two periods, that of their means."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    if period > 1:
        slope = (sum(values[period:]) - sum(values[:period])) / period**2
    else:
        slope = sum((at - middle) * (value - mean) for at, value in enumerate(values)) / sum(
            (at - middle) ** 2 for at in range(count)
        )
    return mean + slope * middle, slope


def _backtest(by_day: dict[int, Sample]) -> float | None:
    """Hide the last third of the days, two weeks at most, and forecast them by those before."""
    days = sorted(by_day)
    hidden = min(2 * WEEK, len(days) // 3)
    before, after = days[:-hidden], days[-hidden:]
    if len(before) < LEAST_DAYS:
        return None
    path = _best({day: by_day[day] for day in before}).path(after[-1] - before[-1])
    return sum(abs(path[day - before[-1] - 1][0] - by_day[day].used) for day in after) / hidden


def _daily(by_day: dict[int, Sample]) -> tuple[list[float], list[bool]]:
    """Return one value for each day, those that lack between what is known; and which were seen."""
    days = sorted(by_day)
    values: list[float] = []
    for one, other in itertools.pairwise(days):
        step = (by_day[other].used - by_day[one].used) / (other - one)
        values += [by_day[one].used + step * at for at in range(max(0, other - one - FIT_DAYS), other - one)]
    values.append(float(by_day[days[-1]].used))
    values = values[-FIT_DAYS:]
    return values, [day in by_day for day in range(days[-1] - len(values) + 1, days[-1] + 1)]


def _believed(by_day: dict[int, Sample]) -> dict[int, Sample]:
    """Leave out the few days that are far from all others."""
    runs: list[list[int]] = []
    for day in sorted(by_day):
        if not runs or day - runs[-1][-1] > APART:
            runs.append([])
        runs[-1].append(day)
    return {day: by_day[day] for run in runs if len(run) >= LEAST_DAYS for day in run}


def _sound(sample: Sample) -> bool:
    sizes = (sample.used, sample.offered)
    return 0 <= sample.time < LAST_TIME and all(0 <= size <= MOST_BYTES for size in sizes)


def _day(sample: Sample) -> int:
    return int(sample.time) // DAY


def _read(history: bytes | None) -> dict[int, tuple[int, int]]:
    return {day: (used, offered) for day, used, offered in cbor2.loads(history)} if history is not None else {}
