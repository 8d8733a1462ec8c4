"""Routes of the API for reading a folder's files through."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from shoal.node.api import views
from shoal.node.daemon import Node
from shoal.node.errors import UserError
from shoal.node.runtime import FolderRuntime


class Scrub(BaseModel):
    """How a folder is read through. `repair`: the right bytes of damaged files are fetched."""

    repair: bool = False


def add_scrub(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    @app.post("/api/folders/{name}/scrub")
    async def begin(name: str, body: Scrub) -> dict[str, Any]:
        folder = node.folder_named(name)
        state = folder.engine.state()
        if state.status == "stopped":
            raise UserError("folder-stopped", f"{name!r} is stopped: {state.reason}", "see: shoal status", status=409)
        if not folder.engine.scrub.ask(repair=body.repair):
            raise UserError("scrub-running", f"{name!r} is being read through already", "wait for it", status=409)
        return _progress(folder)

    @app.get("/api/folders/{name}/scrub")
    async def progress(name: str) -> dict[str, Any]:
        return _progress(node.folder_named(name))

    @app.delete("/api/folders/{name}/scrub")
    async def cancel(name: str) -> dict[str, Any]:
        folder = node.folder_named(name)
        return {"cancelled": folder.engine.scrub.cancel()}


def _progress(folder: FolderRuntime) -> dict[str, Any]:
    found = folder.engine.scrub.progress()
    return {
        "name": folder.entry.name,
        "running": found.running,
        "items": found.items,
        "files": found.files,
        "bytes": found.bytes,
        "skipped": found.skipped,
        "damaged": [views.shown(path) for path in found.damaged],
        "repaired": [views.shown(path) for path in found.repaired],
    }
