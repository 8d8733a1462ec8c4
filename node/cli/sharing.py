"""`shoal share`, `unshare`, `shares`, `accept`, `decline` and `contact`: folders that other people have a part in."""

from __future__ import annotations

import os
import re
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from shoal.node.cli.client import folder_route
from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.pairing import show_qr
from shoal.node.cli.show import printable
from shoal.node.errors import EXIT_USAGE, UserError

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
ROLES = "owner, writer, reader or holder."


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def share(
        folder: str,
        who: Annotated[str | None, typer.Argument(help="A contact's name, or somebody's card.")] = None,
        link: Annotated[bool, typer.Option("--link", help="Make a link that anybody who has it can open.")] = False,
        role: Annotated[str, typer.Option(help=ROLES)] = "reader",
        expires: Annotated[str, typer.Option(help="How long the link is valid: 30m, 12h, 7d, never.")] = "7d",
        uses: Annotated[int, typer.Option(min=0, help="How many accounts may use the link; 0: any number.")] = 1,
        qr: Annotated[bool, typer.Option("--qr", help="Show the link as a QR code as well.")] = False,
        json_: Json = False,
    ) -> None:
        """Share FOLDER, or FOLDER/PATH of it alone, with somebody; or change what they may do with it."""
        folder, _, part = folder.partition("/")
        if not folder:
            raise UserError("bad-share", "give a folder by its name", "see: shoal folder list", EXIT_USAGE)
        if (who is None) != link:
            raise UserError("bad-share", "give either who it is shared with, or --link", "", EXIT_USAGE)
        if who is not None:
            done = api().post(folder_route(folder, "share"), {"whom": who, "role": role, "part": part})
            told = "" if done["accepted"] else " They are asked once they are connected: shoal shares"
            emit(json_, done, printable(f"{done['folder']!r} is shared with {done['with']}, as {done['role']}.{told}"))
            return
        made = api().post(
            folder_route(folder, "link"), {"role": role, "valid_s": _seconds(expires), "uses": uses, "part": part}
        )
        how = "once" if uses == 1 else f"{uses} times" if uses else "any number of times"
        until = f" until {_when(made['expires_ms'])}" if made["expires_ms"] else ""
        text = f"Whoever has this can join {made['folder']!r} as {made['role']}, {how}{until}:\n\n    {made['link']}\n"
        emit(json_, made, text)
        if qr and not json_:
            show_qr(made["link"])

    @app.command()
    def unshare(
        folder: str,
        who: Annotated[str | None, typer.Argument(help="From whom; nobody: you leave it yourself.")] = None,
        link: Annotated[bool, typer.Option("--link", help="Have no link to it be valid any more.")] = False,
        json_: Json = False,
    ) -> None:
        """Take FOLDER from somebody: they keep what they have, and get nothing new. Or leave a folder of others."""
        if "/" in folder:
            raise UserError(
                "bad-share", f"{folder!r} is no folder's name", "a part has a name of its own: shoal shares", EXIT_USAGE
            )
        done = api().post(folder_route(folder, "unshare"), {"whom": who, "links": link})
        if link:
            text = f"{done['links']} links to {done['folder']!r} are not valid any more."
        elif who is None:
            text = f"You left {done['folder']!r}; your files stay."
        else:
            text = f"{done['from']} has no part in {done['folder']!r} any more. Its keys were renewed."
            if done["brought_and_stay"]:
                text += f" They had let in {', '.join(done['brought_and_stay'])}, who stay: shoal shares"
        emit(json_, done, printable(text))

    @app.command()
    def shares(json_: Json = False) -> None:
        """List what is shared with whom, and what others share with you."""
        found = api().get("/api/shares")
        lines = [line for each in found["shared"] for line in _share(each)]
        lines += [
            f"{each['by']} shares {each['folder'] or 'a folder'!r} with you, as {each['role']}: "
            f"shoal accept {each['folder']!r} PATH, or shoal decline {each['folder']!r}"
            for each in found["offered"]
        ]
        emit(json_, found, "\n".join(map(printable, lines)) or "Nothing is shared.")

    @app.command()
    def accept(
        what: Annotated[str, typer.Argument(help="The folder's name, or a link to it.")],
        path: Annotated[str | None, typer.Argument(help="Where to keep it here; without it, later.")] = None,
        name: Annotated[str | None, typer.Option("--as", help="What to call it.")] = None,
        json_: Json = False,
    ) -> None:
        """Take part in a folder that somebody shares with you."""
        where = os.path.abspath(os.path.expanduser(path)) if path is not None else None
        done = api().post("/api/shares/accept", {"what": what, "name": name, "path": where})
        if done["role"] == "holder":
            emit(json_, done, f"This device holds {done['folder']} sealed: it passes changes on, and cannot read them.")
            return
        place = (
            f" It is kept at {done['path']}."
            if done["path"]
            else f" Keep it: shoal folder join {done['folder']!r} PATH"
        )
        emit(json_, done, printable(f"You are {done['role']} of {done['folder']!r}.{place}"))

    @app.command()
    def decline(what: Annotated[str, typer.Argument(help="The folder's name.")], json_: Json = False) -> None:
        """Have no part in a folder that somebody shares with you."""
        done = api().post("/api/shares/decline", {"what": what})
        emit(json_, done, printable(f"You declined {done['folder']!r} of {done['by']}."))

    contacts = typer.Typer(help="The people you share folders with.", no_args_is_help=True)
    app.add_typer(contacts, name="contact")

    @contacts.command("card")
    def card(
        qr: Annotated[bool, typer.Option("--qr", help="Show it as a QR code as well.")] = False, json_: Json = False
    ) -> None:
        """Show your card, by which others can share with you."""
        made = api().get("/api/contacts/card")
        emit(json_, made, f"{made['card']}")
        if qr and not json_:
            show_qr(made["card"])

    @contacts.command("add")
    def add(
        card: str, name: Annotated[str | None, typer.Option(help="What to call them.")] = None, json_: Json = False
    ) -> None:
        """Know somebody by their CARD."""
        made = api().post("/api/contacts", {"card": card, "name": name})
        told = (
            "" if made["met"] else " None of their devices was reached; that is tried again when you share something."
        )
        emit(json_, made, printable(f"You know {made['name']} now.{told}"))

    @contacts.command("list")
    def list_contacts(json_: Json = False) -> None:
        """List the people you know, and those you share a folder with."""
        found = api().get("/api/contacts")
        emit(json_, found, "\n".join(map(_contact, found)) or "Nobody yet: shoal contact add CARD")

    @contacts.command("remove")
    def remove(name: str, json_: Json = False) -> None:
        """Forget a contact; what is shared with them stays so."""
        done = api().delete(f"/api/contacts/{quote(name, safe='')}")
        emit(json_, done, printable(f"{done['removed']} is no contact any more."))


