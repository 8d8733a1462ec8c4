"""Pieces in a bucket of a server that speaks S3, for who outgrows one machine.

    s3://BUCKET/PREFIX?endpoint=http://127.0.0.1:9000&region=eu-west-1

The place and its keys are in the file `packs.json` of the home, which only its owner may read. They are never shown.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import trio

from shoal.node.errors import UserError
from shoal.node.packs.backend import PACKS, Backend, BackendFailed, LocalFiles, Missing
from shoal.node.private import write_private

T = TypeVar("T")

SETTINGS = "packs.json"
TIMEOUT = "60s"  # of one request
GIVES_UP = timedelta(seconds=30)  # after which what failed is not tried again
RETRIES = 3
AT_ONCE = 8  # requests


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where a bucket is, and the keys to it."""

    url: str
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)


def read_settings(home: Path) -> BucketSettings | None:
    """Return what a home says of its bucket; None where it has none. Raises BackendFailed."""
    try:
        data = (home / SETTINGS).read_text()
    except FileNotFoundError:
        return None
    try:
        return BucketSettings(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise BackendFailed(
            f"{home / SETTINGS} makes no sense: set the bucket again with shoal offer --store"
        ) from error


def write_settings(home: Path, settings: BucketSettings | None) -> None:
    """Have a home keep its pieces there from the next start on; None: in its own files. Raises OSError."""
    if settings is None:
        (home / SETTINGS).unlink(missing_ok=True)
    else:
        write_private(home / SETTINGS, json.dumps(asdict(settings)).encode())


class Bucket:
    """A `Backend` in a bucket."""

    def __init__(self, settings: BucketSettings, device: bytes = b"") -> None:
        """`device`: whose pieces they are, as several may share a bucket. Raises BackendFailed for an address that is
        none."""
        parts = urlsplit(settings.url)
        if "@" in settings.url:
            raise BackendFailed("keys do not belong into a bucket's address: set AWS_ACCESS_KEY_ID and the like")
        if parts.scheme != "s3" or not parts.netloc:
            raise BackendFailed(f"{settings.url!r} is no bucket: s3://BUCKET/PREFIX?endpoint=URL&region=NAME")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._name = f"s3://{parts.netloc}{parts.path}"
        endpoint = query.get("endpoint", "")
        import obstore.store  # here: few have a bucket

        options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        try:
            self._store = obstore.store.S3Store(
                parts.netloc,
                prefix="/".join(each for each in (parts.path.strip("/"), device.hex()[:16]) if each) or None,
                region=query.get("region", "us-east-1"),
                access_key_id=settings.key,
                secret_access_key=settings.secret,
                virtual_hosted_style_request=False,
                client_options={"allow_http": endpoint.startswith("http:"), "timeout": TIMEOUT},
                retry_config={"max_retries": RETRIES, "retry_timeout": GIVES_UP},
                **options,
            )
        except Exception as error:  # it has several, of any kind
            raise BackendFailed(f"{self._name}: {_first_line(error)}") from None
        self._limit = trio.CapacityLimiter(AT_ONCE)

    async def put(self, name: str, data: bytes) -> None:
        import obstore

        await self._call(lambda: obstore.put(self._store, name, data))

    async def read(self, name: str, offset: int, length: int) -> bytes:
        import obstore

        if not length:
            return b""
        try:
            return await self._call(
                lambda: bytes(obstore.get_range(self._store, name, start=offset, length=length)), is_read=True
            )
        except FileNotFoundError:
            raise Missing(name) from None
        except EOFError:
            return b""

    async def remove(self, name: str) -> None:
        import obstore

        await self._call(lambda: obstore.delete(self._store, name))

    async def names(self) -> list[tuple[str, int]]:
        import obstore

        return await self._call(
            lambda: [(str(each["path"]), int(each["size"])) for batch in obstore.list(self._store) for each in batch]
        )

    def free(self) -> int | None:
        return None

    async def check(self) -> None:
        """See whether it can be written, read and removed from. Raises BackendFailed."""
        name, data = f"probe-{secrets.token_hex(8)}", secrets.token_bytes(16)
        await self.put(name, data)
        try:
            if await self.read(name, 0, len(data)) != data:
                raise BackendFailed(f"{self._name} does not give back what was written")
        except Missing:
            raise BackendFailed(f"{self._name} does not give back what was written") from None
        finally:
            await self.remove(name)

    async def _call(self, call: Callable[[], T], *, is_read: bool = False) -> T:
        try:
            # A server that hangs holds up nobody who stops: what was under way is looked at again at the next start.
            return await trio.to_thread.run_sync(call, limiter=self._limit, abandon_on_cancel=True)  # type: ignore[call-arg]
        except Exception as error:  # obstore has its own, and those of the system
            if isinstance(error, FileNotFoundError) and is_read and "NoSuchBucket" not in str(error):
                raise
            if is_read and "status code: 416" in str(error):  # it ends before
                raise EOFError from None
            raise BackendFailed(_reason(self._name, error)) from None


def _reason(name: str, error: Exception) -> str:
    text = str(error)
    if "NoSuchBucket" in text:
        return f"{name}: there is no such bucket; make it first"
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError", "PermissionError"):
        return f"{name}: the keys are not allowed to; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if "error sending request" in text or "onnect" in text:
        return f"{name}: the server cannot be reached; check the endpoint"
    return f"{name}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def backend_of(home: Path, device: bytes) -> Backend:
    """Return where the pieces of a device are. Raises UserError."""
    try:
        settings = read_settings(home)
        return LocalFiles(home / PACKS) if settings is None else Bucket(settings, device)
    except BackendFailed as error:
        raise UserError("bad-store", str(error), "") from error
