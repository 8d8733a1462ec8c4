"""The API's routes about conflicts. Paths are absolute and percent-encoded, as in a file URI: not all are UTF-8."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter
from pydantic import BaseModel

from shoal.node import conflicts
from shoal.node.api.views import shown
from shoal.node.conflicts import Competing, Conflict
from shoal.node.daemon import Node
from shoal.node.errors import EXIT_USAGE, UserError


class Resolution(BaseModel):
    """The path of the file or of a copy of it; what to keep: mine, theirs, both, or a copy's short id or name; and the
    path that this word is, where it may be a file."""

    path: str
    keep: str
    keep_path: str = ""


def router(node: Node) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/api/conflicts")
    async def listed() -> list[dict[str, Any]]:
        return [_view(conflict) for conflict in conflicts.conflicts(node)]

    @routes.get("/api/conflicts/versions")
    async def versions(path: str, copy: str = "", copy_path: str = "") -> dict[str, Any]:
        """The file's text, and those of its copies, or of one: side by side."""
        found, meant = conflicts.at(node, real_path(path))
        chosen = list(found.versions[1:])
        if copy:
            one = conflicts.pick(found, real_path(copy), real_path(copy_path))
            if one is None or not one.tag:
                tags = ", ".join(each.tag for each in chosen)
                raise UserError(
                    "no-such-copy", f"{found.path} has no copy {real_path(copy)!r}", f"it has {tags}", EXIT_USAGE
                )
            chosen = [one]
        elif meant.tag:
            chosen = [meant]
        shown_ones = [found.versions[0], *chosen]
        texts = await conflicts.texts(found, shown_ones)
        rows = [{**_version(each), "text": text} for each, text in zip(shown_ones, texts, strict=True)]
        return {"path": shown(found.path), "folder": found.folder.entry.name, "versions": rows}

    @routes.post("/api/conflicts/resolve")
    async def resolve(body: Resolution) -> dict[str, Any]:
        made = await conflicts.resolve(node, real_path(body.path), real_path(body.keep), real_path(body.keep_path))
        return {"resolved": True, "paths": [shown(path) for path in made]}

    return routes


def real_path(given: str) -> str:
    """Return the path that a request names."""
    return os.fsdecode(unquote_to_bytes(given))


def _view(conflict: Conflict) -> dict[str, Any]:
    return {
        "folder": conflict.folder.entry.name,
        "path": shown(conflict.path),
        "versions": [{**_version(each), "mine": each is conflict.mine} for each in conflict.versions],
    }


def _version(each: Competing) -> dict[str, Any]:
    return {
        "id": each.tag,
        "name": shown(each.name),
        "path": shown(each.path),
        "device": each.device,
        "this_device": each.is_own,
        "time_ms": each.version.time_ms,
        "size": conflicts.size_of(each.version.content),
        "here": each.here,
    }
