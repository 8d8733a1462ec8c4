"""The vocabulary of folder metadata: ids, facts, and the view that replicas agree on.

A folder's document is a growing set of immutable *facts* about *nodes*. A fact is a `Location` (where a node
hangs in the tree) or a `Version` (what it contains; `content=None` is a deletion). Every fact names the facts
that it `replaces`: those its author had seen and meant to supersede. A fact that nothing replaces is a *head*.
Order comes from this relation alone; `time_ms` is only shown to people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NewType

NodeId = NewType("NodeId", bytes)  # 16 bytes
FactId = NewType("FactId", bytes)  # 12 bytes, random
FolderId = NewType("FolderId", bytes)  # 16 bytes
DeviceId = NewType("DeviceId", bytes)  # 32 bytes: an Ed25519 public key, also the libp2p identity
ChunkId = NewType("ChunkId", bytes)  # 32 bytes: BLAKE3 keyed with the folder's content key, over the plain bytes

ROOT = NodeId(bytes(16))
RESERVED = frozenset({ROOT, NodeId(b"\xff" * 16), NodeId(b"\xfe" * 16)})  # ids that no node has
MAX_LAMPORT = (1 << 62) - 1  # where the clock stands still: from there, ids decide what comes first
CHUNK_REF_SIZE = 36
PERMISSIONS = 0o777  # of a mode; setuid, setgid and sticky bits are each device's own matter

Kind = Literal["file", "dir"]  # a symbolic link is a "file" node whose content is a LinkContent


Attributes = tuple[tuple[bytes, bytes], ...]
"""Extended attributes, names (`user.*`) and values, by name."""

MAX_ATTRIBUTES = 2048  # bytes of all names and values of a file: what any disk holds that holds any


@dataclass(frozen=True, slots=True)
class FileContent:
    """A regular file. `chunks` packs, in file order, 36 bytes a chunk: id (32) and length (4, big-endian)."""

    size: int
    mode: int  # st_mode & PERMISSIONS
    mtime_ns: int
    chunks: bytes
    attributes: Attributes = ()

    def refs(self) -> Iterator[tuple[ChunkId, int]]:
        """Yield (chunk id, length in bytes) in file order."""
        for at in range(0, len(self.chunks), CHUNK_REF_SIZE):
            yield ChunkId(self.chunks[at : at + 32]), int.from_bytes(self.chunks[at + 32 : at + 36])


@dataclass(frozen=True, slots=True)
class LinkContent:
    """A symbolic link, never followed. `target` is the link's text exactly as on disk (surrogateescape)."""

    target: str
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class DirContent:
    """A folder. `mode`: permission bits."""

    mode: int


Content = FileContent | LinkContent | DirContent


@dataclass(frozen=True, slots=True)
class Version:
    """One value of a node's multi-value content register; `content=None` deletes the node."""

    id: FactId
    replaces: tuple[FactId, ...]
    lamport: int
    device: DeviceId
    time_ms: int
    content: Content | None


@dataclass(frozen=True, slots=True)
class Location:
    """One value of a node's place register."""

    id: FactId
    replaces: tuple[FactId, ...]
    lamport: int
    device: DeviceId
    time_ms: int
    parent: NodeId
    name: str
    kind: Kind


Fact = Version | Location


@dataclass(frozen=True, slots=True)
class NodeView:
    """A live node as every replica with the same facts shows it: cycles broken, names unique among siblings.

    `version` is the head that holds the name. `conflicts` are the other heads whose content differs and is no
    deletion, best first; each is shown as a conflict copy, a node view of its own with `copy_of` set to this
    node's id, `version` set to that losing head, no conflicts, and an id derived from (node id, head id).
    `heads` are the ids of all head versions (what a resolution replaces).
    """

    id: NodeId
    parent: NodeId
    name: str
    kind: Kind
    version: Version
    heads: tuple[FactId, ...]
    location: FactId
    conflicts: tuple[Version, ...] = ()
    copy_of: NodeId | None = None
