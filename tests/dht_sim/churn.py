"""When peers come and go, as measured in the public IPFS network.

Trautwein et al., "Design and Evaluation of IPFS" (SIGCOMM 2022), from crawls each 30 minutes: 87.6% of sessions are
shorter than 8 hours, 2.5% longer than 24 hours; the median is tens of minutes to about an hour, by country. A
Weibull distribution through the first two figures has shape 0.52 (that sessions are so distributed: Stutzbach and
Rejaie, "Understanding Churn in Peer-to-Peer Networks", IMC 2006); its median comes out at 57 minutes, its mean at 3.6
hours.

Not published, and so assumed: a peer is away for as long as it is there, by the same distribution, so that half of all
peers are there at any time; one in ten that leave never comes back, and a new one, that nobody knows, comes instead.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

HOUR = 3600.0
UNDER_8_HOURS = 0.876
OVER_24_HOURS = 0.025
FOR_GOOD = 0.1  # of those who leave
SETTLE = 96 * HOUR  # how long before the start the first peers of all came: by then the ages are as they stay


@dataclass(frozen=True, slots=True)
class Session:
    """A time that a peer is there. `start`, `end`: seconds; `is_new`: nobody saw this peer before."""

    start: float
    end: float
    is_new: bool


def _shape_and_scale() -> tuple[float, float]:
    """Return the Weibull distribution's parameters, the scale in seconds, that the two figures give."""
    at_8, at_24 = -math.log(1 - UNDER_8_HOURS), -math.log(OVER_24_HOURS)
    shape = math.log(at_24 / at_8) / math.log(3)
    return shape, 8 * HOUR / at_8 ** (1 / shape)


SHAPE, SCALE = _shape_and_scale()


def session_length(rng: random.Random) -> float:
    """Return how long a peer stays, or is away, in seconds."""
    return rng.weibullvariate(SCALE, SHAPE)


def sessions(rng: random.Random, until: float) -> Iterator[Session]:
    """Yield the sessions, one after the other, of one place in the network that end after 0 and begin before `until`
    seconds. Whoever was there before 0 is not new."""
    at, is_new = -SETTLE * (1 + rng.random()), False
    if rng.random() < 0.5:
        at += session_length(rng)
    while at < until:
        end = at + session_length(rng)
        if end > 0:
            yield Session(at, end, is_new)
        is_new = end > 0 and rng.random() < FOR_GOOD
        at = end + session_length(rng)
