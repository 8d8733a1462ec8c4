"""`shoal seed`: the always-on seeds of your account; and, on an always-on machine, being one."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from shoal.node.cli import lifecycle
from shoal.node.cli.context import Context, Json, api, emit
from shoal.node.cli.show import printable, size
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.home import DEFAULT_API
from shoal.node.sizes import parse_size

UNIT = """[Unit]
Description=Shoal seed
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command} --home {home} seed up --foreground
Restart=always
RestartSec=2
TimeoutStopSec=30
LimitNOFILE=65536
MemoryMax=512M
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=strict
ReadWritePaths={home}

[Install]
WantedBy={target}
"""


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    seed = typer.Typer(help="Always-on seeds of your account, and being one.", no_args_is_help=True)
    app.add_typer(seed, name="seed")
    _add_own(seed)
    _add_service(seed)


def _add_own(seed: typer.Typer) -> None:
    """Add what one does with the seeds of one's account."""

    @seed.command("add")
    def add(
        card: str,
        name: Annotated[str | None, typer.Option(help="What to call it; what it calls itself by default.")] = None,
        json_: Json = False,
    ) -> None:
        """Have the seed whose CARD that is hold your folders, sealed, and pass on what is new."""
        made = api().post("/api/seeds", {"card": card, "name": name})
        told = "" if made["connected"] else " It is not connected yet: shoal seed list"
        emit(json_, made, printable(f"{made['name']!r} is a seed of your account, for all of its devices.{told}"))

    @seed.command("list")
    def list_seeds(json_: Json = False) -> None:
        """List your seeds, and what each holds."""
        found = api().get("/api/seeds")
        lines = []
        for each in found:
            lines.append(f"{each['name']}: {'connected' if each['connected'] else 'not connected'}")
            for folder in each["folders"]:
                state = (
                    "not taken yet" if not folder["accepted"] else "up to date" if folder["up_to_date"] else "behind"
                )
                lines.append(f"  {folder['folder']}: {state}")
        emit(json_, found, "\n".join(map(printable, lines)) if lines else "No seed yet. Add one: shoal seed add CARD")

    @seed.command("remove")
    def remove(name: str, json_: Json = False) -> None:
        """Have the seed NAME hold your folders no more."""
        done = api().delete(f"/api/seeds/{quote(name, safe='')}")
        emit(json_, done, printable(f"{done['removed']!r} is no seed of your account any more."))


