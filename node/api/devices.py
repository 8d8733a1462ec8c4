"""The API's routes for the devices of the account, and for the audit log."""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt.model import DeviceId
from shoal.node.daemon import Node


class Rename(BaseModel):
    """A device's new name."""

    name: str


class Revoke(BaseModel):
    """`erase`: whether the device is to erase its copies when it next connects."""

    erase: bool = False


class Recover(BaseModel):
    """The words of a paper key, and where a device of its account is."""

    words: str = Field(max_length=1000)
    addresses: list[str] = Field(default_factory=list, max_length=64)


class Protect(BaseModel):
    """How this node's secrets are to be sealed on its disk."""

    way: Literal["password", "keyring", "none"]
    password: str | None = Field(default=None, max_length=1000)


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes. A device is given by its name, its id, or the end of that."""

    def shown(device: DeviceId) -> dict[str, Any]:
        record = node.account.records()[device]
        return {
            "id": peer_id_text(device),
            "name": record.name,
            "kind": "paper" if record.is_paper else "device",
            "is_this": device == node.key.id,
            "connected": device in node.sessions or device == node.key.id,
            "last_seen_ms": node.last_seen_ms(device),
            "added_ms": record.added_ms,
            "revoked_ms": record.revoked_ms,
            "erase": record.erase,
        }

    @app.get("/api/devices")
    async def get_devices() -> list[dict[str, Any]]:
        return [shown(device) for device in node.account.records()]

    @app.post("/api/account/paper-key")
    async def new_paper_key() -> dict[str, Any]:
        return {"words": node.recovery.new_paper_key()}

    @app.post("/api/account/recover")
    async def recover(body: Recover) -> dict[str, Any]:
        return {"device": await node.recovery.recover(body.words, body.addresses)}

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

    @app.get("/api/audit")
    async def get_audit(after: int = Query(default=0, ge=0), limit: int = Query(default=1000, ge=1, le=20_000)) -> Any:
        found = islice(node.audit.records(after), limit)
        return [{"number": r.number, "time_ms": r.time_ms, "kind": r.kind, "text": r.text} for r in found]

    @app.get("/api/audit/verify")
    async def verify_audit() -> dict[str, Any]:
        fault = node.audit.fault()
        return {"whole": fault is None, "fault": fault}

    @app.patch("/api/devices/{device}")
    async def rename_device(device: str, body: Rename) -> dict[str, Any]:
        return shown(node.membership.rename(device, body.name))

    @app.post("/api/devices/{device}/revoke")
    async def revoke_device(device: str, body: Revoke) -> dict[str, Any]:
        return shown(node.membership.revoke(device, erase=body.erase))
