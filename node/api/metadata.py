"""The API's route to what of modes and extended attributes a folder keeps on this device."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from shoal.node.daemon import Node
from shoal.node.folder.metadata import Modes, Policy
from shoal.node.runtime import FolderRuntime


class SetMetadata(BaseModel):
    """What is None stays as it is."""

    modes: Modes | None = None
    attributes: bool | None = None


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    @app.get("/api/folders/{name}/metadata")
    async def get_metadata(name: str) -> dict[str, Any]:
        return _view(node.folder_named(name))

    @app.post("/api/folders/{name}/metadata")
    async def set_metadata(name: str, body: SetMetadata) -> dict[str, Any]:
        folder = node.folder_named(name)
        now = folder.engine.metadata.policy
        modes = now.modes if body.modes is None else body.modes
        attributes = now.attributes if body.attributes is None else body.attributes
        folder.engine.metadata.set(Policy(modes, attributes))
        return _view(folder)


def _view(folder: FolderRuntime) -> dict[str, Any]:
    policy = folder.engine.metadata.policy
    return {"name": folder.entry.name, "modes": policy.modes, "attributes": policy.attributes}
