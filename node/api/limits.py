"""The API's routes for limits of speed."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from shoal.node.daemon import Node
from shoal.node.limits import (
    Rates,
    Rules,
    Schedule,
    parse_days,
    parse_rate,
    parse_time,
    say_days,
    say_time,
)


class SetSchedule(BaseModel):
    """Rates at some times of the week; `from_` and `to`: HH:MM."""

    up: int | str | None = None
    down: int | str | None = None
    days: str = "all"
    from_: str = Field(alias="from")
    to: str


class SetLimits(BaseModel):
    """All limits: bytes a second, as a number or as `2M` or `20mbit`; null or `off` for none."""

    up: int | str | None = None
    down: int | str | None = None
    lan: bool = False
    schedules: list[SetSchedule] = Field(default_factory=list, max_length=1000)


def _rate(said: int | str | None) -> int | None:
    return None if said is None else parse_rate(str(said))


def shown(node: Node) -> dict[str, Any]:
    """Return the limits as the API says them."""
    rules, now = node.limits.rules, node.limits.in_force
    return {
        "up": rules.rates.up,
        "down": rules.rates.down,
        "lan": rules.lan,
        "schedules": [
            {
                "up": schedule.rates.up,
                "down": schedule.rates.down,
                "days": say_days(schedule.days),
                "from": say_time(schedule.start),
                "to": say_time(schedule.end),
            }
            for schedule in rules.schedules
        ],
        "in_force": {"up": now.up, "down": now.down},
    }


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    @app.get("/api/limits")
    async def get_limits() -> dict[str, Any]:
        return shown(node)

    @app.put("/api/limits")
    async def set_limits(body: SetLimits) -> dict[str, Any]:
        schedules = tuple(
            Schedule(
                Rates(_rate(each.up), _rate(each.down)),
                parse_days(each.days),
                parse_time(each.from_),
                parse_time(each.to),
            )
            for each in body.schedules
        )
        node.limits.set_rules(Rules(Rates(_rate(body.up), _rate(body.down)), body.lan, schedules))
        node.chosen()
        return shown(node)
