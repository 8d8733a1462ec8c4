"""The system calls that the folder engine makes, a method each: so that a simulated disk can stand in for a real one.

Paths are absolute. Errors are OSError, with the number that the kernel gives. Nothing here follows a symbolic link in
the last part of a path, but `real_path`; nor, below the folder's root, in any part of it, whenever it came there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

from shoal.crdt.model import Attributes
from shoal.node.folder.signature import Signature

How = Literal["read", "write", "look", "folder"]
"""How a file is opened: `write` makes it when it is not there, mode 0600; `look` needs no permission, and reads
nothing; `folder` is for syncing the names in one."""


class OpenFile(Protocol):
    """What was opened: it stays the same whatever becomes of its name."""

    def stat(self) -> Signature:
        """Return its signature."""
        ...

    def mark(self) -> tuple[int, int, int]:
        """Return size, mtime and ctime."""
        ...

    def read(self, length: int, offset: int) -> bytes:
        """Return the bytes that are there, fewer at the end."""
        ...

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill the view; return how many bytes there were."""
        ...

    def next_data(self, offset: int) -> int:
        """Return where the next byte is that is in no hole, from `offset` on; the file's size when there is none."""
        ...

    def write(self, data: bytes | memoryview, offset: int, *, passing: bool = False) -> int:
        """Write; return how many bytes were. `passing`: it need not stay in memory when it is on the disk."""
        ...

    def truncate(self, size: int) -> None:
        """Cut it, or let it grow by zeros."""
        ...

    def clone_of(self, other: OpenFile) -> bool:
        """Have all that another file of this file system holds, by sharing its blocks; return whether that can be
        done here. Nothing may be in it."""
        ...

    def chmod(self, mode: int) -> None:
        """Set its mode."""
        ...

    def set_time(self, mtime_ns: int) -> None:
        """Set when it was changed."""
        ...

    def attributes(self) -> Attributes | None:
        """Return the extended attributes of users; None where the file system has none, or they are too many."""
        ...

    def set_attributes(self, wanted: Attributes) -> None:
        """Have it have exactly these extended attributes of users, as far as the file system has any."""
        ...

    def sync(self) -> None:
        """Make it durable; of a folder: the names in it."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class FileSystem(Protocol):
    """The disk."""

    def held(self) -> AbstractContextManager[None]:
        """Within it, each directory is looked up once: for a group of calls that rename no folders, in one thread."""
        ...

    def open(self, path: str, how: How) -> OpenFile:
        """Open a file or folder."""
        ...

    def lstat(self, path: str) -> Signature:
        """Return the signature of what has the name."""
        ...

    def scan(self, path: str) -> list[tuple[str, Signature]]:
        """Return the names in a folder, with their signatures; in any order."""
        ...

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, as they are spelt there; in any order."""
        ...

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make a folder."""
        ...

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name."""
        ...

    def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        ...

    def symlink(self, text: str, path: str) -> None:
        """Make a symbolic link."""
        ...

    def readlink(self, path: str) -> str:
        """Return what a symbolic link says."""
        ...

    def set_link_time(self, path: str, mtime_ns: int) -> None:
        """Set when a symbolic link was changed."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Rename; what had the target's name is gone then."""
        ...

    def rename_new(self, source: str, target: str) -> bool:
        """Rename to a name that is free, else FileExistsError; return False where the file system has no such call."""
        ...

    def exchange(self, one: str, other: str) -> bool:
        """Let two names swap what they name, in one step; return False where the file system has no such call."""
        ...

    def may_write(self, path: str) -> bool:
        """Return whether names in a folder may be changed."""
        ...

    def sync_all(self, path: str) -> None:
        """Make everything written to the file system that holds `path` durable."""
        ...

    def space(self, path: str) -> tuple[int, int]:
        """Return the bytes that are free, and all there are."""
        ...

    def real_path(self, path: str) -> str:
        """Return the path without any symbolic links in it."""
        ...
