"""`shoal device` and `shoal audit`: the devices of the account, and what happened that matters to security."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from shoal.node.cli.client import with_query
from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.pairing import offer
from shoal.node.cli.show import printable
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
