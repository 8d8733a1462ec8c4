"""The API's routes for the account: paper keys, and how its secrets are sealed."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from shoal.node.daemon import Node


class Recover(BaseModel):
    """The words of a paper key, and where a device of its account is."""

    words: str = Field(max_length=1000)
    addresses: list[str] = Field(default_factory=list, max_length=64)
    seed: str | None = Field(default=None, max_length=4096)


class Protect(BaseModel):
    """How this node's secrets are to be sealed on its disk."""

    way: Literal["password", "keyring", "none"]
    password: str | None = Field(default=None, max_length=1000)


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    @app.post("/api/account/paper-key")
    async def new_paper_key() -> dict[str, Any]:
        return {"words": node.recovery.new_paper_key()}

    @app.post("/api/account/recover")
    async def recover(body: Recover) -> dict[str, Any]:
        return {"device": await node.recovery.recover(body.words, body.addresses, body.seed)}

    @app.get("/api/account/protection")
    async def get_protection() -> dict[str, Any]:
        return node.protection.state()

    @app.put("/api/account/protection")
    async def protect(body: Protect) -> dict[str, Any]:
        if body.way == "none":
            await node.protection.unseal()
        else:
            await node.protection.seal(body.way, body.password)
        return node.protection.state()
