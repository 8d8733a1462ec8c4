"""What all commands share: which node is meant, and how results are printed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from shoal.node.cli.client import ApiClient
from shoal.node.home import Home, find_home

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


class Context:
    """What the options before the command say."""

    home: Home = find_home(None)
    account: str = ""  # of several on the node; "" for the first


def api() -> ApiClient:
    """Return the client of the chosen home's node."""
    return ApiClient(Context.home)


def emit(as_json: bool, value: Any, text: str = "") -> None:
    """Print a result."""
    print(json.dumps(value) if as_json else text)
