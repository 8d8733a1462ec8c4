"""How likely a pack is lost in a year: a birth-death chain over how many of its pieces are lacking.

State j: j of n pieces are lost. A piece is lost at the rate f of one holder, each of the lost ones comes back at the
rate 1 / repair time; with more than n - k lost the pack is. The mean time from state j to j + 1 is

    T(0) = 1 / (n f);   T(j) = 1 / ((n - j) f) + j r / ((n - j) f) * T(j - 1)

and the time to loss their sum (Trivedi, "Probability and Statistics with Reliability", 2nd ed., 8.3). Holders fail
independently of each other here: what fails together, as all of a zone, is not in it.
"""

from __future__ import annotations

import math

YEAR = 365.25  # days


def mean_years_to_loss(pieces: int, needed: int, failures: float, repair_days: float) -> float:
    """Return the mean time until a pack of so many pieces is lost, of which `needed` are. `failures`: of a holder in a
    year; `repair_days`: until a lost piece is somewhere else. Raises ValueError."""
    if not 1 <= needed <= pieces or failures <= 0 or repair_days <= 0:
        raise ValueError("there have to be as many pieces as are needed, and rates above 0")
    repairs = YEAR / repair_days
    total = step = 0.0
    for lost in range(pieces - needed + 1):
        leaving = (pieces - lost) * failures
        step = 1 / leaving + lost * repairs / leaving * step
        total += step
    return total


def yearly_loss(pieces: int, needed: int, failures: float, repair_days: float) -> float:
    """Return the chance that a pack is lost within a year. Raises ValueError."""
    return -math.expm1(-1 / mean_years_to_loss(pieces, needed, failures, repair_days))
