"""The `shoal` command. Each command prints for people, or with `--json` for scripts; errors are one line."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from typing import Annotated, Any

import typer

from shoal.node.cli import (
    account,
    conflicts,
    devices,
    history,
    lifecycle,
    limits,
    metadata,
    network,
    one_way,
    packs,
    pairing,
    seeds,
    selective,
    sharing,
    users,
)
from shoal.node.cli.client import folder_route, with_query
from shoal.node.cli.context import Context, Json, api, emit
from shoal.node.cli.scrub import add_scrub
from shoal.node.cli.show import printable, show_event, show_folders, show_status, size
from shoal.node.errors import EXIT_FAILED, EXIT_TIMEOUT, EXIT_USAGE, UserError
from shoal.node.home import find_home

BLOCKED_S = 10.0  # seconds for which a folder may wait for a person before `status --wait` says so

app = typer.Typer(
    help="Keep folders the same on all of your devices, with no server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
folder_app = typer.Typer(help="Folders of your account, and those kept on this device.", no_args_is_help=True)
app.add_typer(folder_app, name="folder")


def _say_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    home: Annotated[str | None, typer.Option(help="The node's home folder (also SHOAL_HOME).")] = None,
    account_: Annotated[str, typer.Option("--account", help="Another account on this node.")] = "",
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    Context.home = find_home(home)
    Context.account = account_
    if account_:
        Context.home = Context.home.of_account(account_)
        if not Context.home.path.is_dir():
            raise UserError(
                "no-such-account", f"there is no account {account_!r} on this node", "see: shoal account list"
            )


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as of

    print(of("shoal"))


lifecycle.add_commands(app)
pairing.add_commands(app)
sharing.add_commands(app)


@folder_app.command("add")
def folder_add(
    path: str,
    name: Annotated[str | None, typer.Option(help="Its name on all devices; the folder's own by default.")] = None,
    json_: Json = False,
) -> None:
    """Keep the folder at PATH the same on your devices."""
    made = api().post("/api/folders", {"path": os.path.abspath(os.path.expanduser(path)), "name": name})
    emit(
        json_,
        made,
        f"{made['name']!r} is kept at {made['path']}. On another device: "
        f"shoal folder join {shlex.quote(made['name'])} PATH",
    )


@folder_app.command("list")
def folder_list(json_: Json = False) -> None:
    """List the account's folders, and where they are kept here."""
    found = api().get("/api/folders")
    emit(True, found) if json_ else show_folders(found)


@folder_app.command("join")
def folder_join(
    name: str,
    path: str,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave this out of it here; repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Leave all else out of it here; repeatable.")] = None,
    mode: Annotated[str, typer.Option(help="both, receive-only or send-only.")] = "both",
    json_: Json = False,
) -> None:
    """Keep the account's folder NAME at PATH on this device."""
    body = {"name": name, "path": os.path.abspath(os.path.expanduser(path)), "exclude": exclude or []}
    made = api().post("/api/folders/join", {**body, "only": only or [], "mode": mode})
    emit(json_, made, f"{made['name']!r} is kept at {made['path']}.")


@folder_app.command("remove")
def folder_remove(name: str, json_: Json = False) -> None:
    """Stop keeping the folder NAME on this device. Its files stay."""
    gone = api().delete(folder_route(name))
    emit(json_, gone, f"{name!r} is no longer synced here; the files at {gone['removed']} stay.")


@folder_app.command("confirm-deletes")
def folder_confirm(name: str, json_: Json = False) -> None:
    """Say that the many files missing from NAME were deleted on purpose."""
    done = api().post(folder_route(name, "confirm-deletes"))
    emit(json_, done, f"{done['deleted']} deletions go to the other devices.")


@app.command()
def status(
    wait: Annotated[bool, typer.Option("--wait", help="Return when all is in sync.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600,
    json_: Json = False,
) -> None:
    """Show this device, its folders and the other devices."""
    found = api().get("/api/status")
    if wait and (not found["in_sync"] or found["device"]["revoked"]):
        found = _wait_for_sync(timeout, quiet=json_)
    emit(True, found) if json_ else show_status(found)


def _wait_for_sync(timeout: float, *, quiet: bool) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    settled, going_on = 0, time.monotonic()
    while True:
        found: dict[str, Any] = api().get("/api/status")
        if found["device"]["revoked"]:
            raise UserError("device-revoked", "this device was removed from its account: nothing is synced any more")
        settled = settled + 1 if found["in_sync"] else 0
        if settled >= 2:
            return found
        blocked = _blocked(found["folders"])
        if not blocked:
            going_on = time.monotonic()
        if time.monotonic() > deadline:
            raise UserError("timeout", f"not in sync after {timeout:g} s", blocked or "see: shoal status", EXIT_TIMEOUT)
        if time.monotonic() > going_on + BLOCKED_S:
            raise UserError("blocked", "it will not be in sync before somebody does something", blocked)
        if not quiet and sys.stderr.isatty():
            here = sum(f["needed_bytes"] for f in found["folders"])
            there = sum(f["needed_bytes"] for d in found["devices"] for f in d["folders"])
            print(f"\r\x1b[Kto come: {size(here)}, to go: {size(there)}", end="", file=sys.stderr, flush=True)
        time.sleep(0.1)


def _blocked(folders: list[dict[str, Any]]) -> str:
    """Return what folders wait for that only a person can give, "" where none does."""
    held = [f"{f['name']}: {f['held_deletions']} deletions are held" for f in folders if f["held_deletions"]]
    if held:
        return "; ".join(held) + ": shoal folder confirm-deletes NAME"
    return "; ".join(f"{f['name']}: {f['reason']}" for f in folders if f["status"] == "stopped")


@app.command()
def scan(
    name: Annotated[str | None, typer.Argument(help="A folder; all by default.")] = None, json_: Json = False
) -> None:
    """Look for changes on disk now."""
    done = api().post(with_query("/api/scan", name=name) if name else "/api/scan")
    emit(json_, done, "Scanned " + printable(", ".join(done["scanned"])) + ".")


@app.command()
def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as things happen.")] = False, json_: Json = False
) -> None:
    """Show what happened."""
    last = 0
    for event in api().get("/api/events?follow=false"):
        last = event["number"]
        emit(True, event) if json_ else show_event(event)
    if follow:
        for event in api().follow(last):
            emit(True, event) if json_ else show_event(event)


# After those above, as the help lists them in the order in which they are added.
history.add_commands(app, folder_app)
selective.add_commands(app, folder_app)
one_way.add_commands(folder_app)
metadata.add_commands(folder_app)
add_scrub(app, api)
conflicts.add_commands(app)
limits.add_commands(app)
devices.add_commands(app)
account.add_commands(app)
users.add_commands(app)
network.add_commands(app)
seeds.add_commands(app)
packs.add_commands(app, folder_app)


def main() -> None:
    """Run the command; no traceback reaches a user."""
    as_json = "--json" in sys.argv
    try:
        app(standalone_mode=False)
    except UserError as error:
        if as_json:
            print(json.dumps({"error": error.code, "message": error.message, "hint": error.hint}))
        hint = f" ({error.hint})" if error.hint else ""
        print(f"error: {printable(error.message + hint)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            print(
                f"error: {error or type(error).__name__} (this is a fault of Shoal's: please report it)",
                file=sys.stderr,
            )
            sys.exit(EXIT_FAILED)
        if format_message():  # not so when it was called without a word, which is answered with the help
            print(f"error: {format_message()} (see shoal --help)", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
