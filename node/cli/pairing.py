"""`shoal pair`: a device becomes one of an account, by a code, a link, or the link's QR code."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import printable
from shoal.node.errors import EXIT_TIMEOUT, UserError
from shoal.node.pairing_link import is_link, read_link


def add_commands(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def pair(
        code: Annotated[str | None, typer.Argument(help="The code, or the link, that the other device shows.")] = None,
        address: Annotated[
            list[str] | None, typer.Option(help="Where the other device is, /ip4/.../tcp/.../p2p/ID.")
        ] = None,
        qr: Annotated[bool, typer.Option("--qr", help="Show the link as a QR code as well.")] = False,
        json_: Json = False,
    ) -> None:
        """Show a pairing code; or with CODE, join the device that shows it."""
        if code is not None:
            join(code, address or [], json_)
        elif json_:
            emit(True, api().post("/api/pair/offer"))
        else:
            offer(qr=qr)


def join(code: str, addresses: list[str], json_: bool) -> None:
    """Make this device one of the account of the device that shows a code or a link."""
    if is_link(code):
        code, known = read_link(code)
        addresses = addresses + known
    result = api().post("/api/pair/join", {"code": code, "addresses": addresses})
    text = printable(f"Paired with {result['device']!r}. Folders: shoal folder list")
    emit(json_, {"paired": True, **result}, text)


def offer(*, qr: bool) -> None:
    """Show a code, and wait until a device has used it. Raises UserError."""
    made = api().post("/api/pair/offer")
    print(f"On the other device, within ten minutes:\n\n    shoal pair {made['code']}\n")
    print(f"If it is not on this network:\n\n    shoal pair '{made['link']}'\n")
    if qr:
        show_qr(made["link"])
    print("Waiting for it ... (Ctrl-C stops waiting; the code stays valid)", flush=True)
    _wait(made)


def show_qr(link: str) -> None:
    """Show a link as a QR code in the terminal."""
    import segno  # here, because it costs 20 ms

    segno.make(link, error="l", micro=False).terminal(out=sys.stdout, compact=True, border=2)


def _wait(made: dict[str, Any]) -> None:
    deadline = time.monotonic() + made["valid_s"]
    for event in api().follow(made["after"]):
        if event["kind"] == "paired":
            print(printable(event["text"].capitalize()) + ".")
            return
        if event["kind"] == "pairing-failed":
            raise UserError("pairing-failed", event["text"], "run shoal pair for a new code")
        if time.monotonic() > deadline:
            break
    raise UserError("pairing-expired", "the code has expired", "run shoal pair for a new one", EXIT_TIMEOUT)
