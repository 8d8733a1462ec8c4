"""The disk as Linux has it.

A program on this machine may put a link in a folder's place at any moment, also between a look and what is done then.
So below a folder's root names are reached by descriptor: the directory that has a name is opened in a way that follows
no link in any part of its path (`openat2`, or part by part where the kernel has no such call), and what is done is done
there, wherever the path leads by then. `held` keeps these descriptors for a group of calls, and no longer: a directory
that is moved takes its descriptors along, and one that stays open keeps a volume from being unmounted.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from shoal.crdt.facts import USER, fit_attributes
from shoal.crdt.model import Attributes
from shoal.node.folder.filesystem import How, OpenFile
from shoal.node.folder.signature import Signature

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
SYNC_FILE_RANGE_WRITE = 2
RWF_DONTCACHE = 0x80
FICLONE = 0x40049409
WRITE_BACK = 256 * 1024
FLAGS = {
    "read": os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
    "write": os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
    "look": os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC,
    "folder": os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
}

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
OPENAT2 = 437  # on every machine
RESOLVE_NO_SYMLINKS = 0x04
HELD = 64  # descriptors at most

_libc = ctypes.CDLL(None, use_errno=True)
_passes = True  # until the kernel says that it does not know RWF_DONTCACHE


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_NO_LINKS = _OpenHow(DIRECTORY, 0, RESOLVE_NO_SYMLINKS)


class LinuxFile:
    """An open file descriptor. `looking`: it was opened to look only, which chmod and utime do not take as it is."""

    __slots__ = ("fd", "target")

    def __init__(self, fd: int, looking: bool) -> None:
        self.fd = fd
        self.target: int | str = f"/proc/self/fd/{fd}" if looking else fd

    def stat(self) -> Signature:
        return Signature.of(os.fstat(self.fd))

    def mark(self) -> tuple[int, int, int]:
        found = os.fstat(self.fd)
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read(self, length: int, offset: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def read_into(self, view: memoryview, offset: int) -> int:
        return os.preadv(self.fd, [view], offset)

    def next_data(self, offset: int) -> int:
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA)
        except OSError as error:
            # ENXIO: none. Where the call is unknown, all is data.
            return os.fstat(self.fd).st_size if error.errno == errno.ENXIO else offset

    def write(self, data: bytes | memoryview, offset: int, *, passing: bool = False) -> int:
        if passing and (passed := _write_passing(self.fd, data, offset)):
            return passed
        written = os.pwrite(self.fd, data, offset)
        if written >= WRITE_BACK:
            # It goes to the disk now, not all at once when it is synced; only that says whether it got there.
            _libc.sync_file_range(self.fd, ctypes.c_int64(offset), ctypes.c_int64(written), SYNC_FILE_RANGE_WRITE)
        return written

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def clone_of(self, other: OpenFile) -> bool:
        assert isinstance(other, LinuxFile)
        try:
            fcntl.ioctl(self.fd, FICLONE, other.fd)
        except OSError:  # whatever it is, the bytes can be copied
            return False
        return True

    def chmod(self, mode: int) -> None:
        os.chmod(self.target, mode)

    def set_time(self, mtime_ns: int) -> None:
        os.utime(self.target, ns=(mtime_ns, mtime_ns))

    def attributes(self) -> Attributes | None:
        try:
            listed = os.listxattr(self.target)
            if not listed:
                return ()
            names = sorted(name for name in map(os.fsencode, listed) if name.startswith(USER))
            found = tuple((name, os.getxattr(self.target, name)) for name in names)
        except OSError:
            return None
        return found if fit_attributes(found) else None

    def set_attributes(self, wanted: Attributes) -> None:
        try:
            there = {name for name in map(os.fsencode, os.listxattr(self.target)) if name.startswith(USER)}
            for name in there - {name for name, _ in wanted}:
                os.removexattr(self.target, name)
            for name, value in wanted:
                os.setxattr(self.target, name, value)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOSPC, errno.E2BIG, errno.ERANGE):
                raise

    def sync(self) -> None:
        os.fsync(self.fd)

    def close(self) -> None:
        os.close(self.fd)


class _Way:
    """The directory that has a name, None for the path as it is; and the name in it."""

    __slots__ = ("_ends", "folder", "name")

    def __init__(self, folder: int | None, name: str, *, ends: bool) -> None:
        self.folder = folder
        self.name = name
        self._ends = ends

    def __enter__(self) -> tuple[int | None, str]:
        return self.folder, self.name

    def __exit__(self, *error: object) -> None:
        if self._ends and self.folder is not None:
            os.close(self.folder)


class _Held(threading.local):
    folders: dict[str, int] | None = None


class Linux:
    """The system calls themselves."""

    def __init__(self, root: str | None = None) -> None:
        """`root`: a real path; on the way to what is below it no link is followed: NotADirectoryError."""
        self._below = f"{root}/" if root is not None else None
        self._held = _Held()

    @contextmanager
    def held(self) -> Iterator[None]:
        if self._held.folders is not None:
            yield
            return
        folders: dict[str, int] = {}
        self._held.folders = folders
        try:
            yield
        finally:
            self._held.folders = None
            for folder in folders.values():
                os.close(folder)

    def _way(self, path: str) -> _Way:
        if self._below is None or not path.startswith(self._below):
            return _Way(None, path, ends=False)
        directory, _, name = path.rstrip("/").rpartition("/")
        held = self._held.folders
        if held is None:
            return _Way(_open_directory(directory), name, ends=True)
        folder = held.get(directory)
        if folder is None:
            if len(held) >= HELD:
                os.close(held.pop(next(iter(held))))
            folder = held[directory] = _open_directory(directory)
        return _Way(folder, name, ends=False)

    def _open(self, path: str, flags: int) -> int:
        with self._way(path) as (folder, name):
            return os.open(name, flags if folder is None else flags | os.O_NOFOLLOW, 0o600, dir_fd=folder)

    def open(self, path: str, how: How) -> LinuxFile:
        return LinuxFile(self._open(path, FLAGS[how]), how == "look")

    def lstat(self, path: str) -> Signature:
        with self._way(path) as (folder, name):
            return Signature.of(os.stat(name, dir_fd=folder, follow_symlinks=False))

    def scan(self, path: str) -> list[tuple[str, Signature]]:
        found = []
        fd = self._open(path, FLAGS["folder"])
        try:
            with os.scandir(fd) as entries:  # by descriptor: the path to one in it may be longer than any may be
                for entry in entries:
                    try:
                        found.append((entry.name, Signature.of(entry.stat(follow_symlinks=False))))
                    except FileNotFoundError:
                        continue
        finally:
            os.close(fd)
        return found

    def names(self, path: str) -> list[str]:
        return os.listdir(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self._way(path) as (folder, name):
            os.mkdir(name, mode, dir_fd=folder)

    def rmdir(self, path: str) -> None:
        with self._way(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def unlink(self, path: str) -> None:
        with self._way(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def link(self, source: str, target: str) -> None:
        with self._way(source) as (old, name), self._way(target) as (new, fresh):
            os.link(name, fresh, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)

    def symlink(self, text: str, path: str) -> None:
        with self._way(path) as (folder, name):
            os.symlink(text, name, dir_fd=folder)

    def readlink(self, path: str) -> str:
        with self._way(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def set_link_time(self, path: str, mtime_ns: int) -> None:
        with self._way(path) as (folder, name):
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        with self._way(source) as (old, name), self._way(target) as (new, fresh):
            os.rename(name, fresh, src_dir_fd=old, dst_dir_fd=new)

    def rename_new(self, source: str, target: str) -> bool:
        return self._rename(source, target, RENAME_NOREPLACE)

    def exchange(self, one: str, other: str) -> bool:
        return self._rename(one, other, RENAME_EXCHANGE)

    def _rename(self, source: str, target: str, flag: int) -> bool:
        with self._way(source) as (old, name), self._way(target) as (new, fresh):
            ways = _at(old), os.fsencode(name), _at(new), os.fsencode(fresh)
            if _libc.renameat2(*ways, flag) == 0:
                return True
            if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
                _raise(source, target)
            return False

    def may_write(self, path: str) -> bool:
        try:
            with self._way(path) as (folder, name):
                return os.access(name, os.W_OK | os.X_OK, dir_fd=folder)
        except OSError:  # what is tried then says why
            return False

    def sync_all(self, path: str) -> None:
        fd = self._open(path, FLAGS["folder"])
        try:
            if _libc.syncfs(fd) != 0:
                _raise(path)
        finally:
            os.close(fd)

    def space(self, path: str) -> tuple[int, int]:
        usage = shutil.disk_usage(path)
        return usage.free, usage.total

    def real_path(self, path: str) -> str:
        return os.path.realpath(path)


def _write_passing(fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write to the disk by way of memory that is free again then; return 0 where that cannot be (kernels before 6.14,
    some file systems). It goes to the disk at once."""
    global _passes
    if not _passes:
        return 0
    try:
        return os.pwritev(fd, [data], offset, RWF_DONTCACHE)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        _passes = False
        return 0


