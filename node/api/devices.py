"""The API's routes for the devices of the account, and for the audit log."""

from __future__ import annotations

from itertools import islice
from typing import Any

from fastapi import FastAPI, Query
from pydantic import BaseModel

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt.model import DeviceId
from shoal.node.daemon import Node


class Rename(BaseModel):
    """A device's new name."""

    name: str


class Revoke(BaseModel):
    """`erase`: whether the device is to erase its copies when it next connects."""

    erase: bool = False


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
