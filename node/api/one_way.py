"""The API's routes for folders that go one way on this device."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from shoal.node.api import views
from shoal.node.daemon import Node
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.folder.one_way import MODES, Mode, first
from shoal.node.runtime import FolderRuntime


class SetMode(BaseModel):
    """How a folder goes on this device."""

    mode: str


def mode_named(text: str) -> Mode:
    """Return the mode of that name. Raises UserError."""
    for mode in MODES:
        if mode == text:
            return mode
    raise UserError("bad-mode", f"{text!r} is no mode", f"choose one of {', '.join(MODES)}", EXIT_USAGE, 400)


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    def one_way(name: str, mode: Mode, what: str) -> FolderRuntime:
        folder = node.folder_named(name)
        if folder.engine.one_way.mode != mode:
            raise UserError(
                "wrong-mode",
                f"{what} is for a folder that is {mode} here; {name} is {folder.engine.one_way.mode}",
                f"shoal folder mode {name} {mode}",
            )
        if folder.engine.state().status == "stopped":
            raise UserError("folder-stopped", folder.engine.state().reason, "see: shoal status")
        return folder

    @app.post("/api/folders/{name}/mode")
    async def set_mode(name: str, body: SetMode) -> dict[str, Any]:
        folder, mode = node.folder_named(name), mode_named(body.mode)
        folder.engine.set_mode(mode)
        node.chosen()
        return {"name": name, "mode": mode}

    @app.get("/api/folders/{name}/changes")
    async def changes(name: str) -> dict[str, Any]:
        engine = node.folder_named(name).engine
        local = engine.one_way.local
        kept_out = (engine.chooser.path(each) or engine.index.path(each) for each in engine.one_way.aside)
        paths = first(path for path in kept_out if path) if engine.one_way.mode == "send-only" else []
        return {
            "mode": engine.one_way.mode,
            "local": [{"path": views.shown(path), "change": local[path].kind} for path in first(local)],
            "not_applied": [views.shown(path) for path in paths],
        }

    @app.post("/api/folders/{name}/revert")
    async def revert(name: str) -> dict[str, Any]:
        return {"reverted": await one_way(name, "receive-only", "revert").engine.revert()}

    @app.post("/api/folders/{name}/override")
    async def override(name: str) -> dict[str, Any]:
        return {"overridden": await one_way(name, "send-only", "override").engine.override()}
