"""What a file has here beside its bytes of what the others say: permissions and extended attributes, by policy.

What a device does not keep, or its disk cannot hold, it does not take from others either: its edits carry on what the
version before had.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import cbor2

from shoal.crdt.model import Attributes, Content, DirContent, FileContent, FolderId
from shoal.node.store import Staging

Modes = Literal["all", "exec", "none"]
MODES: tuple[Modes, ...] = get_args(Modes)

FILE_MODE, DIR_MODE, EXEC = 0o644, 0o755, 0o111  # of what says nothing of its own


@dataclass(frozen=True, slots=True)
class Policy:
    """`modes`: of the permissions all are kept, whether a file may be executed, or nothing; `attributes`: whether the
    extended ones of users (`user.*`) are."""

    modes: Modes = "all"
    attributes: bool = True


class Metadata:
    """A folder's policy on this device, kept in its store under `meta`: folder + b"metadata"."""

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        self._staging = staging
        self._key = folder + b"metadata"
        stored = staging.get("meta", self._key)
        self.policy = Policy(*cbor2.loads(stored)) if stored is not None else Policy()

    def set(self, policy: Policy) -> None:
        """Go by this from now on: for what changes, here or elsewhere."""
        self._staging.put("meta", self._key, cbor2.dumps([policy.modes, policy.attributes]))
        self._staging.commit()
        self.policy = policy

    def seen(self, found: Content, attributes: Attributes | None, base: Content | None) -> Content:
        """Return what a device says of content that it read. `attributes`: of the file, None where they cannot be told;
        `base`: the version that was there before."""
        match found:
            case FileContent(mode=mode):
                before = base if isinstance(base, FileContent) else None
                kept = attributes if self.policy.attributes else None
                if kept is None:
                    kept = before.attributes if before is not None else ()
                told = self._told(mode, before.mode if before is not None else None, FILE_MODE)
                same = told == mode and kept == found.attributes
                return found if same else replace(found, mode=told, attributes=kept)
            case DirContent(mode):
                return DirContent(self._told(mode, base.mode if isinstance(base, DirContent) else None, DIR_MODE))
        return found

    def mode_here(self, content: FileContent | DirContent) -> int:
        """Return the permissions that content gets on this disk."""
        if self.policy.modes == "all":
            return content.mode
        if isinstance(content, DirContent):
            return DIR_MODE
        return FILE_MODE | EXEC if self.policy.modes == "exec" and content.mode & 0o100 else FILE_MODE

    def attributes_here(self, content: FileContent) -> Attributes | None:
        """Return the extended attributes that content gets on this disk; None: whatever it has."""
        return content.attributes if self.policy.attributes else None

    def _told(self, found: int, before: int | None, usual: int) -> int:
        if self.policy.modes == "all":
            return found
        told = usual if before is None else before
        if self.policy.modes == "exec" and usual == FILE_MODE and bool(found & 0o100) != bool(told & 0o100):
            told = told | (told & 0o444) >> 2 if found & 0o100 else told & ~EXEC
        return told
