"""Where the bytes of chunks are on this disk: in live files by node, and in what was kept of replaced and deleted ones.

A version can be wanted again after its file went: by a device that had not fetched it yet, or here, as a conflict copy.
What is kept in `.shoal/versions` is then a holder's only copy, so it is served like a live file. See `keeping` for what
is packed: its chunks are objects, files of their own in `.shoal/objects`, some of them deltas that copy from others.

Keys after the folder's 16 bytes:
    column `chunk`: chunk id + node + offset (8) -> length (4); for a kept file, `KEPT` as node, and its name at the end
    column `local`: k + name of a kept file -> its packed chunk references
                    d + chunk that is a delta -> the chunks that it may copy from
                    u + chunk + delta that may copy from it -> empty
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from shoal.crdt.model import CHUNK_REF_SIZE, Content, FileContent, FolderId, NodeId
from shoal.node.store import Staging

KEPT = NodeId(b"\xfe" * 16)
_START = bytes(8)
PACKED = ".packed"  # ends the names of kept versions whose chunks are objects


class ChunkPlaces:
    """The places, on a folder's `Staging`."""

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        self._staging = staging
        self._folder = folder
        self.on_kept: Callable[[str], None] = lambda name: None

    def add(self, found: Iterable[tuple[NodeId, Content]]) -> None:
        """Stage that nodes' files on disk have these contents."""
        rows: list[tuple[bytes, bytes]] = []
        for node, content in found:
            chunks = _chunks(content)
            if len(chunks) == CHUNK_REF_SIZE:  # as of most
                rows.append((self._folder + chunks[:32] + node + _START, chunks[32:]))
            else:
                rows += self._rows(node, chunks)
        self._staging.put_all("chunk", rows)

    def drop(self, node: NodeId, content: Content) -> None:
        """Stage that it has not any more."""
        for key, _ in self._rows(node, _chunks(content)):
            self._staging.delete("chunk", key)

    def keep(self, name: str, content: Content) -> None:
        """Stage that the kept file of that name has this content."""
        self.keep_chunks(name, _chunks(content))
        self.on_kept(name)

    def keep_chunks(self, name: str, chunks: bytes) -> None:
        """Stage that the kept file of that name has these chunks, packed references."""
        self._staging.put("local", self._folder + b"k" + name.encode(), chunks)
        for key, length in self._rows(KEPT, chunks, name.encode()):
            self._staging.put("chunk", key, length)

    def chunks_of(self, name: str) -> bytes | None:
        """Return the packed references of a kept file's chunks; None when it is not known."""
        return self._staging.get("local", self._folder + b"k" + name.encode())

    def kept_names(self) -> list[str]:
        """Return the names of all kept files that are known."""
        return [key[17:].decode() for key, _ in self._staging.scan("local", self._folder + b"k")]

    def has_object(self, chunk: bytes) -> bool:
        """Return whether a packed version has this chunk."""
        return any(name.endswith(PACKED) for name, _, _ in self.kept(chunk))

    def set_bases(self, chunk: bytes, bases: Iterable[bytes]) -> None:
        """Stage which chunks an object may copy from."""
        for base in self.bases(chunk):
            self._staging.delete("local", self._folder + b"u" + base + chunk)
        joined = b"".join(sorted(bases))
        for base in _split(joined):
            self._staging.put("local", self._folder + b"u" + base + chunk, b"")
        if joined:
            self._staging.put("local", self._folder + b"d" + chunk, joined)
        else:
            self._staging.delete("local", self._folder + b"d" + chunk)

    def bases(self, chunk: bytes) -> list[bytes]:
        """Return the chunks that an object may copy from."""
        return _split(self._staging.get("local", self._folder + b"d" + chunk) or b"")

    def users(self, chunk: bytes) -> list[bytes]:
        """Return the objects that may copy from a chunk."""
        return [key[49:] for key, _ in self._staging.scan("local", self._folder + b"u" + chunk)]

    def deltas(self) -> list[bytes]:
        """Return all chunks that are known to be deltas."""
        return [key[17:] for key, _ in self._staging.scan("local", self._folder + b"d")]

    def forget(self, name: str) -> None:
        """Stage that the kept file is gone."""
        chunks = self.chunks_of(name)
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


def _split(chunks: bytes) -> list[bytes]:
    return [chunks[at : at + 32] for at in range(0, len(chunks), 32)]


def _chunks(content: Content) -> bytes:
    return content.chunks if isinstance(content, FileContent) else b""
