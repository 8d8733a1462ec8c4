"""Times as people write them."""

from __future__ import annotations

import datetime

import pytest

from shoal.node.cli.moments import parse_moment
from shoal.node.errors import UserError

ZONE = datetime.timezone(datetime.timedelta(hours=1))
NOW = datetime.datetime(2026, 11, 24, 12, 30, tzinfo=ZONE)  # a Tuesday


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("now", "2026-11-24T12:30:00+01:00"),
        ("2026-11-17 14:30", "2026-11-17T14:30:00+01:00"),
        ("2026-11-17T14:30:00Z", "2026-11-17T14:30:00+00:00"),
        ("2026-11-17", "2026-11-17T23:59:59.999999+01:00"),
        ("yesterday", "2026-11-23T23:59:59.999999+01:00"),
        ("today", "2026-11-24T12:30:00+01:00"),
        ("Tuesday", "2026-11-17T23:59:59.999999+01:00"),
        ("last monday", "2026-11-23T23:59:59.999999+01:00"),
        ("3 days ago", "2026-11-21T12:30:00+01:00"),
        ("an hour ago", "2026-11-24T11:30:00+01:00"),
        ("2 weeks", "2026-11-10T12:30:00+01:00"),
        ("9:05", "2026-11-24T09:05:00+01:00"),
    ],
)
def test_a_moment_is_understood(said: str, meant: str) -> None:
    assert parse_moment(said, NOW) == datetime.datetime.fromisoformat(meant)


@pytest.mark.parametrize("said", ["", "soon", "2026-13-01", "25:00", "99999999999999 years ago", "tomorrow"])
def test_what_is_no_moment_is_told_with_an_example(said: str) -> None:
    with pytest.raises(UserError, match="is no time") as error:
        parse_moment(said, NOW)
    assert "2026-11-17" in error.value.hint
