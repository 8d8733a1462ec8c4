"""What was read and checked once, so that it is not checked again: bounded in bytes, and only what holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import blake3

T = TypeVar("T")


class Remembered(Generic[T]):
    """Calls `read` for what is new, of at most `most_one` bytes; keeps about `most` bytes of what it returned."""

    def __init__(self, read: Callable[[bytes], T | None], most_one: int, most: int = 32 * 1024 * 1024) -> None:
        self._read = read
        self._most_one = most_one
        self._most = most
        self._size = 0
        self._known: OrderedDict[bytes, tuple[T, int]] = OrderedDict()

    def __call__(self, encoded: bytes) -> T | None:
        """Return what is read of these bytes; None where that is nothing, or they are too many."""
        if len(encoded) > self._most_one:
            return None
        digest = blake3.blake3(encoded).digest()
        found = self._known.get(digest)
        if found is not None:
            self._known.move_to_end(digest)
            return found[0]
        made = self._read(encoded)
        if made is not None:
            self._known[digest] = made, len(encoded)
            self._size += len(encoded)
            while self._size > self._most:
                _, (_, size) = self._known.popitem(last=False)
                self._size -= size
        return made
