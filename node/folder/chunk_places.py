"""Where the bytes of chunks are on this disk: in live files by node, and in what was kept of replaced and deleted ones.

A version can be wanted again after its file went: by a device that had not fetched it yet, or here, as a conflict copy.
What is kept in `.shoal/versions` is then a holder's only copy, so it is served like a live file.

Keys after the folder's 16 bytes:
    column `chunk`: chunk id + node + offset (8) -> length (4); for a kept file, `KEPT` as node, and its name at the end
    column `local`: k + name of a kept file -> its packed chunk references
"""

from __future__ import annotations

from collections.abc import Iterator

from shoal.crdt.model import CHUNK_REF_SIZE, Content, FileContent, FolderId, NodeId
from shoal.node.store import Staging

KEPT = NodeId(b"\xfe" * 16)


class ChunkPlaces:
    """The places, on a folder's `Staging`."""

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        self._staging = staging
        self._folder = folder

    def add(self, node: NodeId, content: Content) -> None:
        """Stage that the node's file on disk has this content."""
        for key, length in self._rows(node, _chunks(content)):
            self._staging.put("chunk", key, length)

    def drop(self, node: NodeId, content: Content) -> None:
        """Stage that it has not any more."""
        for key, _ in self._rows(node, _chunks(content)):
            self._staging.delete("chunk", key)

    def keep(self, name: str, content: Content) -> None:
        """Stage that the kept file of that name has this content."""
        chunks = _chunks(content)
        if chunks:
            self._staging.put("local", self._folder + b"k" + name.encode(), chunks)
            for key, length in self._rows(KEPT, chunks, name.encode()):
                self._staging.put("chunk", key, length)

    def forget(self, name: str) -> None:
        """Stage that the kept file is gone."""
        chunks = self._staging.get("local", self._folder + b"k" + name.encode())
        if chunks is not None:
            self._staging.delete("local", self._folder + b"k" + name.encode())
            for key, _ in self._rows(KEPT, chunks, name.encode()):
                self._staging.delete("chunk", key)

    def live(self, chunk: bytes) -> Iterator[tuple[NodeId, int, int]]:
        """Yield node, offset and length of the chunk in live files."""
        for key, length in self._staging.scan("chunk", self._folder + chunk):
            if len(key) == 72:
                yield NodeId(key[48:64]), int.from_bytes(key[64:72]), int.from_bytes(length)

    def kept(self, chunk: bytes) -> Iterator[tuple[str, int, int]]:
        """Yield name, offset and length of the chunk in kept files."""
        for key, length in self._staging.scan("chunk", self._folder + chunk + KEPT):
            yield key[72:].decode(), int.from_bytes(key[64:72]), int.from_bytes(length)

    def _rows(self, node: NodeId, chunks: bytes, name: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        at = 0
        for ref in range(0, len(chunks), CHUNK_REF_SIZE):
            chunk, length = chunks[ref : ref + 32], chunks[ref + 32 : ref + CHUNK_REF_SIZE]
            yield self._folder + chunk + node + at.to_bytes(8) + name, length
            at += int.from_bytes(length)


def _chunks(content: Content) -> bytes:
    return content.chunks if isinstance(content, FileContent) else b""
