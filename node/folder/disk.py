"""The file system calls of the engine: small functions that run in threads, and never follow a symbolic link.

Paths are absolute; their parents are directories that the engine made or has seen, and `guarded` checks that no part of
a path has become a link since. What is replaced or removed is first moved to `.shoal/versions`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat as modes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shoal.crdt.model import PERMISSIONS, Content, DirContent, FileContent, LinkContent
from shoal.node.folder.local import Signature
from shoal.transfer.chunking import FileChanged, chunk_file

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Seen:
    """A name in a directory as the disk has it; `signature` None: nothing is there."""

    directory: str  # relative, "" is the root
    name: str
    signature: Signature | None

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.name}" if self.directory else self.name


def look(path: str) -> Signature | None:
    """Return the signature of what is at `path`, None when nothing is. Raises OSError for anything else."""
    try:
        return Signature.of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def look_quietly(path: str) -> Signature | None:
    """Return the signature of what is at `path`; None when nothing is, or it cannot be told."""
    try:
        return look(path)
    except OSError:
        return None


def is_same(found: Signature | None, expected: Signature) -> bool:
    """Return whether it is the same thing as before, unchanged but for its name, links and mode: those set `ctime`.

    A folder's times change with what is in it.
    """
    if found is None or (found.device, found.inode) != (expected.device, expected.inode):
        return False
    return kind_of(found) == "dir" or (found.size, found.mtime_ns) == (expected.size, expected.mtime_ns)


def list_directory(path: str) -> list[tuple[str, Signature]]:
    """Return the names in a directory and their signatures. Raises OSError."""
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                found.append((entry.name, Signature.of(entry.stat(follow_symlinks=False))))
            except FileNotFoundError:
                continue
    return found


def kind_of(signature: Signature) -> str:
    """Return "file", "dir", "link", or "other" for what cannot be synced (sockets, pipes, devices)."""
    if modes.S_ISREG(signature.mode):
        return "file"
    if modes.S_ISDIR(signature.mode):
        return "dir"
    return "link" if modes.S_ISLNK(signature.mode) else "other"


def read_content(path: str, key: bytes, expected: Signature) -> Content:
    """Read what is at `path` as content. Raises FileChanged when it is not what was `expected`, OSError."""
    mode = expected.mode & PERMISSIONS
    match kind_of(expected):
        case "dir":
            return DirContent(mode)
        case "link":
            return LinkContent(os.readlink(path), expected.mtime_ns)
        case "file":
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if Signature.of(os.fstat(fd)) != expected:
                    raise FileChanged("it changed since it was listed")
                return FileContent(expected.size, mode, expected.mtime_ns, chunk_file(fd, key))
            finally:
                os.close(fd)
    raise FileChanged("it became something that cannot be synced")


def read_piece(path: str, offset: int, length: int) -> bytes | None:
    """Return `length` bytes at `offset` of a regular file, None when they are not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.pread(fd, length, offset)
        return data if len(data) == length else None
    except OSError:
        return None
    finally:
        os.close(fd)


def write_piece(path: str, offset: int, data: bytes | memoryview) -> None:
    """Write into a temporary, made if it is not there."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, offset)
            view, offset = view[done:], offset + done
    finally:
        os.close(fd)


def finish_temporary(path: str, content: Content) -> None:
    """Give a temporary its length, mode and time; or make the link that it is to be."""
    if isinstance(content, LinkContent):
        remove_quietly(path)
        os.symlink(content.target, path)
        os.utime(path, ns=(content.mtime_ns, content.mtime_ns), follow_symlinks=False)
        return
    assert isinstance(content, FileContent)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, content.size)
        os.fchmod(fd, content.mode)
    finally:
        os.close(fd)
    os.utime(path, ns=(content.mtime_ns, content.mtime_ns), follow_symlinks=False)


def sync_file_system(path: str) -> None:
    """Make everything written to the file system of `path` durable: one call for a group of files."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)


def sync_directories(paths: Iterable[str]) -> None:
    """Make the names in directories durable; one that is gone by now is no error."""
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def rename_new(source: str, target: str) -> None:
    """Rename, but never onto something: raises FileExistsError then."""
    if _rename(source, target, RENAME_NOREPLACE):
        return
    if os.path.lexists(target):  # a file system without the flag: a short race is what is left
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def exchange(one: str, other: str) -> bool:
    """Let two names swap what they name, in one step; return False where the file system cannot. Raises OSError."""
    return _rename(one, other, RENAME_EXCHANGE)


def _rename(source: str, target: str, flag: int) -> bool:
    if _libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), source, None, target)
    return False


@contextlib.contextmanager
def writable(*directories: str) -> Iterator[None]:
    """Let the names in directories be changed although their mode forbids it, as a read-only folder's does; the mode is
    as it was afterwards. Where it cannot be changed, what is tried inside says why."""
    opened: list[tuple[int, int]] = []  # by descriptor: one of them may be renamed meanwhile
    for directory in directories:
        if not os.access(directory, os.W_OK | os.X_OK):
            with contextlib.suppress(OSError):
                mode = modes.S_IMODE(os.lstat(directory).st_mode)
                os.chmod(directory, mode | 0o700)
                opened.append((os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC), mode))
    try:
        yield
    finally:
        for fd, mode in reversed(opened):
            with contextlib.suppress(OSError):
                os.fchmod(fd, mode)
            os.close(fd)


def make_folder(path: str, mode: int) -> Signature:
    """Make a folder; a setgid bit that it inherits stays. Raises OSError."""
    os.mkdir(path)
    os.chmod(path, _special(Signature.of(os.lstat(path))) | mode)
    return Signature.of(os.lstat(path))


def _special(signature: Signature) -> int:
    return modes.S_IMODE(signature.mode) & ~PERMISSIONS


def set_meta(path: str, content: Content, expected: Signature) -> bool:
    """Set mode and time of what is at `path` to the content's; return False when it is not the `expected` any more.

    Raises OSError.
    """
    if isinstance(content, LinkContent):
        if not is_same(look(path), expected):
            return False
        os.utime(path, ns=(content.mtime_ns, content.mtime_ns), follow_symlinks=False)
        return True
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:  # by descriptor: whatever takes the name meanwhile keeps its own time, which tells it from what was here
        found = Signature.of(os.fstat(fd))
        if not is_same(found, expected):
            return False
        opened = f"/proc/self/fd/{fd}"
        os.chmod(opened, _special(found) | content.mode)
        if isinstance(content, FileContent):
            os.utime(opened, ns=(content.mtime_ns, content.mtime_ns))
    finally:
        os.close(fd)
    return True


def remove_quietly(path: str) -> None:
    """Remove a file that may not be there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def guarded(root: str, relative: Sequence[str]) -> None:
    """Check that no directory on the way is a link now. Raises NotADirectoryError."""
    for path in set(relative):
        full = os.path.join(root, path) if path else root
        if os.path.realpath(full) != full:
            raise NotADirectoryError(errno.ENOTDIR, "a folder on the way became a link", full)