def _at(folder: int | None) -> int:
    return AT_FDCWD if folder is None else folder


def _open_directory(path: str) -> int:
    """Open a directory to reach names in it; `path`: absolute. Raises OSError, where there is a link on the way
    NotADirectoryError."""
    if not _knows_openat2():
        return _open_by_parts(path)
    fd = _openat2(path)
    if fd < 0 and ctypes.get_errno() == errno.ELOOP:
        raise NotADirectoryError(errno.ENOTDIR, "a folder on the way became a link", path)
    if fd < 0:
        _raise(path)
    return fd


def _openat2(path: str) -> int:
    while True:
        how = ctypes.byref(_NO_LINKS)
        fd: int = _libc.syscall(OPENAT2, AT_FDCWD, os.fsencode(path), how, ctypes.sizeof(_NO_LINKS))
        if fd >= 0 or ctypes.get_errno() not in (errno.EINTR, errno.EAGAIN):
            return fd


@cache
def _knows_openat2() -> bool:
    """Return whether the kernel has the call (since 5.6), and whoever confines this process allows it."""
    fd = _openat2("/")
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def _open_by_parts(path: str) -> int:
    fd = os.open("/", DIRECTORY)
    for part in filter(None, path.split("/")):
        try:
            inside = os.open(part, DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inside
    return fd


def _raise(source: str, target: str | None = None) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), source, None, target)
