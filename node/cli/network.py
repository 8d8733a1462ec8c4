"""`shoal peers` and `shoal dht`: who is connected, who is banned, and what the DHT knows."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import quote

import typer

from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import printable, show_peers


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    peers = typer.Typer(help="List the other devices and their connections; ban peers.", invoke_without_command=True)
    app.add_typer(peers, name="peers")
    _add_peers(peers)
    dht = typer.Typer(help="What the DHT knows, and this node's part in it.", no_args_is_help=True)
    app.add_typer(dht, name="dht")
    _add_dht(dht)


def _add_peers(peers: typer.Typer) -> None:
    @peers.callback()
    def list_peers(context: typer.Context, json_: Json = False) -> None:
        """List the other devices and their connections; ban peers."""
        if context.invoked_subcommand is None:
            found = api().get("/api/peers")
            emit(True, found) if json_ else show_peers(found)

    @peers.command("ban")
    def ban(
        peer: str, reason: Annotated[str, typer.Option(help="Why, for yourself.")] = "", json_: Json = False
    ) -> None:
        """Talk to PEER no more, a name or an id: it is disconnected, and not connected to again."""
        done = api().post(f"/api/bans/{quote(peer, safe='')}", {"reason": reason})
        emit(json_, done, printable(f"{done['banned']} is banned."))

    @peers.command("unban")
    def unban(peer: str, json_: Json = False) -> None:
        """Talk to PEER again."""
        done = api().delete(f"/api/bans/{quote(peer, safe='')}")
        emit(json_, done, printable(f"{done['lifted']} is banned no more."))

    @peers.command("bans")
    def bans(json_: Json = False) -> None:
        """List the banned peers."""
        found = api().get("/api/bans")
        lines = [
            f"{each['peer']}  {each['name']}  since {_day(each['since_ms'])}"
            + (f": {each['reason']}" if each["reason"] else "")
            for each in found
        ]
        emit(json_, found, "\n".join(map(printable, lines)) if lines else "Nobody is banned.")


def _day(ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(ms / 1000))


def _add_dht(dht: typer.Typer) -> None:
    @dht.command("status")
    def status(json_: Json = False) -> None:
        """Show this node's part in the DHT."""
        found = api().get("/api/dht")
        part = "answers others" if found["serves"] else "asks others, and answers none"
        lines = [
            f"This node {part}. It knows {found['peers']} peers.",
            f"It keeps {found['records']} records of others, and has announced {found['announced']} keys"
            + (f", {found['announcing']} of them under way." if found["announcing"] else "."),
            f"Asked by others: {found['questions']}. Look-ups: {found['lookups']}.",
            "Known to others at: " + (", ".join(found["addresses"]) or "no address"),
        ]
        emit(json_, found, "\n".join(map(printable, lines)))

    @dht.command("find")
    def find(
        key: str, enough: Annotated[int, typer.Option(help="How many are enough.")] = 20, json_: Json = False
    ) -> None:
        """Look for who announced KEY: a multihash in hexadecimal, a CID, or text:WORDS."""
        found = api().post("/api/dht/find", {"key": key, "enough": enough})
        lines = [f"{each['peer']}  {' '.join(each['addresses'])}" for each in found]
        emit(json_, found, "\n".join(map(printable, lines)) if lines else "Nobody has announced it.")

    @dht.command("announce")
    def announce(keys: list[str], json_: Json = False) -> None:
        """Announce KEYS, now and from then on."""
        done = api().post("/api/dht/announce", {"keys": keys})
        emit(json_, done, "\n".join(done["announced"]))

    @dht.command("withdraw")
    def withdraw(keys: list[str], json_: Json = False) -> None:
        """Announce KEYS no more."""
        done = api().post("/api/dht/withdraw", {"keys": keys})
        emit(json_, done, "\n".join(done["withdrawn"]))
