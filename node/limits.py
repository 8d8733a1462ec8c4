"""How fast this device may send and receive: limits, and the times of the week in which others hold. Pure but for
`Limits`, which keeps them in the store and has them hold.

A schedule's rates take the place of the usual ones while it holds; of several that hold, the lower rate each way. Times
are those of this device's wall clock, so a clock that jumps is followed within seconds.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cbor2
import trio

from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.store import Store, StoreDamaged
from shoal.transfer.pace import Throttle, Way

LIMITS = b"limits"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60  # minutes
LEAST = 1000  # bytes a second: less carries nothing
MOST = 1 << 50
MOST_SCHEDULES = 32
EVERY = 5.0  # seconds
UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "kbit": 125, "mbit": 125_000, "gbit": 125_000_000}


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes a second that may be sent and received; None: any."""

    up: int | None = None
    down: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates that hold at some times of the week. `days`: of the week, Monday is 0; `start`, `end`: minutes of the day,
    an end that is not after the start is on the next day."""

    rates: Rates
    days: frozenset[int]
    start: int
    end: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Return whether it holds at that minute of that day."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        late = weekday in self.days and minute >= self.start
        return late or ((weekday - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Rules:
    """All that was said. `lan`: devices on the local network are limited as well."""

    rates: Rates = Rates()
    lan: bool = False
    schedules: tuple[Schedule, ...] = ()

    def in_force(self, weekday: int, minute: int) -> Rates:
        """Return the rates that hold at that minute of that day."""
        holding = [schedule.rates for schedule in self.schedules if schedule.holds(weekday, minute)]
        if not holding:
            return self.rates
        return Rates(_lowest([rates.up for rates in holding]), _lowest([rates.down for rates in holding]))


def _lowest(rates: list[int | None]) -> int | None:
    return min((rate for rate in rates if rate is not None), default=None)


def parse_rate(text: str) -> int | None:
    """Read `2M`, `500K`, `20mbit` (a second), or `off`. Raises UserError."""
    said = text.strip().lower().removesuffix("/s").removesuffix("ib")
    if said in ("off", "none", "unlimited"):
        return None
    number = said.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = said[len(number) :].strip()
    factor = UNITS.get(unit) or UNITS.get(unit.removesuffix("b"))
    try:
        rate = float(number) * factor if factor is not None else float("nan")
    except ValueError:
        rate = float("nan")
    if not LEAST <= rate <= MOST:
        wrong = f"{text!r} is no speed" if not 0 <= rate < LEAST else f"{text!r} is less than {LEAST} bytes a second"
        raise _bad(wrong, "say for example 500K or 2M (bytes a second), 20mbit, or off")
    return int(rate)


def parse_time(text: str) -> int:
    """Read `HH:MM` as the minute of the day; 24:00 is midnight. Raises UserError."""
    hours, _, minutes = text.strip().partition(":")
    if hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2:
        minute = int(hours) * 60 + int(minutes)
        if minute <= DAY and int(minutes) < 60:
            return minute % DAY
    raise _bad(f"{text!r} is no time of day", "say for example 08:00 or 22:30")


def parse_days(text: str) -> frozenset[int]:
    """Read `mon-fri`, `sat,sun` or `all`. Raises UserError."""
    days: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if part in ("all", "daily"):
            days.update(range(7))
        elif first in DAYS and (last in DAYS if dash else True):
            begin, end = DAYS.index(first), DAYS.index(last or first)
            days.update(day % 7 for day in range(begin, end + 1 if end >= begin else end + 8))
        else:
            raise _bad(f"{part!r} is no day of the week", "say for example mon-fri, or sat,sun, or all")
    return frozenset(days)


def say_days(days: frozenset[int]) -> str:
    """Return the days as `parse_days` reads them."""
    return "all" if len(days) == 7 else ",".join(DAYS[day] for day in sorted(days))


def say_time(minute: int) -> str:
    """Return a minute of the day as HH:MM."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _bad(message: str, hint: str) -> UserError:
    return UserError("bad-limit", message, hint, EXIT_USAGE, 400)


def encode(rules: Rules) -> bytes:
    """Return the rules as they are stored."""
    schedules = [[s.rates.up, s.rates.down, sorted(s.days), s.start, s.end] for s in rules.schedules]
    return cbor2.dumps([rules.rates.up, rules.rates.down, rules.lan, schedules])


def decode(data: bytes) -> Rules:
    """Read what `encode` made. Raises StoreDamaged."""
    try:
        up, down, lan, schedules = cbor2.loads(data)
        made = (Schedule(Rates(u, d), frozenset(days), start, end) for u, d, days, start, end in schedules)
        return Rules(Rates(up, down), lan, tuple(made))
    except (cbor2.CBORError, ValueError, TypeError) as error:
        raise StoreDamaged("the limits in it cannot be read") from error


def is_local(host: str) -> bool:
    """Return whether an IP address is of a local network; "" and what is no address is not."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_private or mapped.is_link_local or mapped.is_loopback)


class Limits:
    """The limits of this device, in force."""

    def __init__(self, store: Store, now: Callable[[], time.struct_time] = time.localtime) -> None:
        self._store = store
        self._now = now
        self._up, self._down = Throttle(), Throttle()
        saved = store.get("meta", LIMITS)
        self.rules = decode(saved) if saved is not None else Rules()
        self.apply()

    @property
    def in_force(self) -> Rates:
        """The rates that hold now."""
        now = self._now()
        return self.rules.in_force(now.tm_wday, now.tm_hour * 60 + now.tm_min)

    def set_rules(self, rules: Rules) -> None:
        """Go by other rules from now on. Raises UserError, StoreFull."""
        if len(rules.schedules) > MOST_SCHEDULES:
            raise _bad(f"there are more than {MOST_SCHEDULES} schedules", "remove some: shoal limit --clear")
        rules = replace(rules, schedules=tuple(dict.fromkeys(rules.schedules)))
        self._store.write([("meta", LIMITS, encode(rules))], sync=True)
        self.rules = rules
        self.apply()

    def apply(self) -> None:
        """Have the rates hold that are to hold now."""
        rates = self.in_force
        self._up.rate, self._down.rate = rates.up, rates.down

    async def run(self) -> None:
        """Follow the schedules until cancelled."""
        while True:
            await trio.sleep(EVERY)
            self.apply()

    def ways(self, host: str) -> tuple[Way, Way]:
        """Return how fast may be sent to, and received from, who is at this IP address."""
        local = is_local(host)

        def is_free() -> bool:
            return local and not self.rules.lan

        return Way(self._up, is_free), Way(self._down, is_free)
