"""Commands on what of a folder is kept on this device."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from typing import Annotated, Any

import typer

from shoal.node.cli.client import ApiClient, folder_route, with_query
from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import count, printable, size
from shoal.node.errors import EXIT_TIMEOUT, EXIT_USAGE, UserError

ALONE = 5.0  # seconds without news after which it is asked whether any device has what is wanted


def add_commands(app: typer.Typer, folder_app: typer.Typer) -> None:
    """Add the commands."""

    @folder_app.command("exclude")
    def exclude(name: str, path: list[str], json_: Json = False) -> None:
        """Leave PATHs of the folder NAME out on this device. What no other device has yet stays until one has."""
        done = api().post(folder_route(name, "exclude"), {"paths": [_given(each) for each in path]})
        if json_:
            print(json.dumps(done))
            return
        print(_left_out(name, done["left_out"]))
        print(f"Removed from this disk: {count(done['removed'], 'file')}. Get it back: shoal get PATH")
        if done["kept"]:
            print(f"Kept: {count(done['kept'], 'file')} that no other device is known to have yet.")

    @folder_app.command("include")
    def include(name: str, path: list[str], json_: Json = False) -> None:
        """Keep PATHs of the folder NAME on this device again. To wait until they are here: shoal get."""
        done = api().post(folder_route(name, "include"), {"paths": [_given(each) for each in path]})
        emit(json_, done, _left_out(name, done["left_out"]))

    @app.command("ls")
    def ls(
        name: str,
        path: Annotated[str, typer.Argument(help="In the folder; all of it by default.")] = "",
        recursive: Annotated[bool, typer.Option("--recursive", "-r", help="What is in its folders, too.")] = False,
        json_: Json = False,
    ) -> None:
        """List what the folder NAME has, and what of it is on this device."""
        client = api()
        where = with_query(folder_route(name, "tree"), path=_given(path), recursive=recursive)
        if json_:
            print(json.dumps(list(client.lines(where))))
            return
        for entry in client.lines(where):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["mtime_ms"] / 1000))
            told = (size(entry["size"]), when) if entry["kind"] == "file" else (entry["kind"], "")
            slash = "/" if entry["kind"] == "dir" else ""
            print(printable(f"{entry['state']:8}{told[0]:>11}  {told[1]:17} {entry['path']}{slash}"))

    @app.command("get")
    def get(
        path: Annotated[str, typer.Argument(help="A path on this disk, or FOLDER:PATH.")],
        wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it is here.")] = True,
        timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600,
        json_: Json = False,
    ) -> None:
        """Bring something that is left out back to this device, with all that is in it."""
        client = api()
        name, inside = _folder_of(client, path)
        client.post(folder_route(name, "include"), {"paths": [inside]})
        if wait:
            share = _wait_for(client, name, inside, time.monotonic() + timeout, quiet=json_)
            text = f"{path}: {count(share['here_files'], 'file')}, {size(share['here_bytes'])}, here."
            emit(json_, share, text)
        else:
            emit(json_, {"wanted": True}, f"{path} is wanted here; it comes by itself.")


def _wait_for(client: ApiClient, name: str, path: str, deadline: float, *, quiet: bool) -> dict[str, Any]:
    where = with_query(folder_route(name, "here"), path=path)
    last, news_at = (-1, -1), time.monotonic()
    show = not quiet and sys.stderr.isatty()
    try:
        while True:
            asked_at = time.monotonic()
            share: dict[str, Any] = client.get(where)
            now = time.monotonic()
            if share["done"]:
                return share
            if (share["here_files"], share["here_bytes"]) != last:
                last, news_at = (share["here_files"], share["here_bytes"]), now
            elif now - news_at > ALONE:
                if client.get(where + "&ask=true")["held_elsewhere"] is False:
                    text = f"no connected device has {_left(share)} of {path or name} now; it comes when one is there"
                    raise UserError("nobody-has-it", text, "see: shoal peers", EXIT_TIMEOUT)
                news_at = time.monotonic()
            if now > deadline:
                raise UserError("timeout", f"{_left(share)} of {path or name} have not come yet", "", EXIT_TIMEOUT)
            if show:
                here, all_ = size(share["here_bytes"]), size(share["bytes"])
                print(f"\r\x1b[K{here} of {all_}", end="", file=sys.stderr, flush=True)
            time.sleep(max(0.1, 5 * (now - asked_at)))  # what is large takes long to count
    finally:
        if show:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _left_out(name: str, paths: list[str]) -> str:
    told = ", ".join(path or "all else" for path in paths)
    return printable(f"Left out of {name!r} here: {told or 'nothing'}.")


def _left(share: dict[str, Any]) -> str:
    return count(share["files"] - share["here_files"], "file")


def _folder_of(client: ApiClient, path: str) -> tuple[str, str]:
    """Return the folder's name and the path in it."""
    kept = {folder["name"]: folder["path"] for folder in client.get("/api/folders") if folder["joined"]}
    name, colon, inside = path.partition(":")
    if colon and name in kept and not os.path.lexists(path):
        return name, _given(inside)
    full = os.path.abspath(os.path.expanduser(path))
    real = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
    for candidate in (_given(full), _given(real)):
        for name, root in kept.items():
            if candidate == root or candidate.startswith(root + "/"):
                return name, candidate[len(root) + 1 :]
    hint = f"give a path in one of {', '.join(map(shlex.quote, kept.values()))}, or FOLDER:PATH" if kept else ""
    raise UserError("not-in-folder", f"{full} is in no folder that is kept here", hint, EXIT_USAGE)


def _given(path: str) -> str:
    """Return a path as JSON can carry it: bytes that are not UTF-8 spelt out."""
    return os.fsencode(os.path.expanduser(path)).decode("utf-8", "backslashreplace")
