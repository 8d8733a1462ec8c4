"""Temporaries are filled from what a crash left, what came early, blocks and chunks on this disk, and peers.

A temporary is `.shoal/tmp/<node>-<version>.part`. One that a crash left is filled on, after each of its chunks was
verified where it should be; so no chunk is fetched twice.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from operator import itemgetter

from shoal.crdt.model import CHUNK_REF_SIZE, FileContent, NodeId, NodeView
from shoal.node.folder.arriving import Fetch, Landed, Source
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.early import Early, Upload
from shoal.node.folder.local import PRIVATE, LocalIndex
from shoal.node.folder.marker import PART
from shoal.node.folder.objects import Objects
from shoal.node.folder.prefilled import CLONED, begin_with, verified
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica
from shoal.transfer.chunking import chunk_id, zero_chunks

Piece = tuple[str, int, bytes | memoryview]
"""The temporary that data go to, and where in it."""

FEW = 4  # temporaries
SOURCES = 3  # that are tried for a chunk
OWNER_WRITES = 0o200
LARGE = 64 * 1024 * 1024  # bytes from which on a file that comes does not stay in memory


@dataclass(slots=True, eq=False)
class Group:
    """Files that are filled together; `take_whole` takes those out that are done.

    `zeros`: offset -> length of chunks that are to be holes; `landed`: told of bytes that are there; `finished`:
    temporaries that were finished as they were written, or what went wrong.
    """

    views: list[NodeView]
    priority: int
    zeros: dict[NodeId, dict[int, int]]
    landed: Callable[[int], None] = lambda size: None
    finished: dict[str, Signature | OSError] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)  # temporaries that nothing was written to before
    large: set[str] = field(default_factory=set)  # that need not stay in memory
    single: dict[str, FileContent] = field(default_factory=dict)  # that are one chunk
    early: dict[NodeId, Upload] = field(default_factory=dict)  # what comes since before it was asked for
    pieces: dict[bytes, list[tuple[str, int]]] = field(default_factory=dict)  # chunk -> where it is to go
    lengths: dict[bytes, int] = field(default_factory=dict)
    users: dict[bytes, list[NodeId]] = field(default_factory=dict)
    open: Counter[NodeId] = field(default_factory=Counter)  # chunks of each file that have not come
    taken: set[NodeId] = field(default_factory=set)
    is_filling: bool = False  # whether it is known what is open, and waited for

    def lack(self, view: NodeView, content: FileContent, temporary: str, have: set[int]) -> None:
        """Note what a temporary lacks; `have`: the offsets of chunks that it need not be given."""
        zeros = self.zeros[view.id]
        at = 0
        for chunk, length in content.refs():
            if at in have or at in zeros:
                self.landed(length)
            else:
                self.want(view.id, chunk, length, temporary, at)
            at += length

    def want(self, node: NodeId, chunk: bytes, length: int, temporary: str, at: int) -> None:
        """Note that a temporary needs a chunk."""
        self.pieces.setdefault(chunk, []).append((temporary, at))
        self.lengths[chunk] = length
        self.users.setdefault(chunk, []).append(node)
        self.open[node] += 1

    def came(self, chunk: bytes) -> None:
        """A chunk is where it is needed."""
        self.landed(self.lengths[chunk] * len(self.users[chunk]))
        self.open.subtract(self.users[chunk])

    def take_whole(self) -> list[NodeView]:
        """Take out the files that are filled, unless that is all, and return them."""
        whole = [view for view in self.views if not self.open[view.id] and view.id not in self.early]
        if not self.is_filling or len(whole) == len(self.views):
            return []
        self.taken |= {view.id for view in whole}
        self.views = [view for view in self.views if view.id not in self.taken]
        return whole


def size_of(view: NodeView) -> int:
    """Return a file's size in bytes, 0 for what is none."""
    return view.version.content.size if isinstance(view.version.content, FileContent) else 0


