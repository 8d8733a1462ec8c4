"""The `shoal` command. Each command prints for people, or with `--json` for scripts; errors are one line."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from shoal.node.cli import conflicts, devices, history, limits, metadata, one_way, pairing, selective, users
from shoal.node.cli.client import folder_route, with_query
from shoal.node.cli.context import Context, Json, api, emit
from shoal.node.cli.scrub import add_scrub
from shoal.node.cli.show import printable, show_event, show_folders, show_peers, show_status, size
from shoal.node.cli.users import ask_password
from shoal.node.errors import EXIT_FAILED, EXIT_TIMEOUT, EXIT_USAGE, UserError
from shoal.node.home import DEFAULT_API, Home, find_home

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
    account: Annotated[str, typer.Option(help="Another account on this node: see shoal account add.")] = "",
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    Context.home = find_home(home)
    Context.account = account
    if account:
        Context.home = Context.home.of_account(account)
        if not Context.home.path.is_dir():
            raise UserError(
                "no-such-account", f"there is no account {account!r} on this node", "see: shoal account list"
            )


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as of

    print(of("shoal"))


@app.command()
def up(
    listen: Annotated[
        list[str] | None, typer.Option(help="Address to listen on, /ip4/0.0.0.0/tcp/PORT; repeatable.")
    ] = None,
    bulk: Annotated[str, typer.Option(help="TCP port for bulk channels, or off; 22410, or any that is free.")] = "",
    api_address: Annotated[str, typer.Option("--api", help="Where the local API listens.")] = DEFAULT_API,
    no_mdns: Annotated[bool, typer.Option("--no-mdns", help="Do not announce or look on the local network.")] = False,
    name: Annotated[str, typer.Option(help="This device's name, at its first start.")] = "",
    foreground: Annotated[bool, typer.Option(help="Stay in this terminal.")] = False,
    default_folder: Annotated[bool, typer.Option(help="Keep ~/Shoal, if no folder is kept yet.")] = False,
    eager: Annotated[
        bool, typer.Option(help="Full priority at processor and disk, for a first sync or a machine of its own.")
    ] = False,
    json_: Json = False,
) -> None:
    """Start the node."""
    start(listen, bulk, api_address, no_mdns, name, foreground, default_folder, eager, json_)


def start(
    listen: list[str] | None,
    bulk: str,
    api_address: str,
    no_mdns: bool,
    name: str,
    foreground: bool,
    default_folder: bool,
    eager: bool,
    json_: bool,
    password: str | None = None,
) -> None:
    """Start the node, whose secrets are sealed by a password if one is given."""
    home = Context.home
    if Context.account:
        raise UserError(
            "not-of-its-own",
            "an account beside the first runs within its node",
            f"shoal up, or: shoal account start {Context.account}",
        )
    home.ensure()
    arguments = ["--home", str(home.path), "--api", api_address, "--name", name]
    for address in listen or []:
        arguments += ["--listen", address]
    arguments += ["--bulk", bulk] * bool(bulk)
    arguments += ["--no-mdns"] * no_mdns + ["--default-folder"] * default_folder + ["--eager"] * eager
    if password is None and _way(home) == "password":
        if not sys.stdin.isatty():
            raise UserError("locked", "this node's keys are sealed with a password", "start it with: shoal unlock")
        password = ask_password("Password")
    arguments += ["--password-stdin"] * (password is not None)
    if foreground:
        if password is not None:
            _give_on_stdin(password)
        os.execv(sys.executable, [sys.executable, "-m", "shoal.node.main", *arguments])
    if api().is_running():
        emit(json_, {"running": True, "started": False}, "The node is running already.")
        return
    with open(home.log, "ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "shoal.node.main", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write((password or "").encode() + b"\n")
    deadline = time.monotonic() + 60
    while not api().is_running():
        code = process.poll()
        if code is not None:
            raise _failed_start(home, start, code)
        if time.monotonic() > deadline:
            raise UserError("slow-start", "the node does not answer after a minute", f"see {home.log}", EXIT_TIMEOUT)
        time.sleep(0.05)
    status = api().get("/api/status")
    if json_:
        emit(True, {"running": True, "started": True, "pid": process.pid, **status["device"]})
        return
    print(f"Shoal is running as {status['device']['name']!r}.")
    for folder in status["folders"]:
        print(f"It keeps {folder['path']} as {folder['name']!r}.")
    me = _as_called()
    print(f"Pair another device:  {me} pair             shows a code; on the other device: shoal pair CODE")
    print(f"Add a folder:         {me} folder add PATH")
    print(f"See how it stands:    {me} status")


def _way(home: Home) -> str | None:
    """Return how a home's secrets are sealed, None where they are not."""
    if not home.vault.exists():
        return None
    from shoal.node.vault import way_of  # here, as it costs what most commands need not pay

    return way_of(home)


