"""The API's routes for the other accounts on this node: for the person of the first one."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from shoal.node.household import Household, Member


class AddAccount(BaseModel):
    """Whose it is to be, and the absolute path that all of its folders are to be in."""

    name: str = Field(min_length=1, max_length=100)
    folders: str = Field(min_length=1, max_length=4096)


class StartAccount(BaseModel):
    """`password`: where its secrets are sealed by one."""

    password: str | None = Field(default=None, max_length=1000)


def _shown(member: Member) -> dict[str, Any]:
    user = member.node.users.user if member.node is not None else None
    return {
        "name": member.name,
        "home": str(member.home.path),
        "within": str(member.node.within) if member.node is not None else None,
        "running": member.node is not None,
        "fault": member.fault,
        "username": user.username if user is not None else None,
        "folders": len(member.node.folders) if member.node is not None else 0,
    }


def add_routes(app: FastAPI, household: Household) -> None:
    """Add the routes."""

    @app.get("/api/accounts")
    async def get_accounts() -> list[dict[str, Any]]:
        return [_shown(member) for _, member in sorted(household.members.items())]

    @app.post("/api/accounts", status_code=201)
    async def add_account(body: AddAccount) -> dict[str, Any]:
        return _shown(await household.add(body.name, body.folders))

    @app.post("/api/accounts/{name}/start")
    async def start_account(name: str, body: StartAccount) -> dict[str, Any]:
        return _shown(await household.start(name, body.password))

    @app.delete("/api/accounts/{name}")
    async def remove_account(name: str) -> dict[str, Any]:
        return {"kept_at": await household.remove(name)}
