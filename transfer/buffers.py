"""Large buffers that are used again: new memory costs a page fault for every 4 KiB, a fifth of a second a GiB."""

from __future__ import annotations

import sys
import threading

SIZE = 4 * 1024 * 1024 + 4096  # bytes of a buffer: the usual frame, or batch of chunks, fits
MOST = 12  # that are kept
LEAST = 512 * 1024  # bytes from which on a buffer is worth keeping


class Buffers:
    """Buffers for whoever needs one for a moment, in any thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._buffers: list[bytearray] = []
        self._lock = threading.Lock()
        self._used = False

    def take(self, size: int) -> memoryview:
        """Return a view of so many bytes, of any content. Its buffer is used again when no view of it is left."""
        if not LEAST <= size <= SIZE:
            return memoryview(bytearray(size))
        self._used = True
        with self._lock:
            for buffer in self._buffers:
                # One reference is the list's, one is `buffer`, one the call's: nobody else can see it.
                if sys.getrefcount(buffer) == 3:
                    return memoryview(buffer)[:size]
            buffer = bytearray(SIZE)
            self._buffers = [buffer, *self._buffers[: self._most - 1]]
        return memoryview(buffer)[:size]

    def trim(self) -> None:
        """Let go of what is kept, if none was taken since the last call."""
        if not self._used:
            with self._lock:
                self._buffers = []
        self._used = False


shared = Buffers()
