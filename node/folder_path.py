"""Whether a path can become a synced folder; if not, what is wrong with it and what to do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from shoal.node.errors import UserError
from shoal.node.folder.local import PRIVATE

MAX_NAME = 200


def check_folder_name(name: str) -> str:
    """Return the name, if a folder can have it: people type it, and see it in a line. Raises UserError."""
    if not name.strip() or len(name) > MAX_NAME or "/" in name or not name.isprintable():
        raise UserError(
            "bad-name",
            f"{name[:MAX_NAME]!r} cannot be a folder's name",
            f"choose one of 1 to {MAX_NAME} printable characters without '/': --name NAME",
            status=400,
        )
    return name


def check_folder_path(text: str, others: Iterable[str], home: Path, *, create: bool) -> str:
    """Return the real path of a folder to sync; with `create` it is made when it is not there. `home`: the node's own.

    Raises UserError.
    """
    try:
        path = os.path.realpath(os.path.expanduser(text))
    except ValueError:  # a NUL, or text that no path can be
        raise UserError("bad-path", f"{text!r} cannot be a path", "give the path of a folder", status=400) from None
    if home.resolve().is_relative_to(path) or Path(path).is_relative_to(home.resolve()):
        raise UserError(
            "folder-with-home",
            f"{path} is, holds or is inside of Shoal's own home {home}",
            "choose a folder outside of it, or another --home",
        )
    for other in others:
        if path == other:
            raise UserError("folder-exists", f"{path} is synced already", "see: shoal folder list")
        if Path(path).is_relative_to(other):
            raise UserError(
                "folder-nested", f"{path} is inside {other}, which is synced", "choose a folder outside of it"
            )
        if Path(other).is_relative_to(path):
            raise UserError("folder-nested", f"{other}, which is synced, is inside {path}", "choose another folder")
    if PRIVATE in Path(path).parts:
        raise UserError("folder-private", f"{path} is inside a folder's {PRIVATE}", "choose another folder", status=400)
    if not os.path.lexists(path) and create and os.path.isdir(os.path.dirname(path)):
        try:
            os.mkdir(path)
        except OSError as error:
            raise UserError(
                "folder-unusable", f"cannot make {path}: {error.strerror}", "choose another place"
            ) from error
    if not os.path.lexists(path):
        raise UserError("folder-missing", f"there is no folder {path}", f"make it first: mkdir -p {path}", status=400)
    if not os.path.isdir(path):
        raise UserError("folder-not-a-folder", f"{path} is not a folder", "give the path of a folder", status=400)
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            "folder-not-writable", f"cannot write in {path}: {error.strerror}", "check its owner and permissions"
        ) from error
    return path
