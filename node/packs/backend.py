"""Where a holder keeps the bytes of pieces: a folder of its home, or a bucket of a server that speaks S3.

A part of a pack has a name of folder id, pack id and number, and is written once. A back end is durable: what `put`
returned for is there after a power loss.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import trio

from shoal.node.store import StoreFull

PACKS = "packs"
TEMPORARY = ".tmp"


class Missing(Exception):
    """No such piece is there."""


class BackendFailed(Exception):
    """The back end does not work; the message says why, and what to do."""


def piece_name(folder: bytes, pack: bytes, part: int) -> str:
    """Return what a part is called: FF..FF/PP/PP..PP.N."""
    return f"{folder.hex()}/{pack.hex()[:2]}/{pack.hex()}.{part}"


def parse_name(name: str) -> tuple[bytes, bytes, int] | None:
    """Return folder, pack and part of a name; None for what is none."""
    folder, _, rest = name.partition("/")
    _, _, last = rest.partition("/")
    pack, _, part = last.partition(".")
    try:
        found = bytes.fromhex(folder), bytes.fromhex(pack), int(part)
    except ValueError:
        return None
    return found if piece_name(*found) == name else None


class Backend(Protocol):
    """Each method raises BackendFailed."""

    async def put(self, name: str, data: bytes) -> None:
        """Keep a piece, durably; the whole or nothing. Raises StoreFull."""
        ...

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """Return bytes of a part; fewer, or none, where it ends before. Raises Missing."""
        ...

    async def remove(self, name: str) -> None:
        """Keep a piece no more; no error where there is none."""
        ...

    async def names(self) -> list[tuple[str, int]]:
        """Return all that is kept, with its size."""
        ...

    def free(self) -> int | None:
        """Return how many bytes there is room for; None where nobody says."""
        ...


class LocalFiles:
    """Pieces in files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, data: bytes) -> None:
        await trio.to_thread.run_sync(self._put, name, data)

    async def read(self, name: str, offset: int, length: int) -> bytes:
        return await trio.to_thread.run_sync(self._read, name, offset, length)

    async def remove(self, name: str) -> None:
        await trio.to_thread.run_sync(self._remove, name)

    async def names(self) -> list[tuple[str, int]]:
        return await trio.to_thread.run_sync(lambda: list(self._names()))

    def free(self) -> int | None:
        at = self._root if self._root.exists() else self._root.parent
        status = os.statvfs(at)
        return status.f_bavail * status.f_frsize

    def _put(self, name: str, data: bytes) -> None:
        path = self._root / name
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
        try:
            self._make(path.parent)
            try:
                with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.rename(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            _sync(path.parent)
        except OSError as error:
            raise _as_failure(error, self._root) from error

    def _make(self, folder: Path) -> None:
        """Have a folder be there for its owner alone, durably."""
        if not folder.is_dir():
            if folder != self._root:
                self._make(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync(folder.parent)

    def _read(self, name: str, offset: int, length: int) -> bytes:
        try:
            with open(self._root / name, "rb") as file:
                return os.pread(file.fileno(), length, offset)
        except FileNotFoundError:
            raise Missing(name) from None
        except OSError as error:
            if error.errno == errno.EIO:  # a bad sector: the bytes are gone, and the disk works
                raise Missing(name) from error
            raise _as_failure(error, self._root) from error

    def _remove(self, name: str) -> None:
        try:
            (self._root / name).unlink(missing_ok=True)
        except OSError as error:
            raise _as_failure(error, self._root) from error

    def _names(self) -> Iterator[tuple[str, int]]:
        for path in self._root.rglob("*") if self._root.exists() else ():
            if path.name.endswith(TEMPORARY):
                path.unlink(missing_ok=True)
            elif path.is_file():
                yield str(path.relative_to(self._root)), path.stat().st_size


def _as_failure(error: OSError, root: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"the disk of {root} is full")
    return BackendFailed(f"{root}: {error.strerror}; check that it is there, and its owner and permissions")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
