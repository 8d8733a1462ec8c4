"""Random identifiers, of facts and nodes: not for secrets, as what is to come next is in memory."""

from __future__ import annotations

import os

BLOCK = 4096  # bytes; the system is asked for so many, as asking costs more than the few of an identifier


class RandomBytes:
    """Gives bytes that nobody can guess and that never come again."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def __call__(self, size: int) -> bytes:
        """Return `size` bytes, `BLOCK` at most."""
        end = self._at + size
        if end > len(self._block):
            self._block, self._at, end = os.urandom(BLOCK), 0, size
        found = self._block[self._at : end]
        assert len(found) == size
        self._at = end
        return found
