"""`shoal device` and `shoal audit`: the devices of the account, and what happened that matters to security."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from shoal.node.cli.client import with_query
from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.pairing import offer
from shoal.node.cli.show import count, printable
from shoal.node.cli.users import ask_password
from shoal.node.errors import EXIT_USAGE, UserError


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    devices = typer.Typer(help="The devices of your account.", no_args_is_help=True)
    app.add_typer(devices, name="device")

    @devices.command("list")
    def list_devices(
        all_: Annotated[bool, typer.Option("--all", help="Also those that were revoked.")] = False, json_: Json = False
    ) -> None:
        """List the devices of your account."""
        found = api().get("/api/devices")
        chosen = [device for device in found if all_ or device["revoked_ms"] is None or device["is_this"]]
        emit(json_, chosen, "\n".join(map(_line, chosen)))

    @devices.command("add")
    def add(
        qr: Annotated[bool, typer.Option("--qr", help="Show the link as a QR code as well.")] = False,
    ) -> None:
        """Add a device to your account: show a code for it, as shoal pair does."""
        offer(qr=qr)

    @devices.command("rename")
    def rename(device: str, name: str, json_: Json = False) -> None:
        """Give DEVICE another NAME."""
        done = api().patch(f"/api/devices/{quote(device, safe='')}", {"name": name})
        emit(json_, done, printable(f"It is {done['name']!r} now, on all devices."))

    @devices.command("revoke")
    def revoke(
        device: str,
        erase: Annotated[bool, typer.Option("--erase", help="It is to erase its copies when it connects.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        json_: Json = False,
    ) -> None:
        """Remove DEVICE from your account, for good: one that was lost or sold. It can read nothing new."""
        if not yes:
            if not sys.stdin.isatty():
                raise UserError("not-confirmed", "revoking a device cannot be undone", "add --yes", EXIT_USAGE)
            typer.confirm(f"Remove {printable(device)} from your account, for good?", abort=True)
        done = api().post(f"/api/devices/{quote(device, safe='')}/revoke", {"erase": erase})
        told = " It erases its copies when it next connects." if erase else ""
        emit(json_, done, printable(f"{done['name']!r} is of your account no more.{told}"))

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
        emit(json_, made, printable("\n".join(lines)))

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
        json_: Json = False,
    ) -> None:
        """Make this device one of your account, by the words of its paper key."""
        words = typer.prompt("The 24 words", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
        done = api().post("/api/account/recover", {"words": words, "addresses": address or []})
        text = (
            f"This device is of your account now; {printable(done['device'])!r} let it in. Folders: shoal folder list"
        )
        emit(json_, done, text)

    @app.command("audit")
    def audit(
        verify: Annotated[bool, typer.Option("--verify", help="Check that nothing was changed or removed.")] = False,
        after: Annotated[int, typer.Option(help="Only records after this number.")] = 0,
        json_: Json = False,
    ) -> None:
        """Show what happened on this device that matters to security."""
        if verify:
            found = api().get("/api/audit/verify")
            if not found["whole"]:
                raise UserError("audit-broken", f"the audit log was changed: {found['fault']}")
            emit(json_, found, "The audit log is whole.")
            return
        records = api().get(with_query("/api/audit", after=str(after), limit="20000"))
        emit(json_, records, "\n".join(map(_record, records)) or "Nothing yet.")


def _account(account: dict[str, Any]) -> str:
    state = (
        f"runs, {count(account['folders'], 'folder')} in {account['within']}"
        if account["running"]
        else account["fault"]
    )
    return printable(f"{account['name']}: {state}")


def _record(record: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["time_ms"] / 1000))
    return printable(f"{record['number']:>5}  {when}  {record['kind']}: {record['text']}")


def _line(device: dict[str, Any]) -> str:
    if device["revoked_ms"] is not None:
        state = "revoked " + time.strftime("%Y-%m-%d %H:%M", time.localtime(device["revoked_ms"] / 1000))
    elif device["kind"] == "paper":
        state = "paper key"
    elif device["is_this"]:
        state = "this device"
    elif device["connected"]:
        state = "connected"
    else:
        seen = device["last_seen_ms"]
        state = "last seen " + time.strftime("%Y-%m-%d %H:%M", time.localtime(seen / 1000)) if seen else "never seen"
    return printable(f"{device['name']}: {state}  ({device['id'][-8:]})")
