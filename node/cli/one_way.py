"""Commands for folders that go one way on this device."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from shoal.node.cli.client import folder_route
from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import count, printable

SAYS = {
    "both": "Changes go both ways in {name!r} here.",
    "receive-only": "{name!r} only receives here: changes on this disk are told to nobody. See: shoal folder changes",
    "send-only": "{name!r} only sends here: changes of others are not applied. See: shoal folder changes",
}


def add_commands(folder_app: typer.Typer) -> None:
    """Add the commands."""

    @folder_app.command("mode")
    def mode(
        name: str,
        mode: Annotated[str, typer.Argument(help="both, receive-only or send-only.")],
        json_: Json = False,
    ) -> None:
        """Have the folder NAME go one way on this device, or both ways."""
        done = api().post(folder_route(name, "mode"), {"mode": mode})
        emit(json_, done, SAYS[done["mode"]].format(name=name))

    @folder_app.command("changes")
    def changes(name: str, json_: Json = False) -> None:
        """List what the folder NAME, going one way here, does not send or does not apply."""
        found = api().get(folder_route(name, "changes"))
        if json_:
            print(json.dumps(found))
            return
        for change in found["local"]:
            print(printable(f"{change['change']:10}{change['path']}"))
        for path in found["not_applied"]:
            print(printable(f"{'theirs':10}{path}"))
        if not found["local"] and not found["not_applied"]:
            print("None.")

    @folder_app.command("revert")
    def revert(name: str, json_: Json = False) -> None:
        """Receive-only: put all back as the others have it. What was changed here is kept in .shoal/versions."""
        done = api().post(folder_route(name, "revert"))
        emit(json_, done, f"{count(done['reverted'], 'local change')} put back.")

    @folder_app.command("override")
    def override(name: str, json_: Json = False) -> None:
        """Send-only: make what this device has the newest for everyone. What others had is kept on their devices."""
        done = api().post(folder_route(name, "override"))
        emit(json_, done, f"{count(done['overridden'], 'change')} of others overridden.")
