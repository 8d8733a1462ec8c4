"""`shoal conflicts`: list, show and settle files that were changed on several devices at once."""

from __future__ import annotations

import difflib
import io
import json
import os
import shlex
import time
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote, quote_from_bytes

import typer

from shoal.node.cli.context import Json, api
from shoal.node.cli.show import printable, size

KEEP = (
    "mine: what this device wrote last, if it wrote one of the versions, else the one that has the name. "
    "theirs: the other one. both: the copy becomes a file of its own. A copy's id or name: that version. "
    "Any other file: its content, as when you merged by hand."
)

Where = Annotated[str, typer.Argument(metavar="PATH", help="The file, or a copy of it.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    conflicts = typer.Typer(help="Files that were changed on several devices at once.")
    app.add_typer(conflicts, name="conflicts")

    @conflicts.callback(invoke_without_command=True)
    def listed(context: typer.Context, json_: Json = False) -> None:
        """List the files that were changed on several devices at once; show and settle them."""
        if context.invoked_subcommand is None:
            found = api().get("/api/conflicts")
            print(json.dumps(found)) if json_ else _show_list(found)

    @conflicts.command()
    def show(
        path: Where,
        copy: Annotated[str, typer.Option(help="One copy, by its id, name or path; all by default.")] = "",
        json_: Json = False,
    ) -> None:
        """Show what the copies change in the file."""
        query = f"path={_twice(path)}&copy={quote(quote_from_bytes(os.fsencode(copy)), safe='')}"
        query += f"&copy_path={_twice(copy)}" if copy else ""
        found = api().get(f"/api/conflicts/versions?{query}")
        if json_:
            print(json.dumps(found))
            return
        first, *copies = found["versions"]
        for each in copies:
            print("".join(_difference(first, each)), end="")

    @conflicts.command()
    def resolve(
        path: Where,
        keep: Annotated[str, typer.Option(help=KEEP, metavar="mine|theirs|both|COPY|FILE")],
        json_: Json = False,
    ) -> None:
        """Settle a conflict on all devices. What goes is kept as a version."""
        body = {"path": _absolute(path), "keep": quote_from_bytes(os.fsencode(keep)), "keep_path": _absolute(keep)}
        done = api().post("/api/conflicts/resolve", body)
        kept, *more = done["paths"]
        beside = f"; beside it there is {', '.join(os.path.basename(each) for each in more)}" if more else ""
        print(json.dumps(done) if json_ else printable(f"Settled: {kept}{beside}"))


def _absolute(path: str) -> str:
    return quote_from_bytes(os.fsencode(os.path.abspath(os.path.expanduser(path))))


def _twice(path: str) -> str:
    """Return a path for a query, which is decoded once before the API sees it."""
    return quote(_absolute(path), safe="")


def _show_list(found: list[dict[str, Any]]) -> None:
    for conflict in found:
        print(printable(conflict["path"]))
        for number, each in enumerate(conflict["versions"]):
            what = "has the name" if number == 0 else f"copy {each['id']}"
            device = f"{each['device']} (this device)" if each["this_device"] else each["device"]
            missing = "" if each["here"] else ", not here yet"
            print(f"    {what}: {device}, {_when(each)}, {size(each['size'])}{missing}")
    if found:
        path = shlex.quote(found[0]["path"])
        print(f"See what differs: shoal conflicts show {path}")
        print(f"Settle it:        shoal conflicts resolve {path} --keep mine|theirs|both|COPY|FILE")
    else:
        print("No conflicts.")


def _difference(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    if one["text"] is None or other["text"] is None:
        yield f"{one['path']}: no text that could be compared: "
        yield f"{size(one['size'])} by {one['device']}, {_when(one)}; "
        yield f"{size(other['size'])} by {other['device']}, {_when(other)} (copy {other['id']})\n"
        return
    old, new = (f"{each['name']}\t{each['device']}, {_when(each)}" for each in (one, other))
    before, after = (list(io.StringIO(each["text"], newline="\n")) for each in (one, other))
    for line in difflib.unified_diff(before, after, old, new):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _when(each: dict[str, Any]) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(each["time_ms"] / 1000))
    except (OverflowError, OSError, ValueError):
        return "at an unknown time"