def _add_service(seed: typer.Typer) -> None:
    """Add what one does on a seed."""

    @seed.command("up")
    def up(
        listen: Annotated[list[str] | None, typer.Option(help="Address to listen on; repeatable.")] = None,
        announce: Annotated[
            list[str] | None, typer.Option(help="Address to be known by, /dns4/NAME/tcp/PORT; repeatable.")
        ] = None,
        bootstrap: Annotated[list[str] | None, typer.Option(help="Another seed, ADDRESS/p2p/ID; repeatable.")] = None,
        api_address: Annotated[str, typer.Option("--api", help="Where the local API listens.")] = DEFAULT_API,
        name: Annotated[str, typer.Option(help="Its name, at its first start.")] = "",
        is_open: Annotated[
            bool | None, typer.Option("--open/--closed", help="Serve everybody, or who is allowed.")
        ] = None,
        quota: Annotated[str | None, typer.Option(help="What each account may have here: 500M, 2G.")] = None,
        foreground: Annotated[bool, typer.Option(help="Stay in this terminal, as a service does.")] = False,
        json_: Json = False,
    ) -> None:
        """Start this machine as a seed: others find each other through it, and it holds what it cannot read."""
        more = ["--seed"]
        for address in announce or []:
            more += ["--announce", address]
        for address in bootstrap or []:
            more += ["--bootstrap", address]
        more += [f"--{'open' if is_open else 'closed'}"] if is_open is not None else []
        more += ["--quota", str(parse_size(quota))] if quota is not None else []
        lifecycle.start(lifecycle.Launch(listen or (), "", api_address, name=name, foreground=foreground, more=more))
        found = api().get("/api/seed")
        emit(
            json_,
            found,
            "This is a seed. On a device of yours:\n\n    shoal seed add " + shlex.quote(found["card"]) + "\n",
        )
        if not json_ and not found["open"] and not found["accounts"]:
            print("It serves nobody yet: allow your account (shoal seed allow CARD, which shoal contact card shows on")
            print("your device), or everybody (shoal seed set --open).")

    @seed.command("status")
    def status(json_: Json = False) -> None:
        """Show whom this seed serves, and what it holds."""
        found = api().get("/api/seed")
        whom = "everybody" if found["open"] else "the accounts that are allowed"
        lines = [
            f"Serves {whom}, {size(found['quota'])} each. Memory: {size(found['resident_bytes'])}.",
            f"Connections: {found['connections']}. Peers in the DHT: {found.get('dht_peers', 0)}, "
            f"records: {found.get('dht_records', 0)}, questions: {found.get('dht_questions_total', 0)}.",
            f"Relays for {found['relay_reservations']} devices: {found['relay_circuits']} circuits now, "
            f"{size(found['relay_bytes_total'])} carried.",
        ]
        for each in found["accounts"]:
            lines.append(f"  {each['name']} ({each['id']}): {each['folders']} folders, {size(each['used'])}")
        emit(json_, found, "\n".join(map(printable, lines)))

    @seed.command("card")
    def card(json_: Json = False) -> None:
        """Show the card by which accounts add this seed."""
        found = api().get("/api/seed")["card"]
        emit(json_, {"card": found}, found)

    @seed.command("allow")
    def allow(card: str, json_: Json = False) -> None:
        """Serve the account whose CARD that is: shoal contact card, on a device of it."""
        done = api().post("/api/seed/allowed", {"card": card})
        emit(json_, done, printable(f"{done['allowed']} ({done['id']}) may use this seed."))

    @seed.command("deny")
    def deny(
        name: str,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        json_: Json = False,
    ) -> None:
        """Serve the account NAME no more, and erase what is held of it here."""
        if not yes:
            if not sys.stdin.isatty():
                raise UserError(
                    "not-confirmed", f"what is held of {name!r} here would be erased", "add --yes", EXIT_USAGE
                )
            typer.confirm(f"Erase what is held of {printable(name)} here?", abort=True)
        done = api().delete(f"/api/seed/allowed/{quote(name, safe='')}")
        emit(json_, done, printable(f"{name} is served no more."))

    @seed.command("set")
    def change(
        is_open: Annotated[
            bool | None, typer.Option("--open/--closed", help="Serve everybody, or who is allowed.")
        ] = None,
        quota: Annotated[str | None, typer.Option(help="What each account may have here: 500M, 2G.")] = None,
        json_: Json = False,
    ) -> None:
        """Change whom this seed serves, and how much it holds of each account."""
        if is_open is None and quota is None:
            raise UserError(
                "nothing-to-do", "nothing was said to change", "give --open, --closed or --quota", EXIT_USAGE
            )
        body: dict[str, Any] = {"open": is_open, "quota": parse_size(quota) if quota is not None else None}
        found = api().patch("/api/seed", body)
        emit(json_, found, f"Serves {'everybody' if found['open'] else 'who is allowed'}, {size(found['quota'])} each.")

    @seed.command("backup")
    def backup(file: Path, json_: Json = False) -> None:
        """Write this seed's identity, and whom it serves, to FILE, which is secret: with it another machine is it."""
        from shoal.node.identity_file import save

        save(Context.home, file)
        emit(
            json_, {"file": str(file)}, f"Wrote {file}. Keep it as secret as a key: shoal seed restore brings it back."
        )

    @seed.command("restore")
    def restore(file: Path, json_: Json = False) -> None:
        """Be the seed that FILE was written on, in a home that has none yet. The old one must not run any more."""
        from shoal.node.identity_file import load

        load(Context.home, file)
        emit(json_, {"home": str(Context.home.path)}, "This home has the seed's identity now. Start it: shoal seed up")

    @seed.command("unit")
    def unit(
        write: Annotated[bool, typer.Option("--write", help="Write it to where systemd looks for it.")] = False,
        json_: Json = False,
    ) -> None:
        """Show a systemd unit that runs this seed, or write it."""
        as_root = os.geteuid() == 0
        home = Context.home.path
        text = UNIT.format(
            command=shlex.quote(os.path.realpath(sys.argv[0])),
            home=shlex.quote(str(home)),
            target="multi-user.target" if as_root else "default.target",
        )
        if not write:
            emit(json_, {"unit": text}, text)
            return
        place = Path("/etc/systemd/system") if as_root else Path.home() / ".config/systemd/user"
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / "shoal-seed.service").write_text(text)
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(
                "cannot-write", f"cannot write in {place}: {error.strerror}", "show it without --write"
            ) from error
        how = "systemctl" if as_root else "systemctl --user"
        emit(
            json_,
            {"file": str(place / "shoal-seed.service")},
            f"Wrote {place}/shoal-seed.service. Start it: {how} enable --now shoal-seed",
        )
