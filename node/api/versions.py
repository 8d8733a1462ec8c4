"""The API's routes to the past: history, restore, undo, and how long versions are kept."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from shoal.node.api.views import shown
from shoal.node.daemon import Node, now_ms
from shoal.node.folder.retention import Policy
from shoal.node.history import Event, size_of
from shoal.node.restore import Restored
from shoal.node.runtime import FolderRuntime
from shoal.node.versions import Versions, locate

HERE_AT_MOST = 100  # versions of one answer that are looked for on this disk


class Restore(BaseModel):
    """What is to be brought back. `at_ms`: Unix milliseconds; `to`: an absolute path in place of where it was."""

    path: str
    version: str | None = Field(default=None, min_length=1, max_length=24)
    at_ms: int | None = None
    to: str | None = None
    exact: bool = False


class Undo(BaseModel):
    """Where what was deleted last is to be brought back."""

    path: str
    dry_run: bool = False


class KeepVersions(BaseModel):
    """How long versions are kept; what is None stays as it is. `space`: bytes, 0 for a tenth of the disk."""

    all_days: float | None = Field(default=None, ge=0, le=100_000)
    daily_days: float | None = Field(default=None, ge=0, le=100_000)
    space: int | None = Field(default=None, ge=0)


def add_routes(app: FastAPI, node: Node) -> None:
    """Have the API answer for the past."""

    def versions(folder: FolderRuntime) -> Versions:
        return Versions(folder, now_ms, lambda: bool(node.sessions))

    @app.get("/api/history")
    async def history(request: Request, path: str, limit: int = 50, deleted: bool = False) -> list[dict[str, Any]]:
        folder, inside = locate(node.folders.values(), _named_path(request) or path)
        past = versions(folder)
        events = [e for e in await past.history(inside) if not deleted or e.act == "deleted"]
        if deleted:
            events = [event for event in events if folder.replica.view(event.node) is None]
        found = events[: max(0, limit)]
        return [_event(node, past, event, number < HERE_AT_MOST) for number, event in enumerate(found)]

    @app.post("/api/restore")
    async def restore(body: Restore) -> dict[str, Any]:
        folder, inside = locate(node.folders.values(), body.path)
        if body.to is not None:
            node.check_reachable(body.to)
        done = await versions(folder).restore(inside, body.version, body.at_ms, body.to, exact=body.exact)
        _tell(node, folder, done)
        return _restored(done)

    @app.post("/api/undo")
    async def undo(body: Undo) -> dict[str, Any]:
        folder, inside = locate(node.folders.values(), body.path)
        past = versions(folder)
        gone, done = await past.undo(inside, dry_run=body.dry_run)
        _tell(node, folder, done)
        return {"deleted": [_event(node, past, event, False) for event in gone], **_restored(done)}

    @app.get("/api/folders/{name}/versions")
    async def get_policy(name: str) -> dict[str, Any]:
        return _policy(node.folder_named(name))

    @app.post("/api/folders/{name}/versions")
    async def set_policy(name: str, body: KeepVersions) -> dict[str, Any]:
        keeper = node.folder_named(name).engine.keeper
        now = keeper.policy
        keeper.set_policy(
            Policy(
                now.all_days if body.all_days is None else body.all_days,
                now.daily_days if body.daily_days is None else body.daily_days,
                now.space if body.space is None else body.space or None,
            )
        )
        return _policy(node.folder_named(name))


def _named_path(request: Request) -> str:
    """Return the query's path with bytes that are not UTF-8 as they were given: the framework's own is without them."""
    query: str = request.scope["query_string"].decode("ascii", "surrogateescape")
    return dict(parse_qsl(query, errors="surrogateescape")).get("path", "")


def _policy(folder: FolderRuntime) -> dict[str, Any]:
    keeper = folder.engine.keeper
    policy = keeper.policy
    return {
        "name": folder.entry.name,
        "all_days": policy.all_days,
        "daily_days": policy.daily_days,
        "space": policy.space,
        "used": keeper.bytes,
    }


def _event(node: Node, past: Versions, event: Event, look: bool) -> dict[str, Any]:
    has_bytes = event.version is not None and event.version.content is not None
    return {
        "path": shown(event.path),
        "was": shown(event.was),
        "act": event.act,
        "time_ms": event.time_ms,
        "device": node.account.devices().get(event.device, "a device that left"),
        "version": event.version.id.hex() if has_bytes and event.version is not None else None,
        "size": size_of(event.version),
        "current": past.is_current(event),
        "here": past.is_here(event.version) if look and event.version is not None and has_bytes else None,
    }


def _restored(done: Restored) -> dict[str, Any]:
    return {
        "restored": [shown(path) for path in done.paths],
        "lacking": [shown(path) for path in done.lacking],
        "removed": [shown(path) for path in done.removed],
    }


def _tell(node: Node, folder: FolderRuntime, done: Restored) -> None:
    if done.paths or done.removed:
        text = f"{folder.entry.name}: {len(done.paths)} files and folders of before are back"
        node.events.add("restored", text + (f", {len(done.removed)} newer ones went" if done.removed else ""))
