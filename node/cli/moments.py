"""Times as people write them: `2026-11-17`, `2026-11-17 14:30`, `yesterday`, `tuesday`, `3 days ago`, `14:30`."""

from __future__ import annotations

import datetime
import re

from shoal.node.errors import EXIT_USAGE, UserError

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
UNITS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 7 * 86400,
    "month": 30 * 86400,
    "year": 365 * 86400,
}
_AGO = re.compile(r"(\d+|an?)\s*([a-z]+?)s?(?:\s+ago)?")


def parse_moment(text: str, now: datetime.datetime) -> datetime.datetime:
    """Return the moment that is meant, in the zone of `now`; a day alone means its end. Raises UserError."""
    said = " ".join(text.strip().lower().removeprefix("last ").split())
    end = datetime.time(23, 59, 59, 999_999)
    if said == "now":
        return now
    if said in ("yesterday", "today"):
        day = now.date() - datetime.timedelta(days=said == "yesterday")
        return min(now, datetime.datetime.combine(day, end, now.tzinfo))
    if said in DAYS:
        back = (now.weekday() - DAYS.index(said)) % 7 or 7
        return datetime.datetime.combine(now.date() - datetime.timedelta(days=back), end, now.tzinfo)
    ago = _AGO.fullmatch(said)
    if ago is not None and ago[2] in UNITS:
        count = int(ago[1]) if ago[1].isdigit() else 1
        try:
            return now - datetime.timedelta(seconds=count * UNITS[ago[2]])
        except OverflowError:
            raise _unclear(text) from None
    try:
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", said):
            return datetime.datetime.combine(now.date(), datetime.time.fromisoformat(said.zfill(5)), now.tzinfo)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", said):
            return datetime.datetime.combine(datetime.date.fromisoformat(said), end, now.tzinfo)
        found = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise _unclear(text) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=now.tzinfo)


def _unclear(text: str) -> UserError:
    hint = 'write it like 2026-11-17, "2026-11-17 14:30", yesterday, tuesday or "3 days ago"'
    return UserError("unclear-time", f"{text!r} is no time", hint, EXIT_USAGE)
