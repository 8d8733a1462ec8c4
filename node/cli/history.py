"""The commands to the past: history, restore, undo, and how long versions are kept."""

from __future__ import annotations

import datetime
import os
import re
from typing import Annotated, Any

import typer

from shoal.node.cli.client import folder_route, with_query
from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.moments import parse_moment
from shoal.node.cli.show import count, printable, size
from shoal.node.errors import EXIT_USAGE, UserError

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)


def add_commands(app: typer.Typer, folder_app: typer.Typer) -> None:
    """Have the command line answer for the past."""
    app.command()(history)
    app.command()(restore)
    app.command()(undo)
    folder_app.command("versions")(versions)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def history(
    path: Annotated[str, typer.Argument(help="A file or folder in a synced folder, there or deleted.")] = ".",
    deleted: Annotated[bool, typer.Option("--deleted", help="Only what is deleted and gone still.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Lines at most.")] = 50,
    json_: Json = False,
) -> None:
    """Show what happened to a file, or in a folder: versions, moves, deletions."""
    found = api().get(with_query("/api/history", path=_absolute(path), limit=limit, deleted=deleted))
    if json_:
        emit(True, found)
        return
    if not found:
        print("Nothing is deleted there." if deleted else "Nothing happened there yet.")
    for event in found:
        print(_line(event))


def _line(event: dict[str, Any]) -> str:
    when = datetime.datetime.fromtimestamp(event["time_ms"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
    version = event["version"][:8] if event["version"] else " " * 8
    what = size(event["size"]) if event["size"] is not None else ""
    act = f"moved from {event['was']}" if event["act"] == "moved" else event["act"]
    mark = "  (now)" if event["current"] else "  (not on this device)" if event["here"] is False else ""
    return printable(f"{when}  {version}  {what:>10}  {act} on {event['device']}  {event['path']}{mark}")


def restore(
    path: Annotated[str, typer.Argument(help="A file or folder, there or deleted.")],
    version: Annotated[str | None, typer.Option(help="The version's id, as shoal history shows it.")] = None,
    at: Annotated[str | None, typer.Option(help='A time: 2026-11-17, "2026-11-17 14:30", yesterday, tuesday.')] = None,
    to: Annotated[str | None, typer.Option(help="Write it here, and leave what is at PATH as it is.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Of a folder: what came into it since goes.")] = False,
    json_: Json = False,
) -> None:
    """Bring back a deleted file, an older version, or a folder as it was. What is there now is kept as a version."""
    if version is not None and at is not None:
        raise UserError("usage", "--version and --at exclude each other", "give one of them", EXIT_USAGE)
    now = datetime.datetime.now().astimezone()
    body = {
        "path": _absolute(path),
        "version": version,
        "at_ms": int(parse_moment(at, now).timestamp() * 1000) if at is not None else None,
        "to": _absolute(to) if to is not None else None,
        "exact": exact,
    }
    done = api().post("/api/restore", body, timeout=24 * 3600)
    emit(json_, done) if json_ else _report(done, f"at {body['to']}" if to is not None else "")


def _report(done: dict[str, Any], where: str = "") -> None:
    if not done["restored"] and not done["removed"] and not done["lacking"]:
        print("Nothing to do: it is as it was.")
        return
    for path in done["restored"][:20]:
        print(printable(f"back: {path}"))
    if len(done["restored"]) > 20:
        print(f"      and {len(done['restored']) - 20} more")
    for path in done["removed"]:
        print(printable(f"gone: {path}"))
    for path in done["lacking"]:
        print(printable(f"not back, as no connected device has its bytes: {path}"))
    text = count(len(done["restored"]), "file or folder", "files and folders")
    print(printable(f"{text} back{' ' + where if where else ''}."))


def undo(
    path: Annotated[str, typer.Argument(help="A synced folder, or one in it.")] = ".",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come back.")] = False,
    json_: Json = False,
) -> None:
    """Bring back what was deleted last, in one go. Once more: what was deleted before that."""
    done = api().post("/api/undo", {"path": _absolute(path), "dry_run": dry_run}, timeout=24 * 3600)
    if json_:
        emit(True, done)
        return
    if dry_run:
        for event in done["deleted"]:
            print(_line(event))
        return
    _report(done)


def versions(
    name: str,
    days: Annotated[float | None, typer.Option(min=0, help="Keep every version for so many days.")] = None,
    daily_days: Annotated[float | None, typer.Option(min=0, help="And one a day for so many.")] = None,
    space: Annotated[
        str | None, typer.Option(help="In so much space at most: 500M, 20G; 0 is a tenth of the disk.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show or set how long replaced and deleted files are kept on this device."""
    where = folder_route(name, "versions")
    if days is None and daily_days is None and space is None:
        found = api().get(where)
    else:
        room = _bytes(space) if space is not None else None
        found = api().post(where, {"all_days": days, "daily_days": daily_days, "space": room})
    most = size(found["space"]) if found["space"] is not None else "a tenth of the disk"
    text = (
        f"{found['name']}: every version for {found['all_days']:g} days, one a day for {found['daily_days']:g}, "
        f"in {most} at most; {size(found['used'])} now."
    )
    emit(json_, found, text)


def _bytes(text: str) -> int:
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError("usage", f"{text!r} is no size", "write it like 500M or 20G", EXIT_USAGE)
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))
