"""`shoal up`, `down`, `lock`, `unlock`, `repair`: the daemon of a home starts and stops."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from shoal.node.cli.context import Context, Json, api, emit
from shoal.node.cli.users import ask_password
from shoal.node.errors import EXIT_FAILED, EXIT_TIMEOUT, EXIT_USAGE, UserError
from shoal.node.home import DEFAULT_API, Home, find_home

DHT_MODES = ("auto", "server", "client", "off")


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, unlock, lock, repair):
        app.command()(command)


@dataclass(frozen=True, slots=True)
class Launch:
    """How a node is started. `password`: what its secrets are sealed by; `more`: arguments of the daemon's own."""

    listen: Sequence[str] = ()
    bulk: str = ""
    api: str = DEFAULT_API
    no_mdns: bool = False
    name: str = ""
    foreground: bool = False
    default_folder: bool = False
    eager: bool = False
    password: str | None = None
    more: Sequence[str] = ()


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
    dht: Annotated[str, typer.Option(help="Part in the DHT: auto, server, client or off.")] = "auto",
    bootstrap: Annotated[
        list[str] | None, typer.Option(help="A peer to begin with, ADDRESS/p2p/ID; repeatable.")
    ] = None,
    no_port_mapping: Annotated[
        bool, typer.Option("--no-port-mapping", help="Do not ask the router for a port.")
    ] = False,
    json_: Json = False,
) -> None:
    """Start the node."""
    if dht not in DHT_MODES:
        raise UserError(
            "bad-mode", f"{dht!r} is no part in the DHT", f"choose one of {', '.join(DHT_MODES)}", EXIT_USAGE
        )
    more = ["--dht", dht] + ["--no-port-mapping"] * no_port_mapping
    for address in bootstrap or []:
        more += ["--bootstrap", address]
    _begin(Launch(listen or (), bulk, api_address, no_mdns, name, foreground, default_folder, eager, more=more), json_)


def _begin(launch: Launch, json_: bool) -> None:
    """Start the node, and print how it stands."""
    started = start(launch)
    if started is None:
        emit(json_, {"running": True, "started": False}, "The node is running already.")
        return
    if json_:
        emit(True, {"running": True, "started": True, "pid": started["pid"], **started["device"]})
        return
    print(f"Shoal is running as {started['device']['name']!r}.")
    for folder in started["folders"]:
        print(f"It keeps {folder['path']} as {folder['name']!r}.")
    me = as_called()
    print(f"Pair another device:  {me} pair             shows a code; on the other device: shoal pair CODE")
    print(f"Add a folder:         {me} folder add PATH")
    print(f"See how it stands:    {me} status")


def start(launch: Launch) -> dict[str, Any] | None:
    """Start the node and wait until it answers; return its status and its process, None where it ran already. Raises
    UserError."""
    home = Context.home
    if Context.account:
        raise UserError(
            "not-of-its-own",
            "an account beside the first runs within its node",
            f"shoal up, or: shoal account start {Context.account}",
        )
    home.ensure()
    arguments = ["--home", str(home.path), "--api", launch.api, "--name", launch.name, *launch.more]
    for address in launch.listen:
        arguments += ["--listen", address]
    arguments += ["--bulk", launch.bulk] * bool(launch.bulk)
    arguments += ["--no-mdns"] * launch.no_mdns
    arguments += ["--default-folder"] * launch.default_folder + ["--eager"] * launch.eager
    password = launch.password
    if password is None and _way(home) == "password":
        if not sys.stdin.isatty():
            raise UserError("locked", "this node's keys are sealed with a password", "start it with: shoal unlock")
        password = ask_password("Password")
    arguments += ["--password-stdin"] * (password is not None)
    if launch.foreground:
        if password is not None:
            _give_on_stdin(password)
        os.execv(sys.executable, [sys.executable, "-m", "shoal.node.main", *arguments])
    if api().is_running():
        return None
    with open(home.log, "ab") as log:
        begin = log.tell()
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
            raise _failed_start(home, begin, code)
        if time.monotonic() > deadline:
            raise UserError("slow-start", "the node does not answer after a minute", f"see {home.log}", EXIT_TIMEOUT)
        time.sleep(0.05)
    status: dict[str, Any] = api().get("/api/status")
    return {"pid": process.pid, **status}


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
    _begin(Launch(listen or (), "", api_address, no_mdns, password=ask_password("Password")), json_)


def lock(json_: Json = False) -> None:
    """Stop a node whose secrets are sealed: nobody can use them until shoal unlock."""
    if _way(Context.home) is None:
        raise UserError("not-sealed", "this node's secrets are not sealed", "seal them: shoal account protect")
    down(json_)


def as_called() -> str:
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
