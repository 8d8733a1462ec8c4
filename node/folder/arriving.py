"""Chunks that are on this disk in temporaries alone: of files that are still coming. Others may have them already.

In memory only: after a crash the temporaries are read through, and nothing is offered before.
"""

from __future__ import annotations

Source = tuple[str, int, int]
"""A temporary's relative path, the offset in it, and the length."""


class Arriving:
    """The verified chunks that were written to temporaries."""

    def __init__(self) -> None:
        self._sources: dict[bytes, Source] = {}
        self._chunks: dict[str, list[bytes]] = {}  # by temporary

    def add(self, chunk: bytes, path: str, offset: int, length: int) -> None:
        """A chunk was written to a temporary."""
        if chunk not in self._sources:
            self._sources[chunk] = path, offset, length
            self._chunks.setdefault(path, []).append(chunk)

    def source(self, chunk: bytes) -> Source | None:
        """Return where a chunk is, if it is in a temporary."""
        return self._sources.get(chunk)

    def drop(self, path: str) -> None:
        """A temporary is one no more: it took its name, or went."""
        for chunk in self._chunks.pop(path, ()):
            del self._sources[chunk]