class Filler:
    """Fills the temporaries of one folder."""

    def __init__(
        self, disk: Disk, turns: DiskTurns, root: str, index: LocalIndex, replica: Replica, fetch: Fetch, early: Early
    ) -> None:
        self._disk = disk
        self._objects = Objects(disk, root)
        self._turns = turns
        self._root = root
        self._index = index
        self._replica = replica
        self._fetch = fetch
        self._early = early
        self.temporaries = os.path.join(root, PRIVATE, "tmp")
        self.partial: set[str] = set()  # temporaries that hold part of their file
        self.arriving = early.arriving

    def temporary(self, view: NodeView) -> str:
        """Return the path of the temporary for this version of this node."""
        return os.path.join(self.temporaries, f"{view.id.hex()}-{view.version.id.hex()}{PART}")

    def group(self, views: Sequence[NodeView], priority: int) -> Group:
        """Return what is to be filled as one. `priority`: see `Fetcher.fetch`."""
        key = self._replica.content_key
        zeros = {
            view.id: zero_chunks(key, content.refs(), content.size)
            if isinstance(content := view.version.content, FileContent)
            else {}
            for view in views
        }
        return Group(list(views), priority, zeros)

    def room(self, group: Group) -> int:
        """Return the bytes that a group needs on the disk."""
        size = 0
        for view in group.views:
            if isinstance(content := view.version.content, FileContent):
                size += content.size - sum(group.zeros[view.id].values()) - self._early.landed_of(content)
        return size

    async def fill(self, group: Group) -> set[NodeId]:
        """Fill the temporaries; return the nodes whose content no holder has. Raises OSError."""
        try:
            for view in group.views:
                if isinstance(content := view.version.content, FileContent):
                    await self._begin(group, view, content)
            await self._clear(group)
            await self._copy(group)
            group.is_filling = True
            return await self._fetch_rest(group)
        finally:
            group.is_filling = False
            for upload in group.early.values():
                await self._early.end(upload)

    def forget(self, views: Sequence[NodeView]) -> None:
        """The temporaries of these are ones no more."""
        for view in views:
            self.arriving.drop(self._relative(self.temporary(view)))

    def remove(self, paths: Sequence[str]) -> list[None]:
        """Remove files that may not be there; belongs in a thread, or in turns."""
        with self._disk.fs.held():
            for path in paths:
                with contextlib.suppress(OSError):
                    self._disk.fs.unlink(path)
        return []

    async def _begin(self, group: Group, view: NodeView, content: FileContent) -> None:
        temporary, key, zeros = self.temporary(view), self._replica.content_key, group.zeros[view.id]
        if content.size >= LARGE:
            group.large.add(temporary)
        have: set[int] = set()
        if temporary in self.partial:
            self.partial.discard(temporary)
            have = await self._turns.apart(verified, self._disk, temporary, content, key, zeros)
        elif (shared := await self._share(view, content, zeros)) is not None:
            have = shared
        elif (upload := await self._early.adopt(content, temporary, zeros)) is not None:
            group.early[view.id] = upload
            have = upload.offsets
        else:
            group.fresh.add(temporary)
            if len(content.chunks) == CHUNK_REF_SIZE and not zeros and content.mode & OWNER_WRITES:
                group.single[temporary] = content
        group.lack(view, content, temporary, have)

    async def _clear(self, group: Group) -> None:
        """Remove what has the names of temporaries that are to be new."""
        stale = group.fresh
        if len(stale) > FEW:
            stale = stale.intersection(await self._turns.apart(self._listed))
        await self._turns.run(self.remove, list(stale))

    async def _copy(self, group: Group) -> None:
        sources = {chunk: found for chunk in group.pieces if (found := self._local_sources(chunk))}
        if sources:
            for chunk in await self._turns.apart(self._copy_local, group, sources):
                group.came(chunk)
                del group.pieces[chunk]

    async def _fetch_rest(self, group: Group) -> set[NodeId]:
        gone = await self._bring(group, list(group.pieces))
        again = []
        for node, upload in group.early.items():
            for at, chunk, length in await upload.rest():  # its sender took it back; perhaps others have it
                group.want(node, chunk, length, upload.path, at)
                again.append(chunk)
        gone += await self._bring(group, again)
        self.partial |= {temporary for chunk in gone for temporary, _ in group.pieces[chunk]}
        return {node for chunk in gone for node in group.users[chunk]}

    async def _bring(self, group: Group, chunks: Sequence[bytes]) -> list[bytes]:
        """Fetch chunks; return those that nobody has."""
        write = partial(self._write_all, group)

        async def sink(landed: Landed) -> None:
            work = [(path, at, data) for chunk, data in landed for path, at in group.pieces[chunk]]
            await self._turns.run(write, work, lambda piece: len(piece[2]))
            self.arriving.add((chunk, self._source(group, chunk)) for chunk, _ in landed)
            for chunk, _ in landed:
                group.came(chunk)

        if not chunks:
            return []
        return await self._fetch([(chunk, group.lengths[chunk]) for chunk in chunks], sink, group.priority)

    def _source(self, group: Group, chunk: bytes) -> Source:
        path, at = group.pieces[chunk][0]
        return self._relative(path), at, group.lengths[chunk]

    async def _share(self, view: NodeView, content: FileContent, zeros: dict[int, int]) -> set[int] | None:
        """Begin the temporary with the blocks of what the file holds here; return the offsets of its chunks that are
        there, None where it was not begun."""
        record, path = self._index.get(view.id), self._index.path(view.id)
        if content.size < CLONED or not self._disk.clones or record is None or path is None:
            return None
        if not isinstance(record.content, FileContent):
            return None
        full, key = os.path.join(self._root, path), self._replica.content_key
        return await self._turns.apart(
            begin_with, self._disk, full, record.content, self.temporary(view), content, key, zeros
        )

    def _local_sources(self, chunk: bytes) -> list[tuple[str, int]]:
        return [(path, offset) for path, offset, _ in islice(self._index.sources(chunk), SOURCES)]

    def _copy_local(self, group: Group, sources: Mapping[bytes, Sequence[tuple[str, int]]]) -> list[bytes]:
        """Copy chunks that are on this disk, each verified as it is read; return those found."""
        key = self._replica.content_key
        copied = []
        for chunk, places in sources.items():
            for path, offset in places:
                data = self._objects.read_source(path, offset, group.lengths[chunk])
                if data is not None and chunk_id(key, data) == chunk:
                    self._write_all(group, [(target, at, data) for target, at in group.pieces[chunk]])
                    copied.append(chunk)
                    break
        return copied

    def _write_all(self, group: Group, work: Sequence[Piece]) -> list[None]:
        with self._disk.fs.held():
            for path, pieces in groupby(work, itemgetter(0)):
                parts = [(at, data) for _, at, data in pieces]
                if (content := group.single.get(path)) is not None:
                    group.finished[path] = self._disk.write_temporary(path, content, parts[0][1])
                else:
                    self._disk.write_pieces(path, parts, fresh=path in group.fresh, passing=path in group.large)
        return []

    def _listed(self) -> list[str]:
        return [os.path.join(self.temporaries, name) for name in self._disk.fs.names(self.temporaries)]

    def _relative(self, path: str) -> str:
        return path[len(self._root) + 1 :]
