"""Chunks that come to this disk, and those that are in temporaries alone: of files that are still coming.

Others may have them already. In memory only: after a crash the temporaries are read through, and nothing is offered
before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

Landed = list[tuple[bytes, bytes | memoryview]]
Fetch = Callable[[Sequence[tuple[bytes, int]], Callable[[Landed], Awaitable[None]], int], Awaitable[list[bytes]]]
"""See `Fetcher.fetch`: what is wanted, where it goes to, and its priority; returns what nobody has."""
Source = tuple[str, int, int]
"""A file's relative path, the offset in it, and the length."""


class Arriving:
    """Verified chunks that are in files which the index does not know."""

    def __init__(self) -> None:
        self._sources: dict[bytes, Source] = {}
        self._chunks: dict[str, list[bytes]] = {}  # by path
        self._next: dict[str, tuple[str, ...]] = {}  # path -> where that file is about to be
        self.on_added: Callable[[list[bytes]], None] = lambda chunks: None

    def add(self, found: Iterable[tuple[bytes, Source]]) -> None:
        """Chunks are where they can be read."""
        added = []
        for chunk, source in found:
            added.append(chunk)
            if chunk not in self._sources:
                self._sources[chunk] = source
                self._chunks.setdefault(source[0], []).append(chunk)
        self.on_added(added)

    def has(self, chunk: bytes) -> bool:
        """Return whether a chunk is in such a file."""
        return chunk in self._sources

    def sources(self, chunk: bytes) -> list[Source]:
        """Return where a chunk may be, to be tried in this order."""
        if (source := self._sources.get(chunk)) is None:
            return []
        path, offset, length = source
        return [(place, offset, length) for place in (path, *self._next.get(path, ()))]

    def moves(self, path: str, *places: str) -> None:
        """A file is about to be at each of these places in turn, and is known at the last one a moment after."""
        if path in self._chunks:
            self._next[path] = places

    def rename(self, path: str, new: str) -> None:
        """A file has another name now."""
        for chunk in self._chunks.get(path, ()):
            _, offset, length = self._sources[chunk]
            self._sources[chunk] = new, offset, length
        self._chunks[new] = self._chunks.get(new, []) + self._chunks.pop(path, [])

    def drop(self, path: str) -> None:
        """A file is known now, or went."""
        self._next.pop(path, None)
        for chunk in self._chunks.pop(path, ()):
            del self._sources[chunk]
