"""The API's routes for the person of this node: registering, logging in and out, the profile, tokens."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import trio
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from shoal.node.daemon import Node
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.household import Household
from shoal.node.users import Throttled, Token, User, media_type

LOG_IN = "/api/users/login"
LONG = 1000  # characters of any text, before it is looked at


class Register(BaseModel):
    """Who this node is for."""

    username: str = Field(max_length=LONG)
    password: str = Field(max_length=LONG)
    name: str = Field(default="", max_length=LONG)
    email: str = Field(default="", max_length=LONG)


class LogIn(BaseModel):
    """`label`: what the token is for."""

    username: str = Field(max_length=LONG)
    password: str = Field(max_length=LONG)
    label: str = Field(default="", max_length=LONG)


class Profile(BaseModel):
    """What is to be changed. `avatar`: base64 of an image, or "" for none."""

    name: str | None = Field(default=None, max_length=LONG)
    email: str | None = Field(default=None, max_length=LONG)
    avatar: str | None = None


class Password(BaseModel):
    """`current`: the one that is in force."""

    current: str = Field(max_length=LONG)
    password: str = Field(max_length=LONG)


def bearer(request: Request) -> str:
    """Return the token that a request has, "" for none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _shown(user: User | None) -> dict[str, Any]:
    if user is None:
        raise UserError("not-registered", "nobody registered on this node", "do: shoal register NAME", status=404)
    return {
        "username": user.username,
        "name": user.name,
        "email": user.email,
        "avatar": media_type(user.avatar),
        "since_ms": user.since_ms,
    }


def _token(token: Token) -> dict[str, Any]:
    return {"id": token.id, "label": token.label, "made_ms": token.made_ms, "until_ms": token.until_ms}


def add_routes(app: FastAPI, node: Node, household: Household) -> None:
    """Add the routes."""
    users, events = node.users, node.events
    one_at_a_time = trio.Lock()  # each try costs 64 MiB for a moment, and is counted before the next

    async def check(node: Node, username: str, password: str) -> None:
        users, events = node.users, node.events
        async with one_at_a_time:
            name = username.strip().lower()
            try:
                users.throttle.check(name, trio.current_time())
            except Throttled as error:
                wait = math.ceil(error.seconds)
                raise UserError(
                    "throttled", "there were too many wrong passwords", f"try again in {wait} s", status=429
                ) from error
            if not await trio.to_thread.run_sync(users.is_right, username, password):
                users.throttle.wrong(name, trio.current_time())
                events.add("log-in-failed", f"wrong name or password, for {name[:64]!r}")
                raise UserError("wrong-password", "the name or the password is wrong", "", EXIT_USAGE, 401)
            users.throttle.right(name)

    @app.post("/api/users/register", status_code=201)
    async def register(body: Register) -> dict[str, Any]:
        if body.username.strip().lower() in household.users_but(node):
            raise UserError("name-taken", f"{body.username!r} is taken on this node", "choose another", EXIT_USAGE)
        async with one_at_a_time:
            made = await trio.to_thread.run_sync(
                lambda: users.register(body.username, body.password, name=body.name, email=body.email)
            )
        events.add("registered", f"{made.username} registered on this node")
        return _shown(made)

    @app.post(LOG_IN)
    async def log_in(body: LogIn) -> dict[str, Any]:
        whose = household.node_of_user(body.username.strip().lower())
        await check(whose, body.username, body.password)
        text, token = whose.users.new_token(body.label)
        whose.events.add("log-in", f"{body.username.strip().lower()} logged in, token {token.id}")
        return {"token": text, **_token(token)}

    @app.post("/api/users/logout")
    async def log_out(request: Request) -> dict[str, Any]:
        token = users.token(bearer(request))
        if token is None:
            raise UserError("not-logged-in", "this was not called with a token of a log-in", "", status=400)
        users.revoke(token.id)
        events.add("log-out", f"token {token.id} ended")
        return {"ended": token.id}

    @app.get("/api/users/profile")
    async def profile() -> dict[str, Any]:
        return _shown(users.user)

    @app.patch("/api/users/profile")
    async def change(body: Profile) -> dict[str, Any]:
        try:
            avatar = base64.b64decode(body.avatar, validate=True) if body.avatar is not None else None
        except (binascii.Error, ValueError) as error:
            raise UserError("bad-avatar", "the picture is no base64", "", EXIT_USAGE, 400) from error
        return _shown(users.change(name=body.name, email=body.email, avatar=avatar))

    @app.get("/api/users/avatar")
    async def avatar() -> Response:
        kind = media_type(users.user.avatar) if users.user is not None else None
        if users.user is None or kind is None:
            raise UserError("no-avatar", "there is no picture", "shoal profile --avatar FILE", status=404)
        return Response(users.user.avatar, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})

    @app.put("/api/users/password")
    async def set_password(body: Password) -> dict[str, Any]:
        username = _shown(users.user)["username"]
        await check(node, username, body.current)
        async with one_at_a_time:
            await trio.to_thread.run_sync(users.set_password, body.password)
        events.add("password-changed", f"{username} has another password; all tokens ended")
        return _shown(users.user)

    @app.get("/api/users/tokens")
    async def tokens() -> list[dict[str, Any]]:
        return [_token(token) for token in users.tokens()]

    @app.delete("/api/users/tokens/{token}")
    async def revoke(token: str) -> dict[str, Any]:
        users.revoke(token)
        events.add("token-revoked", f"token {token} ended")
        return {"ended": token}
