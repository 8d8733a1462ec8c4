"""Linux's inotify: the kernel tells of changes in folders that are watched one by one."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
OVERFLOW, IGNORED, IS_DIRECTORY = 0x4000, 0x8000, 0x40000000
ONLY_DIRECTORIES, FOLLOW_NOT, NOT_UNLINKED = 0x1000000, 0x2000000, 0x4000000
CHANGES = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
MASK = CHANGES | ONLY_DIRECTORIES | FOLLOW_NOT | NOT_UNLINKED

_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to `name` in the folder of watch number `watch`; -1 for an overflow of the queue."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of events. Every method raises OSError."""

    def __init__(self) -> None:
        self.fd: int = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")

    def add(self, path: str) -> int:
        """Watch a folder, not a link to one; return the watch's number: the same for the same folder."""
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(path), MASK), path)

    def remove(self, watch: int) -> None:
        """Watch it no more; no error when it is not watched."""
        _libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[Event]:
        """Return the events that wait, in order; none when there are none."""
        try:
            data = os.read(self.fd, 1 << 18)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            events.append(Event(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return events

    def close(self) -> None:
        """End all watches."""
        os.close(self.fd)


def _checked(result: int, path: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
