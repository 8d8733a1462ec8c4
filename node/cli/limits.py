"""`shoal limit`: how fast this device may send and receive, and when."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import rates
from shoal.node.errors import EXIT_USAGE, UserError

EXAMPLE = "for example: shoal limit --up 500K --from 08:00 --to 18:00 --days mon-fri"


def _show(found: dict[str, Any]) -> str:
    usual = rates(found)
    if not usual and not found["schedules"]:
        return "No limits."
    lines = [f"Limits: {usual or 'none'}" + (", also on the local network" if found["lan"] else "")]
    for number, each in enumerate(found["schedules"], 1):
        lines.append(f"  {number}. {each['days']} {each['from']}-{each['to']}: {rates(each) or 'no limit'}")
    lines.append(f"Now: {rates(found['in_force']) or 'no limit'}")
    return "\n".join(lines)


def add_commands(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("limit")
    def limit(
        up: Annotated[str | None, typer.Option(help="Bytes a second to send: 500K, 2M, 20mbit, or off.")] = None,
        down: Annotated[str | None, typer.Option(help="The same, to receive.")] = None,
        start: Annotated[str | None, typer.Option("--from", help="With --to: at these times alone, HH:MM.")] = None,
        end: Annotated[str | None, typer.Option("--to", help="HH:MM; before --from, it is on the next day.")] = None,
        days: Annotated[str | None, typer.Option(help="With --from: mon-fri, or sat,sun; all by default.")] = None,
        lan: Annotated[bool | None, typer.Option("--lan/--no-lan", help="Limit the local network as well.")] = None,
        remove: Annotated[int | None, typer.Option(help="Remove the schedule of this number.")] = None,
        clear: Annotated[bool, typer.Option("--clear", help="Remove all limits and schedules.")] = False,
        json_: Json = False,
    ) -> None:
        """Show how fast this device may send and receive, or limit it. Devices on the local network are excepted."""
        found = {"up": None, "down": None, "lan": False, "schedules": []} if clear else api().get("/api/limits")
        if (start is None) != (end is None):
            raise UserError("bad-limit", "a schedule needs both --from and --to", EXAMPLE, EXIT_USAGE)
        if start is None and days is not None:
            raise UserError("bad-limit", "--days goes with --from and --to", EXAMPLE, EXIT_USAGE)
        if start is not None:
            if up is None and down is None:
                raise UserError("bad-limit", "a schedule needs --up, --down or both", EXAMPLE, EXIT_USAGE)
            found["schedules"].append({"up": up, "down": down, "from": start, "to": end, "days": days or "all"})
        else:
            found |= {way: rate for way, rate in (("up", up), ("down", down)) if rate is not None}
        if lan is not None:
            found["lan"] = lan
        if remove is not None:
            if not 1 <= remove <= len(found["schedules"]):
                raise UserError("bad-limit", f"there is no schedule {remove}", "see: shoal limit", EXIT_USAGE)
            del found["schedules"][remove - 1]
        if clear or any(each is not None for each in (up, down, start, lan, remove)):
            found = api().put("/api/limits", {key: found[key] for key in ("up", "down", "lan", "schedules")})
        emit(json_, found, _show(found))
