"""The CLI's side of the local API, with the standard library alone: the CLI must start quickly."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from shoal.node.errors import EXIT_FAILED, EXIT_NOT_RUNNING, EXIT_STORE, UserError
from shoal.node.home import Home


def folder_route(name: str, what: str = "") -> str:
    """Return where the API has the folder `name`, or `what` of it."""
    return f"/api/folders/{quote(name, safe='')}" + (f"/{what}" if what else "")


def with_query(path: str, /, **values: str | int | bool) -> str:
    """Return `path` with a query. Bytes of a file's name that are not UTF-8 go as they are."""
    return f"{path}?{urlencode(values, quote_via=quote, errors='surrogateescape')}"


class ApiClient:
    """Calls the daemon of a home. Every method raises UserError."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def is_running(self) -> bool:
        """Return whether the daemon answers."""
        try:
            self.get("/api/folders")
        except UserError:
            return False
        return True

    def get(self, path: str, timeout: float = 60) -> Any:
        """Return what the API says at `path`."""
        return self._call("GET", path, None, timeout)

    def post(self, path: str, body: dict[str, Any] | None = None, timeout: float = 600) -> Any:
        """Have the API do something."""
        return self._call("POST", path, body or {}, timeout)

    def put(self, path: str, body: dict[str, Any]) -> Any:
        """Have the API keep something."""
        return self._call("PUT", path, body, 60)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Have the API change something."""
        return self._call("PATCH", path, body, 60)

    def delete(self, path: str) -> Any:
        """Have the API remove something."""
        return self._call("DELETE", path, None, 60)

    def lines(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the objects that the API says at `path`, one a line, as they come."""
        connection, response = self._open("GET", path, None, 600)
        try:
            for line in response:
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise self._not_running() from error
        finally:
            connection.close()

    def follow(self, after: int) -> Iterator[dict[str, Any]]:
        """Yield events as they come."""
        connection, response = self._open("GET", f"/api/events?after={after}", None, None)
        try:
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> Any:
        connection, response = self._open(method, path, body, timeout)
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._not_running() from error
        finally:
            connection.close()
        return json.loads(data) if data else None

    def _open(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        try:
            address = self._home.api.read_text().strip()
            token = self._home.token.read_text().strip()
        except OSError as error:
            raise self._not_running() from error
        connection = http.client.HTTPConnection(address, timeout=timeout)
        headers = {"Authorization": f"Bearer {token}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        try:
            connection.request(method, quote(path, safe="/?=&%"), data, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._not_running() from error
        if response.status >= 400:
            raw = response.read()
            connection.close()
            raise _user_error(response.status, raw)
        return connection, response

    def _not_running(self) -> UserError:
        with contextlib.suppress(OSError):
            return UserError("node-failed", f"the node stopped: {self._home.fault.read_text()}", "", EXIT_STORE)
        return UserError(
            "not-running", f"no node is running with the home {self._home.path}", "start it: shoal up", EXIT_NOT_RUNNING
        )


def _user_error(status: int, raw: bytes) -> UserError:
    try:
        problem = json.loads(raw)
        code = str(problem["type"]).removeprefix("shoal:")
        return UserError(code, problem["title"], problem.get("hint", ""), int(problem.get("exit_code", EXIT_FAILED)))
    except (ValueError, KeyError, TypeError):
        return UserError("api", f"the node answered with status {status}", "see shoal log and the daemon's log file")
