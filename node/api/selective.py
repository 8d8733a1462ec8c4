"""The API's routes for what of a folder is kept on this device: listing it, leaving out, getting."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import trio
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from shoal.crdt.model import NodeId
from shoal.node.api import views
from shoal.node.daemon import Node
from shoal.node.errors import UserError
from shoal.node.folder.choosing import NothingThere
from shoal.node.folder.listing import Entry, Share
from shoal.node.holdings import MOST, Held
from shoal.node.runtime import FolderRuntime

LEAVES = 30.0  # seconds that a request waits for what is left out to leave


class Paths(BaseModel):
    """Paths in a folder: relative to it, or absolute on this disk."""

    paths: list[str]


def relative_path(root: str, text: str) -> str:
    """Return a path in the folder at `root` as a relative one, "" for the folder itself. Raises UserError."""
    root, text = views.shown(root), views.shown(text)
    path = os.path.normpath(text.strip("/") if not text.startswith("/") else text)
    if text.startswith("/"):
        if path != root and not path.startswith(root + "/"):
            real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            path = real if real.startswith(root + "/") else path
        if path != root and not path.startswith(root + "/"):
            raise UserError(
                "not-in-folder", f"{text} is not in the folder at {root}", "give a path in it, relative or absolute"
            )
        path = path[len(root) + 1 :]
    if path == ".." or path.startswith("../") or "\0" in path:
        raise UserError("not-in-folder", f"{text!r} leads out of the folder", "give a path in it", status=400)
    return "" if path == "." else path


def choose_at_joining(folder: FolderRuntime, exclude: Sequence[str], only: Sequence[str]) -> None:
    """Choose before anything of a folder is fetched; to be called before the folder's engine has run."""
    chooser = folder.engine.chooser
    if only:
        chooser.choose_path("", wanted=False)
    for path in only:
        chooser.choose_path(path, wanted=True)
    for path in exclude:
        chooser.choose_path(path, wanted=False)


def check_joining(exclude: Sequence[str], only: Sequence[str], path: str) -> tuple[list[str], list[str]]:
    """Return the paths to leave out, and those to have alone, relative. Raises UserError."""
    root = os.path.realpath(path)
    found = [[relative_path(root, text) for text in texts] for texts in (exclude, only)]
    if "" in found[0] or "" in found[1]:
        raise UserError("bad-path", "the folder itself cannot be left out or chosen", "name what is in it", status=400)
    return found[0], found[1]


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    def find(folder: FolderRuntime, text: str) -> NodeId:
        path = relative_path(folder.engine.root, text)
        try:
            return folder.engine.chooser.find(path)
        except NothingThere as error:
            raise UserError(
                "no-such-path",
                f"{folder.entry.name} has nothing at {error}",
                f"see what it has: shoal ls {folder.entry.name}",
                status=404,
            ) from error

    @app.get("/api/folders/{name}/left-out")
    async def left_out(name: str) -> dict[str, Any]:
        return _choices(node.folder_named(name))

    @app.post("/api/folders/{name}/exclude")
    async def exclude(name: str, body: Paths) -> dict[str, Any]:
        folder = node.folder_named(name)
        engine = folder.engine
        removed = engine.leaver.removed
        if any(relative_path(engine.root, text) == "" for text in body.paths):
            hint = (
                f"name what is in it; or to stop keeping it here: shoal folder remove {shlex.quote(folder.entry.name)}"
            )
            raise UserError("bad-path", "the folder itself cannot be left out", hint, status=400)
        for chosen in [find(folder, text) for text in body.paths]:
            engine.chooser.choose(chosen, wanted=False)
        node.chosen()
        if engine.state().status != "stopped":
            passed = engine.leaver.hurry()
            engine.wake()
            with trio.move_on_after(LEAVES):
                await passed.wait()
        return _choices(folder) | {"removed": engine.leaver.removed - removed, "kept": engine.leaver.kept}

    @app.post("/api/folders/{name}/include")
    async def include(name: str, body: Paths) -> dict[str, Any]:
        folder = node.folder_named(name)
        for path in [relative_path(folder.engine.root, text) for text in body.paths]:
            if path in folder.engine.selection.wishes:
                folder.engine.chooser.end_wish(path)
                continue
            chosen = find(folder, path)
            part = node.subfolders.part_at(folder, chosen)
            if part is not None:
                hint = f"keep it: shoal folder join {shlex.quote(part.name)} PATH"
                raise UserError("own-folder", f"that is a folder of its own now, {part.name!r}", hint)
            folder.engine.chooser.choose(chosen, wanted=True)
        node.chosen()
        return _choices(folder)

    @app.get("/api/folders/{name}/tree")
    async def tree(name: str, path: str = "", recursive: bool = False) -> StreamingResponse:
        """One JSON object a line."""
        folder = node.folder_named(name)
        top = find(folder, path)

        async def lines() -> AsyncIterator[str]:
            entries = folder.lister.entries(top, folder.engine.chooser.path(top) or "", deep=recursive)
            while part := list(islice(entries, 200)):
                yield "".join(json.dumps(_entry(entry)) + "\n" for entry in part)
                await trio.lowlevel.checkpoint()

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.get("/api/folders/{name}/here")
    async def here(name: str, path: str = "", ask: bool = False) -> dict[str, Any]:
        """How much of what is wanted of a path is here; with `ask`, whether any device there is has more of it."""
        folder = node.folder_named(name)
        top = find(folder, path)
        share = Share()
        lacking: list[Held] = []
        done = True
        for count, (view, is_here) in enumerate(folder.lister.wanted(top), 1):
            done = done and is_here
            if view.kind == "file":
                share = share.plus(getattr(view.version.content, "size", 0), is_here)
            if view.kind == "file" and not is_here and len(lacking) < MOST:
                lacking.append((view.id, view.version.id))
            if count % 200 == 0:
                await trio.lowlevel.checkpoint()
        held = any(await node.attesting.held_elsewhere(folder.entry.id, lacking)) if ask and lacking else None
        return {**asdict(share), "done": done, "held_elsewhere": held}


def _choices(folder: FolderRuntime) -> dict[str, Any]:
    found = sorted(views.shown(path) for path in folder.engine.chooser.left_out_paths())
    return {"name": folder.entry.name, "left_out": found}


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "path": views.shown(entry.path),
        "kind": entry.kind,
        "size": entry.size,
        "mtime_ms": entry.mtime_ns // 1_000_000,
        "state": entry.state,
    }