def _seconds(text: str) -> int:
    if text == "never":
        return 0
    found = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if found is None or not int(found[1]):
        raise UserError("bad-time", f"{text!r} is no length of time", "give one like 30m, 12h, 7d or never", EXIT_USAGE)
    return int(found[1]) * UNITS[found[2]]


def _when(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_ms / 1000))


def _share(each: dict[str, Any]) -> list[str]:
    held = f", {each['held_entries']} sealed entries here" if each["held_entries"] is not None else ""
    lines = [f"{each['folder']}  (you are {each['role']}{held})"]
    for person in each["people"]:
        if not person["is_you"]:
            state = "" if person["accepted"] else ", asked"
            lines.append(f"    {person['name']}: {person['role']}{state}")
    for link in each["links"]:
        until = f", until {_when(link['expires_ms'])}" if link["expires_ms"] else ""
        uses = f"{link['used']} of {link['uses']}" if link["uses"] else str(link["used"])
        lines.append(f"    a link: {link['role']}, used {uses}{until}")
    return lines


def _contact(each: dict[str, Any]) -> str:
    connected = sum(device["connected"] for device in each["devices"])
    state = "connected" if connected else "not connected" if each["met"] else "not met yet"
    return printable(f"{each['name']}: {state}  ({each['id']})")
