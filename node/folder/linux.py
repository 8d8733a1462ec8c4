"""The disk as Linux has it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil

from shoal.crdt.facts import USER, fit_attributes
from shoal.crdt.model import Attributes
from shoal.node.folder.filesystem import How
from shoal.node.folder.signature import Signature

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
SYNC_FILE_RANGE_WRITE = 2
WRITE_BACK = 256 * 1024
FLAGS = {
    "read": os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
    "write": os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
    "look": os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC,
    "folder": os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
}

_libc = ctypes.CDLL(None, use_errno=True)


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

    def write(self, data: bytes | memoryview, offset: int) -> int:
        written = os.pwrite(self.fd, data, offset)
        if written >= WRITE_BACK:
            # It goes to the disk now, not all at once when it is synced; only that says whether it got there.
            _libc.sync_file_range(self.fd, ctypes.c_int64(offset), ctypes.c_int64(written), SYNC_FILE_RANGE_WRITE)
        return written

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def chmod(self, mode: int) -> None:
        os.chmod(self.target, mode)

    def set_time(self, mtime_ns: int) -> None:
        os.utime(self.target, ns=(mtime_ns, mtime_ns))

    def attributes(self) -> Attributes | None:
        try:
            names = sorted(name for name in map(os.fsencode, os.listxattr(self.target)) if name.startswith(USER))
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


class Linux:
    """The system calls themselves."""

    def open(self, path: str, how: How) -> LinuxFile:
        return LinuxFile(os.open(path, FLAGS[how], 0o600), how == "look")

    def lstat(self, path: str) -> Signature:
        return Signature.of(os.lstat(path))

    def scan(self, path: str) -> list[tuple[str, Signature]]:
        found = []
        fd = os.open(path, FLAGS["folder"])
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

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def link(self, source: str, target: str) -> None:
        os.link(source, target, follow_symlinks=False)

    def symlink(self, text: str, path: str) -> None:
        os.symlink(text, path)

    def readlink(self, path: str) -> str:
        return os.readlink(path)

    def set_link_time(self, path: str, mtime_ns: int) -> None:
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def rename_new(self, source: str, target: str) -> bool:
        return _rename(source, target, RENAME_NOREPLACE)

    def exchange(self, one: str, other: str) -> bool:
        return _rename(one, other, RENAME_EXCHANGE)

    def may_write(self, path: str) -> bool:
        return os.access(path, os.W_OK | os.X_OK)

    def sync_all(self, path: str) -> None:
        fd = os.open(path, FLAGS["folder"])
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


def _rename(source: str, target: str, flag: int) -> bool:
    if _libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
        _raise(source, target)
    return False


def _raise(source: str, target: str | None = None) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), source, None, target)
