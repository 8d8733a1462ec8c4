"""The API's routes. Errors are problem objects (RFC 9457); every call needs the bearer token of the home.

Only requests to the address that the API listens on are answered, and none that another web page makes: the Host header
must name this machine, and an Origin, where one is sent, this API.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from shoal.node.api import (
    account,
    conflicts,
    devices,
    limits,
    metadata,
    metrics,
    network,
    one_way,
    packs,
    seeds,
    selective,
    sharing,
    users,
    versions,
    views,
)
from shoal.node.api import household as accounts
from shoal.node.api.scrub import add_scrub
from shoal.node.daemon import Node
from shoal.node.errors import UserError
from shoal.node.household import Household
from shoal.node.pairing_link import make_link
from shoal.node.store import StoreDamaged, StoreFull

MAX_BODY = 1 << 20
OPEN = ("/api/docs", "/api/openapi.json", "/api/health", "/metrics")  # without a token


class JoinPairing(BaseModel):
    """The code that another device shows."""

    code: str
    addresses: list[str] = Field(default_factory=list)


class AddFolder(BaseModel):
    """A directory to keep the same on all devices."""

    path: str
    name: str | None = Field(default=None, min_length=1, max_length=200)
    create: bool = False


class JoinFolder(BaseModel):
    """A folder of the account, and where to keep it here."""

    name: str
    path: str
    exclude: list[str] = Field(default_factory=list)
    only: list[str] = Field(default_factory=list)
    mode: str = "both"


def problem(status: int, code: str, message: str, hint: str = "", exit_code: int = 1) -> JSONResponse:
    """Return an error as a problem object."""
    title, hint = views.shown(message), views.shown(hint)
    body = {"type": f"shoal:{code}", "title": title, "status": status, "hint": hint, "exit_code": exit_code}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def make_app(node: Node, token: str, hosts: set[str], household: Household, *, is_first: bool) -> FastAPI:
    """Return the API of `node`. `hosts`: the Host headers that are answered; `household`: all accounts on this node,
    which the first one has the say over."""
    app = FastAPI(title="Shoal", docs_url="/api/docs", openapi_url="/api/openapi.json", redoc_url=None)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not length.isdigit() or int(length) > MAX_BODY:
            return problem(413, "too-large", f"a request's body has at most {MAX_BODY} bytes, and its length is given")
        if request.headers.get("host", "") not in hosts:
            return problem(421, "wrong-host", "this API answers only under its own address")
        origin = request.headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            return problem(403, "wrong-origin", "other web pages may not use this API")
        if request.url.path not in OPEN:
            given = users.bearer(request)
            known = hmac.compare_digest(given.encode(), token.encode()) or node.users.token(given) is not None
            if not known and request.url.path != users.LOG_IN:
                hint = "the node's home has one in api.token, or log in: POST /api/users/login"
                return problem(401, "unauthorized", "a bearer token that is valid is needed", hint)
        return await answer(request)

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> JSONResponse:
        return problem(error.status, error.code, error.message, error.hint, error.exit_code)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return problem(500, "internal", "a fault of Shoal's: please report it", "the daemon's log file has the details")

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, "http", str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(422, "invalid-request", f"{where}: {first['msg']}", exit_code=2)

    @app.exception_handler(UnicodeEncodeError)
    async def no_text(request: Request, error: UnicodeEncodeError) -> JSONResponse:
        return problem(400, "bad-text", f"{error.object!r} is no text that a path or a name can have", exit_code=2)

    @app.exception_handler(StoreDamaged)
    async def damaged(request: Request, error: StoreDamaged) -> JSONResponse:
        return problem(500, "store-damaged", f"the store is damaged: {error}", "stop the node and run: shoal repair", 5)

    @app.exception_handler(StoreFull)
    async def full(request: Request, error: StoreFull) -> JSONResponse:
        return problem(507, "disk-full", "the disk that holds the store is full", "free some space", 5)

    @app.get("/api/status")
    async def get_status() -> dict[str, Any]:
        return views.status(node)

    @app.get("/api/health")
    async def get_health() -> JSONResponse:
        found = metrics.health(node)
        return JSONResponse(found, status_code=200 if found["ok"] else 503)

    @app.get("/metrics")
    async def get_metrics() -> Response:
        return Response(metrics.prometheus(node), media_type="text/plain; version=0.0.4")

    @app.get("/api/peers")
    async def get_peers() -> list[dict[str, Any]]:
        return [views.device_view(node, device) for device in node.sharing.access.partners()]

    @app.post("/api/pair/offer")
    async def offer() -> dict[str, Any]:
        made = await node.pairing.offer()
        code, addresses = str(made.code), node.host.addresses()
        link = make_link(code, addresses)
        return {"code": code, "link": link, "valid_s": 600, "addresses": addresses, "after": node.events.last}

    @app.post("/api/pair/join")
    async def join(body: JoinPairing) -> dict[str, Any]:
        return {"device": await node.pairing.join(body.code, body.addresses)}

    @app.get("/api/folders")
    async def get_folders() -> list[dict[str, Any]]:
        return views.folders(node)

    @app.post("/api/folders")
    async def add_folder(body: AddFolder) -> dict[str, Any]:
        return views.folder_view(node, node.folder_add(body.path, body.name, create=body.create))

    @app.post("/api/folders/join")
    async def join_folder(body: JoinFolder) -> dict[str, Any]:
        exclude, only = selective.check_joining(body.exclude, body.only, body.path)
        mode = one_way.mode_named(body.mode)
        folder = await node.folder_join(body.name, body.path)
        if mode != "both" or not folder.replica.read_only:
            folder.engine.set_mode(mode)
        selective.choose_at_joining(folder, exclude, only)
        node.chosen()
        return views.folder_view(node, folder)

    @app.delete("/api/folders/{name}")
    async def remove_folder(name: str) -> dict[str, Any]:
        return {"removed": views.shown(node.folder_remove(name).path)}

    @app.post("/api/folders/{name}/confirm-deletes")
    async def confirm(name: str) -> dict[str, Any]:
        return {"deleted": node.folder_named(name).engine.confirm_deletes()}

    app.include_router(conflicts.router(node))

    @app.post("/api/scan")
    async def scan(name: str | None = None) -> dict[str, Any]:
        chosen = [node.folder_named(name)] if name is not None else list(node.folders.values())
        for folder in chosen:
            await folder.engine.scan()
        return {"scanned": [folder.entry.name for folder in chosen]}

    add_scrub(app, node)

    @app.get("/api/events")
    async def events(after: int = 0, follow: bool = True) -> Response:
        if not follow:
            return JSONResponse([_event(event) for event in node.events.since(after)])

        async def stream() -> AsyncIterator[str]:
            async for event in node.events.follow(after):
                yield f"id: {event.number}\ndata: {json.dumps(_event(event))}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    versions.add_routes(app, node)
    metadata.add_routes(app, node)
    selective.add_routes(app, node)
    one_way.add_routes(app, node)
    limits.add_routes(app, node)
    devices.add_routes(app, node)
    account.add_routes(app, node)
    sharing.add_routes(app, node)
    network.add_routes(app, node)
    seeds.add_routes(app, node)
    packs.add_routes(app, node)
    users.add_routes(app, node, household)
    if is_first:
        accounts.add_routes(app, household)

    @app.post("/api/shutdown")
    async def shutdown() -> JSONResponse:
        return JSONResponse({"stopping": True}, background=BackgroundTask(_set, node.stopping))

    return app


async def _set(event: trio.Event) -> None:
    event.set()


def _event(event: Any) -> dict[str, Any]:
    return {
        "number": event.number,
        "time_ms": event.time_ms,
        "kind": event.kind,
        "text": views.shown(event.text),
        "detail": event.detail,
    }
