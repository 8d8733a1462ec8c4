"""A disk in memory: inodes, coarse times, and a power cut that keeps only a part of what was not synced.

Operations on names are journalled in order, as ext4 does it: a crash keeps a prefix of them. What was written into
files since the last sync may be there or read as zeros, each file for itself.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from shoal.crdt.model import Attributes
from shoal.node.folder.filesystem import How, OpenFile
from shoal.node.folder.signature import Signature
from shoal.node.name_rules import PLAIN, NameRules

DEVICE = 1
BLOCK = 4096


@dataclass(slots=True, eq=False)
class Inode:
    """A file, folder or link. `names`: in a folder; `text`: what a link says."""

    number: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[str, Inode] = field(default_factory=dict)
    text: str = ""
    parent: Inode | None = None  # of a folder

    def signature(self) -> Signature:
        size = len(self.data) if stat.S_ISREG(self.mode) else len(self.text)
        return Signature(DEVICE, self.number, size, self.mtime_ns, self.ctime_ns, self.mode)


class SimFileSystem:
    """A `FileSystem`. `now_ns`: the machine's clock; `grain_ns`: what its times are cut to; `room`: in bytes."""

    def __init__(
        self,
        now_ns: Callable[[], int],
        grain_ns: int,
        room: int,
        rules: NameRules = PLAIN,
        *,
        renames_case: bool = True,
    ) -> None:
        """`rules`: which names are one to the disk, and which it takes; `renames_case`: whether a rename to a name that
        is the same to it does anything, as on APFS and NTFS, and not on Linux's vfat and ext4."""
        self.rules = rules
        self._renames_case = renames_case
        self._now_ns = now_ns
        self._grain_ns = grain_ns
        self.room = room
        self._used = 0
        self._free_numbers: list[int] = []
        self._last_number = 1
        self._undo: list[Callable[[], object]] = []  # what takes back each operation since the last sync
        self._unsynced: dict[int, tuple[Inode, bytes]] = {}  # files written to, and what they held when last synced
        self.on_change: Callable[[str], None] = lambda path: None  # what inotify would tell
        self.on_call: Callable[[str, str], None] = lambda name, path: None
        now = self._now()
        self._root = Inode(1, stat.S_IFDIR | 0o755, now, now)

    # -- time, numbers, room -----------------------------------------------------------------------------------------

    def _now(self) -> int:
        return self._now_ns() // self._grain_ns * self._grain_ns

    def _number(self) -> int:
        # The number that was freed last is given out first, as ext4 does: the worst case for who trusts inodes.
        if self._free_numbers:
            return self._free_numbers.pop()
        self._last_number += 1
        return self._last_number

    def _resize(self, inode: Inode, size: int) -> None:
        if size > len(inode.data) and self._used + size - len(inode.data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._used += size - len(inode.data)

    def _did(self, undo: Callable[[], object]) -> None:
        self._undo.append(undo)

    # -- the power cut -----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Make everything durable."""
        self._undo.clear()
        self._unsynced.clear()

    def settle_journal(self) -> None:
        """Make all names durable."""
        self._undo.clear()

    @property
    def used(self) -> int:
        """The bytes that files have."""
        return self._used

    def settle_data(self, inode: Inode) -> None:
        """Make a file's content durable."""
        self._unsynced.pop(inode.number, None)

    def crash(self, chance: random.Random) -> None:
        """Lose a part of what was not synced."""
        for _ in range(chance.randint(0, len(self._undo))):
            self._undo.pop()()
        for inode, before in self._unsynced.values():
            if chance.random() < 0.5:
                kept = before[: len(inode.data)]
                inode.data[:] = kept + bytes(len(inode.data) - len(kept))
        self.settle()

    # -- names -------------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Inode:
        inode = self._root
        for part in path.strip("/").split("/") if path.strip("/") else ():
            if not stat.S_ISDIR(inode.mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            found = inode.names.get(self._spelt(inode, part))
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            inode = found
        return inode

    def _spelt(self, folder: Inode, name: str) -> str:
        """Return how a name is spelt in a folder where it is there, or the disk will spell it."""
        if name in folder.names or self.rules.plain:
            return name
        key = self.rules.key(name)
        spelt = next((each for each in folder.names if self.rules.key(each) == key), None)
        return spelt if spelt is not None else self._stored(name)

    def _stored(self, name: str) -> str:
        if self.rules.lowers:
            name = name.lower()
        return unicodedata.normalize(self.rules.stores, name) if self.rules.stores else name

    def _place(self, path: str) -> tuple[Inode, str]:
        directory, _, name = path.rpartition("/")
        folder = self._find(directory)
        if not stat.S_ISDIR(folder.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if len(name.encode("utf-8", "surrogateescape")) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        if self.rules.spell(name) != self._stored(name):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return folder, self._spelt(folder, name)

    def _free_place(self, path: str) -> tuple[Inode, str]:
        folder, name = self._place(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return folder, name

    def _set(self, folder: Inode, name: str, inode: Inode | None) -> None:
        before, times = folder.names.get(name), (folder.mtime_ns, folder.ctime_ns)

        def undo() -> None:
            _put(folder, name, before)
            folder.mtime_ns, folder.ctime_ns = times

        _put(folder, name, inode)
        folder.mtime_ns = folder.ctime_ns = self._now()
        self._did(undo)

    def _touch(self, inode: Inode) -> None:
        before = inode.ctime_ns
        inode.ctime_ns = self._now()
        self._did(lambda: setattr(inode, "ctime_ns", before))

    def _make(self, path: str, mode: int, text: str = "") -> Inode:
        folder, name = self._free_place(path)
        now = self._now()
        inode = Inode(self._number(), mode, now, now, text=text)
        self._set(folder, name, inode)
        self.on_change(path)
        return inode

    def _drop(self, inode: Inode) -> None:
        """A name of it went: if that was the last, its number is free."""
        if stat.S_ISDIR(inode.mode) or not self._is_named(self._root, inode):
            self._used -= len(inode.data)
            self._free_numbers.append(inode.number)

            def undo() -> None:
                self._used += len(inode.data)
                if inode.number in self._free_numbers:
                    self._free_numbers.remove(inode.number)
                else:  # given away meanwhile, to what is undone by now
                    pass

            self._did(undo)

    def _is_named(self, folder: Inode, inode: Inode) -> bool:
        return any(
            each is inode or (stat.S_ISDIR(each.mode) and self._is_named(each, inode)) for each in folder.names.values()
        )

    # -- the port ----------------------------------------------------------------------------------------------------

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()

    def open(self, path: str, how: How) -> SimFile:
        self.on_call("open", path)
        try:
            inode = self._find(path)
        except FileNotFoundError:
            if how != "write":
                raise
            inode = self._make(path, stat.S_IFREG | 0o600)
        if stat.S_ISLNK(inode.mode) and how != "look":
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if how == "folder" and not stat.S_ISDIR(inode.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if how == "write" and stat.S_ISDIR(inode.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return SimFile(self, inode, path)

    def lstat(self, path: str) -> Signature:
        return self._find(path).signature()

    def scan(self, path: str) -> list[tuple[str, Signature]]:
        folder = self._find(path)
        if not stat.S_ISDIR(folder.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return [(name, inode.signature()) for name, inode in folder.names.items()]

    def names(self, path: str) -> list[str]:
        return [name for name, _ in self.scan(path)]

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self.on_call("mkdir", path)
        self._make(path, stat.S_IFDIR | (mode & 0o755))

    def rmdir(self, path: str) -> None:
        self.on_call("rmdir", path)
        folder, name = self._place(path)
        inode = self._find(path)
        if not stat.S_ISDIR(inode.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if inode.names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._set(folder, name, None)
        self._drop(inode)
        self.on_change(path)

    def unlink(self, path: str) -> None:
        self.on_call("unlink", path)
        folder, name = self._place(path)
        inode = self._find(path)
        if stat.S_ISDIR(inode.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._set(folder, name, None)
        self._touch(inode)
        self._drop(inode)
        self.on_change(path)

    def link(self, source: str, target: str) -> None:
        self.on_call("link", target)
        folder, name = self._free_place(target)
        inode = self._find(source)
        self._set(folder, name, inode)
        self._touch(inode)
        self.on_change(target)

    def symlink(self, text: str, path: str) -> None:
        self.on_call("symlink", path)
        self._make(path, stat.S_IFLNK | 0o777, text)

    def readlink(self, path: str) -> str:
        inode = self._find(path)
        if not stat.S_ISLNK(inode.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return inode.text

    def set_link_time(self, path: str, mtime_ns: int) -> None:
        self._set_time(self._find(path), mtime_ns, path)

    def rename(self, source: str, target: str) -> None:
        self.on_call("rename", target)
        self._rename(source, target)

    def _rename(self, source: str, target: str) -> None:
        (old, name), (new, fresh) = self._place(source), self._place(target)
        inode, replaced = self._find(source), new.names.get(fresh)
        wanted = self._stored(target.rpartition("/")[2])
        if replaced is inode:
            if (old, name) != (new, fresh) or wanted == name or not self._renames_case:
                return  # a second name of the file, or the same one
            replaced, fresh = None, wanted
        if replaced is not None:
            if stat.S_ISDIR(replaced.mode) != stat.S_ISDIR(inode.mode):
                code = errno.EISDIR if stat.S_ISDIR(replaced.mode) else errno.ENOTDIR
                raise OSError(code, os.strerror(code), target)
            if replaced.names:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), target)
        self._check_no_loop(inode, new, target)
        # One entry of the journal: a crash leaves the file under one of the names.
        undo, self._undo = self._undo, []
        self._set(old, name, None)
        self._set(new, fresh, inode)
        self._touch(inode)
        if replaced is not None:
            self._drop(replaced)
        steps, self._undo = self._undo, undo
        self._did(lambda: [step() for step in reversed(steps)])
        self.on_change(source)
        self.on_change(target)

    def rename_new(self, source: str, target: str) -> bool:
        self.on_call("rename", target)
        self._find(source)
        self._free_place(target)
        self._rename(source, target)
        return True

    def exchange(self, one: str, other: str) -> bool:
        self.on_call("exchange", other)
        (first, name), (second, fresh) = self._place(one), self._place(other)
        left, right = self._find(one), self._find(other)
        self._check_no_loop(left, second, other)
        self._check_no_loop(right, first, one)
        undo, self._undo = self._undo, []
        self._set(first, name, right)
        self._set(second, fresh, left)
        self._touch(left)
        self._touch(right)
        steps, self._undo = self._undo, undo
        self._did(lambda: [step() for step in reversed(steps)])
        self.on_change(one)
        self.on_change(other)
        return True

    def may_write(self, path: str) -> bool:
        return bool(self._find(path).mode & 0o200)

    def sync_all(self, path: str) -> None:
        self.on_call("sync", path)
        self.settle()

    def space(self, path: str) -> tuple[int, int]:
        return max(0, self.room - self._used), self.room

    def real_path(self, path: str) -> str:
        at, done = self._root, ""
        for part in path.strip("/").split("/"):
            found = at.names.get(self._spelt(at, part)) if stat.S_ISDIR(at.mode) else None
            if found is not None and stat.S_ISLNK(found.mode):
                return f"{done}/ a link"
            done = f"{done}/{part}"
            at = found or at
        return done

    def _check_no_loop(self, inode: Inode, into: Inode, path: str) -> None:
        at: Inode | None = into
        while at is not None:
            if at is inode:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
            at = at.parent

    # -- files -------------------------------------------------------------------------------------------------------

    def _write(self, inode: Inode, data: bytes, offset: int, path: str) -> None:
        self.on_call("write", path)
        self._resize(inode, max(len(inode.data), offset + len(data)))
        self._remember(inode)
        if len(inode.data) < offset:
            inode.data.extend(bytes(offset - len(inode.data)))
        inode.data[offset : offset + len(data)] = data
        inode.mtime_ns = inode.ctime_ns = self._now()
        self.on_change(path)

    def _truncate(self, inode: Inode, size: int, path: str) -> None:
        self.on_call("truncate", path)
        self._resize(inode, size)
        self._remember(inode)
        del inode.data[size:]
        inode.data.extend(bytes(size - len(inode.data)))
        inode.mtime_ns = inode.ctime_ns = self._now()
        self.on_change(path)

    def _remember(self, inode: Inode) -> None:
        self._unsynced.setdefault(inode.number, (inode, bytes(inode.data)))

    def _chmod(self, inode: Inode, mode: int, path: str) -> None:
        self.on_call("chmod", path)
        before = inode.mode
        inode.mode = stat.S_IFMT(inode.mode) | mode
        self._did(lambda: setattr(inode, "mode", before))
        self._touch(inode)
        self.on_change(path)

    def _set_time(self, inode: Inode, mtime_ns: int, path: str) -> None:
        self.on_call("utime", path)
        before = inode.mtime_ns
        inode.mtime_ns = mtime_ns
        self._did(lambda: setattr(inode, "mtime_ns", before))
        self._touch(inode)
        self.on_change(path)


class SimFile:
    """An `OpenFile`."""

    def __init__(self, fs: SimFileSystem, inode: Inode, path: str) -> None:
        self._fs = fs
        self._inode = inode
        self._path = path

    def stat(self) -> Signature:
        return self._inode.signature()

    def mark(self) -> tuple[int, int, int]:
        found = self.stat()
        return found.size, found.mtime_ns, found.ctime_ns

    def read(self, length: int, offset: int) -> bytes:
        if stat.S_ISDIR(self._inode.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
        return bytes(self._inode.data[offset : offset + length])

    def read_into(self, view: memoryview, offset: int) -> int:
        data = self.read(len(view), offset)
        view[: len(data)] = data
        return len(data)

    def next_data(self, offset: int) -> int:
        """Blocks of zeros count as holes."""
        data = self._inode.data
        while offset < len(data):
            end = offset - offset % BLOCK + BLOCK
            if any(data[offset:end]):
                return offset
            offset = end
        return len(data)

    def write(self, data: bytes | memoryview, offset: int, *, passing: bool = False) -> int:
        self._fs._write(self._inode, bytes(data), offset, self._path)
        return len(data)

    def truncate(self, size: int) -> None:
        self._fs._truncate(self._inode, size, self._path)

    def clone_of(self, other: OpenFile) -> bool:
        return False

    def chmod(self, mode: int) -> None:
        self._fs._chmod(self._inode, mode, self._path)

    def set_time(self, mtime_ns: int) -> None:
        self._fs._set_time(self._inode, mtime_ns, self._path)

    def attributes(self) -> Attributes | None:
        return None

    def set_attributes(self, wanted: Attributes) -> None:
        pass

    def sync(self) -> None:
        self._fs.on_call("fsync", self._path)
        self._fs.settle_journal()  # which ext4 commits as a whole
        self._fs.settle_data(self._inode)

    def close(self) -> None:
        pass


def _put(folder: Inode, name: str, inode: Inode | None) -> None:
    if inode is None:
        folder.names.pop(name, None)
    else:
        folder.names[name] = inode
        if stat.S_ISDIR(inode.mode):
            inode.parent = folder
