"""Serving the API with Hypercorn on trio."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from shoal.node.api.app import make_app
from shoal.node.daemon import Node
from shoal.node.home import Home
from shoal.node.household import Household, dispatching
from shoal.node.private import write_private


async def serve_api(
    node: Node, bind: tuple[str, int], token: str, home: Home, mdns: bool, listen: Sequence[str]
) -> None:
    """Serve until cancelled; the address is in the home while it is served. With it run the other accounts that are on
    this node, which listen on the hosts of the addresses `listen`."""
    host, port = bind
    shown = f"[{host}]" if ":" in host else host
    await node.ready.wait()
    names = {f"{shown}:{port}", f"localhost:{port}", f"127.0.0.1:{port}"}
    config = Config()
    config.bind = [f"{shown}:{port}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("shoal.api")
    config.graceful_timeout = 0.2

    def app_of(other: Node, its_token: str) -> Any:
        return make_app(other, its_token, names, household, is_first=False)

    household = Household(node, mdns, [address.split("/")[2] for address in listen], app_of)
    first = make_app(node, token, names, household, is_first=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve, dispatching(cast(Any, first), household), config)
        write_private(home.api, f"{shown}:{port}".encode())
        nursery.start_soon(household.run)


async def _serve(app: Any, config: Config, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    await serve(app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)
