"""`shoal scrub`: reads files through, and tells which have lost bits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from shoal.node.cli.client import ApiClient, folder_route
from shoal.node.cli.show import printable, size
from shoal.node.errors import EXIT_FAILED

EVERY = 0.2  # seconds between two looks at how far it is


def add_scrub(app: typer.Typer, api: Callable[[], ApiClient]) -> None:
    """Add the command."""

    @app.command()
    def scrub(
        name: Annotated[str | None, typer.Argument(help="A folder; all by default.")] = None,
        repair: Annotated[
            bool, typer.Option("--repair", help="Fetch the right bytes of damaged files; the wrong ones are kept.")
        ] = False,
        json_: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    ) -> None:
        """Read all files, and find those whose bytes changed although nobody wrote to them (bit rot). Exits with 1 when
        some are damaged and were not repaired."""
        names = [name] if name is not None else [f["name"] for f in api().get("/api/folders") if f["joined"]]
        done = [_scrub(api(), each, repair=repair, quiet=json_) for each in names]
        if json_:
            print(json.dumps(done))
        for folder in () if json_ else done:
            _show(folder)
        if any(folder["damaged"] for folder in done):
            sys.exit(EXIT_FAILED)


def _scrub(api: ApiClient, name: str, *, repair: bool, quiet: bool) -> dict[str, Any]:
    path = folder_route(name, "scrub")
    found: dict[str, Any] = api.post(path, {"repair": repair})
    shows = not quiet and sys.stderr.isatty()
    try:
        while found["running"]:
            if shows:
                line = f"\r\x1b[K{printable(name)}: {found['files']} files, {size(found['bytes'])} read"
                print(line, end="", file=sys.stderr, flush=True)
            time.sleep(EVERY)
            found = api.get(path)
    except KeyboardInterrupt:
        api.delete(path)
        raise
    finally:
        if shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return found


def _show(folder: dict[str, Any]) -> None:
    name = printable(folder["name"])
    for path in folder["repaired"]:
        print(f"{name}/{printable(path)}: repaired; the wrong bytes are kept in .shoal/versions")
    for path in folder["damaged"]:
        print(f"{name}/{printable(path)}: damaged: its bytes changed although nobody wrote to it")
    skipped = f"; {folder['skipped']} not read: they are changing, or cannot be read" if folder["skipped"] else ""
    damage = f"{len(folder['damaged'])} damaged" if folder["damaged"] else "no damage"
    print(f"{name}: {folder['files']} files, {size(folder['bytes'])} read, {damage}{skipped}")
