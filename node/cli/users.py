"""`shoal register`, `login`, `logout`, `profile`, `token`: the person of this node."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from shoal.node.cli.context import Json, api, emit
from shoal.node.cli.show import printable
from shoal.node.errors import EXIT_USAGE, UserError


def ask_password(what: str, *, twice: bool = False) -> str:
    """Ask for a password where somebody sits there; else read a line."""
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True, confirmation_prompt=twice))
    return sys.stdin.readline().rstrip("\n")


def _profile(user: dict[str, Any]) -> str:
    lines = [user["username"], f"name:    {user['name'] or '-'}", f"e-mail:  {user['email'] or '-'}"]
    return "\n".join(map(printable, [*lines, f"picture: {user['avatar'] or '-'}"]))


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("register")
    def register(
        username: str,
        email: Annotated[str, typer.Option(help="Your e-mail address, if you like.")] = "",
        name: Annotated[str, typer.Option(help="How you are shown.")] = "",
        json_: Json = False,
    ) -> None:
        """Give this node a person, with a password for the page, programs and other machines."""
        body = {"username": username, "password": ask_password("Password", twice=True), "email": email, "name": name}
        made = api().post("/api/users/register", body)
        emit(json_, made, printable(f"This node is {made['username']}'s."))

    @app.command("login")
    def login(
        username: str,
        label: Annotated[str, typer.Option(help="What the token is for.")] = "",
        json_: Json = False,
    ) -> None:
        """Get a token for the API, valid for 30 days. Commands on this machine need none."""
        made = api().post(
            "/api/users/login", {"username": username, "password": ask_password("Password"), "label": label}
        )
        emit(json_, made, made["token"])

    @app.command("logout")
    def logout(token: str, json_: Json = False) -> None:
        """End the token with this id."""
        done = api().delete(f"/api/users/tokens/{quote(token, safe='')}")
        emit(json_, done, f"Token {done['ended']} is valid no more.")

    @app.command("profile")
    def profile(
        name: Annotated[str | None, typer.Option(help="How you are shown.")] = None,
        email: Annotated[str | None, typer.Option(help="Your e-mail address.")] = None,
        avatar: Annotated[str | None, typer.Option(help='A picture\'s file; "" for none.')] = None,
        password: Annotated[bool, typer.Option("--password", help="Set another password; ends all tokens.")] = False,
        json_: Json = False,
    ) -> None:
        """Show who this node is for, or change that."""
        if password:
            current = ask_password("Current password")
            api().put("/api/users/password", {"current": current, "password": ask_password("New password", twice=True)})
        changes = {key: value for key, value in (("name", name), ("email", email)) if value is not None}
        if avatar is not None:
            changes["avatar"] = _picture(avatar)
        found = api().patch("/api/users/profile", changes) if changes else api().get("/api/users/profile")
        emit(json_, found, _profile(found))

    tokens = typer.Typer(help="What was given by logging in.", no_args_is_help=True)
    app.add_typer(tokens, name="token")

    @tokens.command("list")
    def list_tokens(json_: Json = False) -> None:
        """List the tokens that are valid."""
        found = api().get("/api/users/tokens")
        emit(json_, found, "\n".join(map(_token, found)) or "No tokens.")

    @tokens.command("revoke")
    def revoke(token: str, json_: Json = False) -> None:
        """End the token with this id."""
        logout(token, json_)


def _token(token: dict[str, Any]) -> str:
    until = time.strftime("%Y-%m-%d", time.localtime(token["until_ms"] / 1000))
    return printable(f"{token['id']}  until {until}  {token['label']}".rstrip())


def _picture(path: str) -> str:
    try:
        return base64.b64encode(Path(path).expanduser().read_bytes()).decode() if path else ""
    except OSError as error:
        raise UserError("bad-avatar", f"cannot read {path}: {error.strerror}", "", EXIT_USAGE) from error
