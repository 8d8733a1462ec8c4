"""The command that says what of modes and extended attributes a folder keeps on this device."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from shoal.node.cli.context import Json, api, emit
from shoal.node.errors import EXIT_USAGE, UserError

SAYS = {
    "all": "permissions as the others have them",
    "exec": "permissions of its own, but for whether a file may be executed",
    "none": "permissions of its own",
}


def add_commands(folder_app: typer.Typer) -> None:
    """Add the command."""

    @folder_app.command("metadata")
    def metadata(
        name: str,
        modes: Annotated[str | None, typer.Option(help="all, exec or none of the permissions.")] = None,
        attributes: Annotated[bool | None, typer.Option(help="Extended attributes of users.")] = None,
        json_: Json = False,
    ) -> None:
        """Show or set what the folder NAME keeps here of permissions and extended attributes, from now on."""
        if modes is not None and modes not in SAYS:
            hint = f"choose one of {', '.join(SAYS)}"
            raise UserError("bad-modes", f"{modes!r} is nothing that --modes can be", hint, EXIT_USAGE)
        where = f"/api/folders/{quote(name, safe='')}/metadata"
        if modes is None and attributes is None:
            found = api().get(where)
        else:
            found = api().post(where, {"modes": modes, "attributes": attributes})
        also = "and extended attributes" if found["attributes"] else "and no extended attributes"
        emit(json_, found, f"{found['name']!r} has {SAYS[found['modes']]} here, {also}.")
