"""By what a change to a file is noticed without reading it."""

from __future__ import annotations

import os
from typing import NamedTuple


class Signature(NamedTuple):
    """What `lstat` said. While it is the same, the content is taken to be. Made and compared several times a file: a
    tuple is three times as quick at both as a dataclass."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Signature:
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_mode)