def _give_on_stdin(text: str) -> None:
    """Have what this process becomes read a line."""
    reading, writing = os.pipe()
    os.write(writing, text.encode() + b"\n")
    os.close(writing)
    os.dup2(reading, 0)


@app.command()
def unlock(
    listen: Annotated[list[str] | None, typer.Option(help="As for up.")] = None,
    api_address: Annotated[str, typer.Option("--api", help="As for up.")] = DEFAULT_API,
    no_mdns: Annotated[bool, typer.Option("--no-mdns", help="As for up.")] = False,
    json_: Json = False,
) -> None:
    """Start a node whose secrets are sealed by a password, which is asked for, or read from standard input."""
    if _way(Context.home) != "password":
        raise UserError("not-sealed", "this node's secrets are not sealed by a password", "start it: shoal up")
    if api().is_running():
        emit(json_, {"running": True, "started": False}, "The node is running already.")
        return
    start(listen, "", api_address, no_mdns, "", False, False, False, json_, ask_password("Password"))


@app.command()
def lock(json_: Json = False) -> None:
    """Stop a node whose secrets are sealed: nobody can use them until shoal unlock."""
    if _way(Context.home) is None:
        raise UserError("not-sealed", "this node's secrets are not sealed", "seal them: shoal account protect")
    down(json_)


def _as_called() -> str:
    """Return what to type for this command: its name where the shell finds it, else its path."""
    called = "shoal" if shutil.which("shoal") else sys.argv[0]
    return called if Context.home == find_home(None) else f"{called} --home {shlex.quote(str(Context.home.path))}"


def _failed_start(home: Home, start: int, code: int) -> UserError:
    with open(home.log, "rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").strip().splitlines()
    said = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
    if said is None and shutil.disk_usage(home.path).free < 1 << 20:  # too little for it to say so in its log
        said = f"cannot write in Shoal's home {home.path}: the disk is full"
    if said is None:
        return UserError("start-failed", "the node could not start", f"see {home.log}", EXIT_FAILED)
    return UserError("start-failed", said, "", code if code > 0 else EXIT_FAILED)


@app.command()
def down(json_: Json = False) -> None:
    """Stop the node, and wait until it is gone."""
    home = Context.home
    if Context.account:
        api().post("/api/shutdown")
        again = f"shoal account start {Context.account}"
        emit(json_, {"stopped": True}, f"The account {Context.account} is stopped; to start it: {again}")
        return
    try:
        pid = int(home.lock.read_text())
    except (OSError, ValueError):
        pid = 0
    if not api().is_running():
        api().post("/api/shutdown")  # which says, in its words, that nothing runs
    with contextlib.suppress(UserError):  # it may be gone before it has answered
        api().post("/api/shutdown")
    deadline = time.monotonic() + 30
    while pid and _is_alive(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    emit(json_, {"stopped": True}, "Stopped.")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except (OSError, IndexError):
        return True
    return state != "Z"


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
def peers(json_: Json = False) -> None:
    """List the other devices and their connections."""
    found = api().get("/api/peers")
    emit(True, found) if json_ else show_peers(found)


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


@app.command()
def repair(json_: Json = False) -> None:
    """Move a damaged store aside; the next start builds a new one from your folders and devices."""
    home = Context.home
    os.close(home.hold_lock())
    if not home.store.exists():
        raise UserError("no-store", f"there is no store at {home.store}", "start the node: shoal up")
    aside = home.store.with_name(f"store.damaged-{int(time.time())}")
    home.store.rename(aside)
    home.fault.unlink(missing_ok=True)
    text = (
        f"Moved the store to {aside}. Your files, account and list of folders are as they were. Start with shoal up: "
        "the rest is built anew from your folders and your other devices."
    )
    emit(json_, {"moved_to": str(aside)}, text)


# After those above, as the help lists them in the order in which they are added.
pairing.add_commands(app)
history.add_commands(app, folder_app)
selective.add_commands(app, folder_app)
one_way.add_commands(folder_app)
metadata.add_commands(folder_app)
add_scrub(app, api)
conflicts.add_commands(app)
limits.add_commands(app)
devices.add_commands(app)
users.add_commands(app)


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
