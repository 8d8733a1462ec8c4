"""`shoal account` and `shoal recover`: paper keys, sealed secrets, other people's accounts on this node."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import count, printable
from shoal.node.cli.users import ask_password


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    account = typer.Typer(help="Your account.", no_args_is_help=True)
    app.add_typer(account, name="account")

    @account.command("paper-key")
    def paper_key(json_: Json = False) -> None:
        """Make a recovery phrase, to be written down: with it a new device can join one of yours that is reached."""
        made = api().post("/api/account/paper-key")
        words = made["words"].split()
        rows = [
            "   ".join(f"{place + 1:>2} {words[place]:<9}" for place in range(at, at + 6)) for at in range(0, 24, 6)
        ]
        lines = ["Write these words down; they are shown once, and whoever has them has your account:", "", *rows, ""]
        emit(json_, made, "\n".join([*lines, "On a new device: shoal recover. Lost: shoal device revoke"]))

    @account.command("protect")
    def protect(
        keyring: Annotated[bool, typer.Option("--keyring", help="By this system's keyring, not a password.")] = False,
        off: Annotated[bool, typer.Option("--off", help="Seal them no more.")] = False,
        json_: Json = False,
    ) -> None:
        """Seal this node's secrets on its disk by a password, which its start needs from then on (shoal unlock)."""
        if off:
            done = api().put("/api/account/protection", {"way": "none"})
            emit(json_, done, "This node's secrets are sealed no more.")
            return
        way = "keyring" if keyring else "password"
        password = None if keyring else ask_password("Password", twice=True)
        done = api().put("/api/account/protection", {"way": way, "password": password})
        hint = "It starts by itself." if keyring else "After a stop it is started with: shoal unlock"
        emit(json_, done, f"This node's secrets are sealed, by {way}. {hint}")

    @account.command("add")
    def add_account(
        name: str,
        folders: Annotated[str, typer.Option(help="Where all of its folders are to be, a path on this machine.")],
        json_: Json = False,
    ) -> None:
        """Make an account for somebody else on this node: a device of its own, with folders and tokens of its own."""
        place = os.path.abspath(os.path.expanduser(folders))
        made = api().post("/api/accounts", {"name": name, "folders": place})
        lines = [
            f"{made['name']} has an account on this node; its folders are in {made['within']}.",
            f"Its commands: shoal --account {made['name']} status, pair, folder add, register ...",
        ]
        emit(json_, made, "\n".join(map(printable, lines)))

    @account.command("list")
    def list_accounts(json_: Json = False) -> None:
        """List the other accounts on this node."""
        found = api().get("/api/accounts")
        emit(json_, found, "\n".join(map(_account, found)) or "This node has one account.")

    @account.command("start")
    def start_account(
        name: str,
        password: Annotated[bool, typer.Option("--password", help="Its secrets are sealed by one.")] = False,
        json_: Json = False,
    ) -> None:
        """Start an account on this node that was stopped, or is locked."""
        body = {"password": ask_password("Password") if password else None}
        done = api().post(f"/api/accounts/{quote(name, safe='')}/start", body)
        emit(json_, done, f"{done['name']} runs.")

    @account.command("remove")
    def remove_account(name: str, json_: Json = False) -> None:
        """Remove an account from this node. Its files stay, and its home is put aside."""
        done = api().delete(f"/api/accounts/{quote(name, safe='')}")
        emit(json_, done, printable(f"{name} has no account here any more; what was its home is {done['kept_at']}"))

    @app.command("recover")
    def recover(
        address: Annotated[
            list[str] | None, typer.Option(help="Where a device of yours is, /ip4/.../tcp/.../p2p/ID.")
        ] = None,
        seed: Annotated[str | None, typer.Option(help="The card of a seed of yours, where no device is left.")] = None,
        json_: Json = False,
    ) -> None:
        """Make this device one of your account, by the words of its paper key."""
        words = typer.prompt("The 24 words", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
        done = api().post("/api/account/recover", {"words": words, "addresses": address or [], "seed": seed})
        text = (
            f"This device is of your account now; {printable(done['device'])!r} let it in. Folders: shoal folder list"
        )
        emit(json_, done, text)


def _account(account: dict[str, Any]) -> str:
    state = (
        f"runs, {count(account['folders'], 'folder')} in {account['within']}"
        if account["running"]
        else account["fault"]
    )
    return printable(f"{account['name']}: {state}")
