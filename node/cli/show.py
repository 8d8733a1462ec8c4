"""Results as people read them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import Any


def size(count: int) -> str:
    """Return a number of bytes as `1.5 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def printable(text: str) -> str:
    """Return text of others', as a file's name, with what a terminal would obey or break a line at spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _markup(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def _state(item: dict[str, Any]) -> str:
    if item["in_sync"]:
        return "in sync"
    left = f"{count(item['needed_files'], 'file')}, {size(item['needed_bytes'])} to come"
    return left if item["needed_files"] else "looking"


def count(number: int, thing: str, things: str = "") -> str:
    """Return a number of things in words: `1 file`, `2 files`."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def _notes(folder: dict[str, Any]) -> Iterator[str]:
    """Yield what of a folder is as it is by this device's choice."""
    if folder["left_out"]:
        yield "left out here: " + ", ".join(path or "all else" for path in folder["left_out"])
    if folder["kept_files"]:
        yield f"left out, but kept: {count(folder['kept_files'], 'file')} that no other device is known to have yet"
    if folder["mode"] != "both":
        yield f"{folder['mode']} here"
    if folder["local_changes"]:
        name = shlex.quote(folder["name"])
        yield f"{count(folder['local_changes'], 'local change')}, not sent: shoal folder changes {name}, or revert"
    if folder["not_applied"]:
        name = shlex.quote(folder["name"])
        changes = count(folder["not_applied"], "change")
        yield f"{changes} of others, not applied: shoal folder changes {name}, or override"


def show_status(status: dict[str, Any]) -> None:
    """Print the whole state."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    device = status["device"]
    console.print(f"[bold]{_markup(device['name'])}[/bold], {count(len(status['folders']), 'folder')}")
    if device["revoked"]:
        console.print("[red]![/red] This device was removed from its account: nothing is synced any more.")
    table = Table(box=None, pad_edge=False)
    for column in ("folder", "path", "state", "items"):
        table.add_column(column, style="bold" if column == "folder" else None, overflow="fold")
    for folder in status["folders"]:
        state = _state(folder)
        if folder["status"] == "stopped":
            state = f"stopped: {folder['reason']}"
        if folder["held_deletions"]:
            held, name = folder["held_deletions"], folder["name"]
            state = f"{held} deletions held: if they are meant, shoal folder confirm-deletes {name}"
        table.add_row(_markup(folder["name"]), _markup(folder["path"]), _markup(state), str(folder["items"]))
    console.print(table)
    for folder in status["folders"]:
        for line in _notes(folder):
            console.print(_markup(f"{folder['name']}: {line}"))
        for problem in folder["problems"][:10]:
            console.print(
                f"[red]![/red] {_markup(folder['name'])}/{_markup(problem['path'])}: {_markup(problem['reason'])}"
            )
    conflicts = sum(folder["conflicts"] for folder in status["folders"])
    if conflicts:
        console.print(f"[yellow]![/yellow] {count(conflicts, 'conflict')}: shoal conflicts")
    if limits := rates(status["limits"]):
        console.print(f"limited to {limits}")
    show_peers(status["devices"])


def rates(said: dict[str, Any]) -> str:
    """Return limits in words, "" where there is none."""
    return ", ".join(f"{way} {size(said[way])}/s" for way in ("up", "down") if said[way] is not None)


def show_peers(devices: list[dict[str, Any]]) -> None:
    """Print the other devices."""
    from rich.console import Console
    from rich.table import Table

    if not devices:
        print("No other device yet. Pair one: shoal pair")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("device", "connection", "speed", "folders"):
        table.add_column(column, overflow="fold")
    for device in devices:
        seen = time.strftime("%Y-%m-%d %H:%M", time.localtime(device["last_seen_ms"] / 1000))
        away = f"last seen {seen}" if device["last_seen_ms"] else "never seen"
        connection = "through a relay" if device["relayed"] else device["address"]
        connection = connection if device["connected"] else away
        folders = "; ".join(f"{folder['name']}: {_state(folder)}" for folder in device["folders"])
        speeds = [("in", device["received_per_s"]), ("out", device["sent_per_s"])]
        speed = ", ".join(f"{size(count)}/s {way}" for way, count in speeds if count)
        table.add_row(_markup(device["name"]), _markup(connection), speed, _markup(folders))
    Console().print(table)


def show_folders(folders: list[dict[str, Any]]) -> None:
    """Print the account's folders."""
    if not folders:
        print("No folder yet. Add one: shoal folder add PATH")
    for folder in folders:
        where = folder["path"] or f"not kept here; to keep it: shoal folder join {shlex.quote(folder['name'])} PATH"
        print(printable(f"{folder['name']}: {where}"))


def show_event(event: dict[str, Any]) -> None:
    """Print one line of the log."""
    print(
        time.strftime("%H:%M:%S", time.localtime(event["time_ms"] / 1000)),
        event["kind"],
        printable(event["text"]),
        flush=True,
    )
