"""`shoal offer`, `shoal folder policy`, `shoal durability`, `shoal verify`: replicas that look after themselves."""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import printable, size
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.sizes import parse_size

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_grace(text: str) -> int:
    """Read `90s`, `30m`, `24h` or `7d`, in seconds. Raises UserError."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None or not int(match[1]):
        raise UserError("bad-time", f"{text!r} is no length of time", "for example 30m, 24h or 7d", EXIT_USAGE, 400)
    return int(match[1]) * SECONDS[match[2]]


def parse_code(text: str) -> tuple[int, int]:
    """Read `6+3`. Raises UserError."""
    match = re.fullmatch(r"(\d{1,2})\+(\d{1,2})", text.strip())
    if match is None or not int(match[1]):
        hint = "for example 6+3: any 6 of 9 pieces give the data"
        raise UserError("bad-code", f"{text!r} is no erasure code", hint, EXIT_USAGE, 400)
    return int(match[1]), int(match[2])


def add_commands(app: typer.Typer, folder: typer.Typer) -> None:
    """Add the commands."""

    @app.command("offer")
    def offer(
        space: Annotated[str | None, typer.Argument(help="How much: 200GB; 0 for none.")] = None,
        zone: Annotated[str | None, typer.Option(help="Where this device is: home, office, a region.")] = None,
        repair: Annotated[str | None, typer.Option(help="Bytes a second for repairs: 20M; 0: any number.")] = None,
        store: Annotated[
            str | None,
            typer.Option(help="A bucket for it, s3://BUCKET/PREFIX?endpoint=URL&region=NAME; 'here': this machine."),
        ] = None,
        json_: Json = False,
    ) -> None:
        """Offer SPACE on this device for sealed replicas of your folders, and of those that you hold for others."""
        if store is not None:
            body = {"url": None if store == "here" else store}
            body |= {"key": os.environ.get("AWS_ACCESS_KEY_ID", "")}
            body |= {"secret": os.environ.get("AWS_SECRET_ACCESS_KEY", "")}
            kept = api().put("/api/offer/store", body)
            print(printable(f"Pieces are kept in {kept['store']} from the next start on."), file=sys.stderr)
        here = api().get("/api/offer")
        if space is not None or zone is not None or repair is not None:
            wanted: dict[str, Any] = {"size": here["size"] if space is None else parse_size(space), "zone": zone}
            wanted["repair"] = None if repair is None else parse_size(repair)
            here = api().put("/api/offer", wanted)
        zone_told = f" in zone {here['zone']}" if here["zone"] else ""
        emit(json_, here, printable(f"Offered: {size(here['size'])}{zone_told}, {size(here['used'])} in use."))

    @folder.command("policy")
    def policy(
        name: str,
        copies: Annotated[int | None, typer.Option(help="Copies, devices with the files included.")] = None,
        erasure: Annotated[str | None, typer.Option(help="K+M pieces instead of copies: 6+3.")] = None,
        min_zones: Annotated[int | None, typer.Option(help="Zones that they are in, at least.")] = None,
        grace: Annotated[str | None, typer.Option(help="How long a holder may be away: 24h.")] = None,
        json_: Json = False,
    ) -> None:
        """Show, or set, how the replicas of folder NAME are held."""
        if copies is not None and erasure is not None:
            raise UserError("bad-policy", "copies or an erasure code, not both", "", EXIT_USAGE, 400)
        path = f"/api/folders/{quote(name, safe='')}/policy"
        k, m = (None, None) if erasure is None else parse_code(erasure)
        body = {"copies": copies, "k": k, "m": m, "min_zones": min_zones}
        body["grace"] = None if grace is None else parse_grace(grace)
        asked = any(value is not None for value in body.values())
        said = api().put(path, body) if asked else api().get(path)
        short = f"\n  {_short(said['holders_short'])}" if said["holders_short"] else ""
        emit(json_, said, printable(f"{name!r}: {_policy(said)}") + short)

    @folder.command("believe")
    def believe(name: str, holder: str, json_: Json = False) -> None:
        """Have HOLDER, which failed an audit, hold packs of folder NAME again: it was mended, say."""
        done = api().post(f"/api/folders/{quote(name, safe='')}/believe/{quote(holder, safe='')}")
        emit(json_, done, printable(f"{done['believed']} may hold packs again."))

    @app.command("durability")
    def durability(json_: Json = False) -> None:
        """Show for each folder how many copies there are, where, and how likely a loss is."""
        found = api().get("/api/durability")
        lines: list[str] = []
        for each in found:
            lines.append(f"{each['folder']}: {_policy(each['policy'])}")
            lines.append(
                f"  {each['packs']} packs, {size(each['bytes'])}; {each['devices_with_files']} devices with the files;"
                f" {each['zones']} zones"
            )
            if each["chunks_not_packed"]:
                lines.append(f"  {each['chunks_not_packed']} chunks are not packed yet")
            if each["lost"]:
                lines.append(f"  {each['lost']} packs cannot be put together from who is there")
            if each["endangered"] or each["not_as_policy"] or each["too_few_zones"]:
                lines.append(
                    f"  {each['endangered']} packs endangered, {each['not_as_policy']} not held as the policy says,"
                    f" {each['too_few_zones']} in too few zones"
                )
            elif each["packs"]:
                lines.append("  all of them held as the policy says")
            if each["policy"]["holders_short"]:
                lines.append(f"  {_short(each['policy']['holders_short'])}")
            if each["expected_yearly_loss"] is not None:
                lines.append(f"  a pack is lost within a year with a chance of {each['expected_yearly_loss']:.1e}")
            for holder in each["holders"]:
                state = "connected" if holder["connected"] else "away" if holder["present"] else "gone"
                if not holder["believed"]:
                    state = "failed an audit"
                has = "has the files" if holder["has_files"] else f"holds {size(holder['holds'])}"
                lines.append(f"    {holder['name']} in {holder['zone']}: {has}, {state}")
        emit(json_, found, "\n".join(map(printable, lines)) if lines else "No folder yet.")

    @app.command("forecast")
    def forecast(json_: Json = False) -> None:
        """Show when each holder runs full, by how its use grew, and what to add."""
        found = api().get("/api/forecast")
        lines: list[str] = []
        for each in found:
            lines.append(f"{each['name']} in {each['zone']}: {size(each['used'])} of {size(each['offered'])}")
            lines.append(f"  {_forecast(each['forecast'])}")
        emit(json_, found, "\n".join(map(printable, lines)) if lines else "Nobody offers space yet: shoal offer")

    @app.command("verify")
    def verify(name: str, json_: Json = False) -> None:
        """Have each holder prove each piece of folder NAME that it says to hold."""
        done = api().post(f"/api/folders/{quote(name, safe='')}/verify", {}, timeout=3600)
        lines = [
            f"{done['folder']}: {done['proven_as_policy']} of {done['packs']} packs proven to be held as the policy"
            " says",
            f"  pieces: {done['pieces_proven']} proven, {done['pieces_failed']} failed,"
            f" {done['pieces_unreachable']} with holders that are not there",
        ]
        if done["holders_short"]:
            lines.append(f"  {_short(done['holders_short'])}")
        lines += [f"  {who} failed {times} times" for who, times in done["failed_at"].items()]
        emit(json_, done, "\n".join(map(printable, lines)))
        if done["pieces_failed"] or done["proven_as_policy"] < done["packs"]:
            raise typer.Exit(1)


def _short(count: int) -> str:
    return (
        f"the policy wants {count} holders more than there are: shoal seed add, shoal offer, shoal share --role holder"
    )


def _policy(said: dict[str, Any]) -> str:
    what = f"{said['copies']} copies" if said["copies"] else f"pieces {said['erasure']}"
    zones = f" in {said['min_zones']} zones at least" if said["min_zones"] > 1 else ""
    hours = said["grace"] / 3600
    return f"{what}{zones}, a holder may be away for {hours:g} hours"


def _forecast(said: dict[str, Any] | None) -> str:
    if said is None:
        return "too few days are known to say more"
    per_day = f"{size(abs(int(said['daily'])))} a day {'more' if said['daily'] >= 0 else 'less'}"
    error = f"a day's forecast was off by {size(int(said['error']))}"
    if said["full_in"] is None and said["earliest"] is None:
        return f"{per_day}; not full within a year ({error})"
    full = f"full in {said['full_in']} days" if said["full_in"] is not None else "perhaps full within a year"
    band = f"{said['earliest'] or 365} to {said['latest'] or 'more than 365'} days"
    return f"{per_day}; {full}, {band} with a chance of 80 % ({error}); add {size(said['add'])} for half a year"
