"""File content from document to disk: temporaries filled from this disk and from peers, made durable, put in place.

A temporary is `.shoal/tmp/<node>-<version>.part`. One that a crash left is filled on, after each of its chunks was
verified where it should be; so no chunk is fetched twice. A group of files is made durable by one `syncfs` before
any of them takes its name, and their directories are synced once after.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import itemgetter

import trio

from shoal.crdt.model import CHUNK_REF_SIZE, ROOT, FileContent, NodeId, NodeView
from shoal.node.folder.arriving import Arriving
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.install import Installer, Target
from shoal.node.folder.kept import kept_path
from shoal.node.folder.local import PRIVATE, LocalIndex, LocalNode
from shoal.node.folder.marker import PART, PLACING
from shoal.node.folder.objects import Objects
from shoal.node.folder.prefilled import CLONED, begin_with, verified
from shoal.node.folder.problems import Problems
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica
from shoal.transfer.chunking import chunk_id, zero_chunks

Landed = list[tuple[bytes, bytes | memoryview]]
Piece = tuple[str, int, bytes | memoryview]
"""The temporary that data go to, and where in it."""
Fetch = Callable[[Sequence[tuple[bytes, int]], Callable[[Landed], Awaitable[None]], int], Awaitable[list[bytes]]]

RESERVE = 64 * 1024 * 1024  # bytes that stay free, or a hundredth of a small disk
FEW = 4  # temporaries
OWNER_WRITES = 0o200
LARGE = 64 * 1024 * 1024  # bytes from which on a file that comes does not stay in memory


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of placing files. `look`: paths where the disk was not as expected; `lacking`: nobody has them now."""

    placed: tuple[NodeId, ...]
    look: tuple[str, ...]
    lacking: tuple[NodeId, ...]
    failed: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class _Temporaries:
    """Those of a group. `fresh`: nothing was written to them before; `large`: they need not stay in memory; `single`:
    those that are one chunk, and finished as it is written; `finished`: those that were, or what went wrong."""

    fresh: set[str] = field(default_factory=set)
    large: set[str] = field(default_factory=set)
    single: dict[str, FileContent] = field(default_factory=dict)
    finished: dict[str, Signature | OSError] = field(default_factory=dict)
    priority: int = 0


class Placer:
    """Puts files of one folder in place."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        fetch: Fetch,
        problems: Problems,
    ) -> None:
        self._disk = disk
        self._objects = Objects(disk, root)
        self._installer = Installer(disk)
        self._root = root
        self._index = index
        self._replica = replica
        self._fetch = fetch
        self._problems = problems
        self._turns = turns
        self.partial: set[str] = set()  # temporaries that hold part of their file
        self.unsettled: set[NodeId] = (
            set()
        )  # of which it is written down that they take their names, and not what came of it
        self._filling: Counter[NodeId] = Counter()  # folders, and how many files take their names in them
        self.wanted_bytes = 0  # of files being placed, not landed yet
        self._temporaries = os.path.join(root, PRIVATE, "tmp")
        self.arriving = Arriving()
        self.on_arrived: Callable[[list[bytes]], None] = lambda chunks: None

    def temporary(self, view: NodeView) -> str:
        """Return the path of the temporary for this version of this node."""
        return os.path.join(self._temporaries, f"{view.id.hex()}-{view.version.id.hex()}{PART}")

    def is_filling(self, folder: NodeId) -> bool:
        """Return whether something is taking its name in the folder, or below: it is to stay where it is."""
        return folder in self._filling

    def _folders_above(self, folder: NodeId) -> Iterator[NodeId]:
        while folder != ROOT and (record := self._index.get(folder)) is not None:
            yield folder
            folder = record.parent

    def kept_path(self, record: LocalNode) -> str:
        """Return where a replaced or removed file is kept."""
        return kept_path(self._root, record)

    async def place(self, views: Sequence[NodeView], priority: int = 0) -> Outcome:
        """Place files and links, all as one group. Trouble with the disk is reported by path, and is no exception.
        `priority`: see `Fetcher.fetch`."""
        open_ones = [view for view in views if view.id in self.unsettled]
        if open_ones:  # where their temporaries are is what the next start goes by
            outcome = await self.place([view for view in views if view.id not in self.unsettled], priority)
            return replace(outcome, failed=(*outcome.failed, *(view.id for view in open_ones)))
        wanted = sum(v.version.content.size for v in views if isinstance(v.version.content, FileContent))
        self.wanted_bytes += wanted
        left = wanted

        def landed(size: int) -> None:
            nonlocal left
            size = min(size, left)
            left -= size
            self.wanted_bytes -= size

        try:
            return await self._place(views, wanted, _Temporaries(priority=priority), landed)
        finally:
            self.wanted_bytes -= left
            self._forget_arriving(views)

    async def _place(
        self, views: Sequence[NodeView], wanted: int, made: _Temporaries, landed: Callable[[int], None]
    ) -> Outcome:
        zeros = {view.id: self._zeros_of(view) for view in views}
        try:
            self._check_room(wanted - sum(sum(holes.values()) for holes in zeros.values()))
            lacking = await self._fill(views, zeros, made, landed)
        except OSError as error:
            await self._turns.apart(self._drop, views)
            for view in views:
                self._problems.report(self._relative(view) or view.name, error, view.copy_of or view.id)
            return Outcome((), (), (), tuple(view.id for view in views))
        whole = [view for view in views if view.id not in lacking]
        outcome = await self._finish(whole, made.finished)
        return replace(outcome, lacking=tuple(lacking))

    def _forget_arriving(self, views: Sequence[NodeView]) -> None:
        for view in views:
            self.arriving.drop(self.temporary(view)[len(self._root) + 1 :])

    def _check_room(self, wanted: int) -> None:
        free, total = self._disk.fs.space(self._root)
        if wanted and free < wanted + min(RESERVE, total // 100):
            raise OSError(errno.ENOSPC, f"the disk is full: {wanted} bytes are needed, {free} are free")

    def _zeros_of(self, view: NodeView) -> dict[int, int]:
        """Return offset -> length of the chunks of zeros: they become holes."""
        content = view.version.content
        if not isinstance(content, FileContent):
            return {}
        return zero_chunks(self._replica.content_key, content.refs(), content.size)

    async def _fill(
        self,
        views: Sequence[NodeView],
        zeros: dict[NodeId, dict[int, int]],
        made: _Temporaries,
        landed: Callable[[int], None],
    ) -> set[NodeId]:
        """Fill the temporaries; return the nodes whose content no holder has."""
        key = self._replica.content_key
        pieces: dict[bytes, list[tuple[str, int]]] = {}
        lengths: dict[bytes, int] = {}
        users: dict[bytes, list[NodeId]] = {}
        for view in views:
            content = view.version.content
            if not isinstance(content, FileContent):
                continue
            temporary = self.temporary(view)
            if content.size >= LARGE:
                made.large.add(temporary)
            have: set[int] = set()
            if temporary in self.partial:
                self.partial.discard(temporary)
                have = await self._turns.apart(verified, self._disk, temporary, content, key, zeros[view.id])
            elif (shared := await self._share(view, content, zeros[view.id])) is not None:
                have = shared
            else:
                made.fresh.add(temporary)
                if len(content.chunks) == CHUNK_REF_SIZE and not zeros[view.id] and content.mode & OWNER_WRITES:
                    made.single[temporary] = content
            at = 0
            for chunk, length in content.refs():
                if at in have or at in zeros[view.id]:
                    landed(length)
                else:
                    pieces.setdefault(chunk, []).append((temporary, at))
                    lengths[chunk] = length
                    users.setdefault(chunk, []).append(view.id)
                at += length
        stale = made.fresh.intersection(await self._turns.apart(self._listed)) if len(made.fresh) > FEW else made.fresh
        await self._turns.run(self._remove_all, list(stale))
        write = partial(self._write_all, made)
        sources = {chunk: found for chunk in pieces if (found := self._local_sources(chunk))}
        if sources:
            copied = await self._turns.apart(self._copy_local, sources, pieces, lengths, write)
            for found_here in copied:
                landed(lengths[found_here] * len(pieces.pop(found_here)))

        async def sink(chunks: Landed) -> None:
            work = [(path, at, data) for chunk, data in chunks for path, at in pieces[chunk]]
            await self._turns.run(write, work, lambda piece: len(piece[2]))
            for chunk, data in chunks:
                path, at = pieces[chunk][0]
                self.arriving.add(chunk, path[len(self._root) + 1 :], at, len(data))
            self.on_arrived([chunk for chunk, _ in chunks])
            for chunk, data in chunks:
                landed(len(data) * len(pieces[chunk]))

        if not pieces:
            return set()
        gone = await self._fetch([(chunk, lengths[chunk]) for chunk in pieces], sink, made.priority)
        self.partial |= {temporary for chunk in gone for temporary, _ in pieces[chunk]}
        return {node for chunk in gone for node in users[chunk]}

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
        found = []
        for path, offset, _ in self._index.sources(chunk):
            found.append((path, offset))
            if len(found) == 3:
                break
        return found

    def _copy_local(
        self,
        sources: dict[bytes, list[tuple[str, int]]],
        pieces: dict[bytes, list[tuple[str, int]]],
        lengths: dict[bytes, int],
        write: Callable[[Sequence[Piece]], object],
    ) -> list[bytes]:
        """Copy chunks that are on this disk, each verified as it is read; return those found."""
        key = self._replica.content_key
        copied = []
        for chunk, places in sources.items():
            for path, offset in places:
                data = self._objects.read_source(path, offset, lengths[chunk])
                if data is not None and chunk_id(key, data) == chunk:
                    write([(target, at, data) for target, at in pieces[chunk]])
                    copied.append(chunk)
                    break
        return copied

    async def _finish(self, views: Sequence[NodeView], finished: Mapping[str, Signature | OSError]) -> Outcome:
        targets: list[Target] = []
        look: list[str] = []
        for view in views:
            now = self._replica.view(view.id)
            parent = self._index.path(view.parent) if view.parent != ROOT else ""
            current = now is not None and now.version.id == view.version.id
            if not current or now is None or (now.parent, now.name) != (view.parent, view.name) or parent is None:
                self.partial.add(self.temporary(view))
                continue  # the document moved on; the node is dirty again
            relative = f"{parent}/{view.name}" if parent else view.name
            record = self._index.get(view.id)
            if record is None and self._index.holder(view.parent, view.name) is not None:
                self.partial.add(self.temporary(view))
                continue  # its name is still another's on disk
            if record is not None and (record.parent, record.name) != (view.parent, view.name):
                self.partial.add(self.temporary(view))
                continue
            keep = self.kept_path(record) if record is not None else ""
            targets.append(Target(view, self.temporary(view), os.path.join(self._root, relative), record, keep))
        if not targets:
            return Outcome((), (), (), ())
        filled = Counter(above for target in targets for above in self._folders_above(target.view.parent))
        self._filling += filled
        try:
            with trio.CancelScope(shield=True):  # short, and half done it is for the next start to mend
                return await self._finish_targets(targets, finished, look)
        finally:
            self._filling -= filled

    async def _finish_targets(
        self, targets: Sequence[Target], finished: Mapping[str, Signature | OSError], look: list[str]
    ) -> Outcome:
        results = await self._put_in_place(targets, finished)
        placed, failed = [], []
        for target, result in zip(targets, results, strict=True):
            view = target.view
            relative = target.path.removeprefix(self._root + "/")
            if isinstance(result, Signature) and self._relative(view) != relative:
                look.append(relative)  # a person moved or removed its folder: what is there now is for the scanner
            elif isinstance(result, Signature):
                if target.replaces is not None:
                    self._index.places.keep(os.path.basename(target.keep_as), target.replaces.content)
                self._index.put(_record(view, result))
                self._problems.clear(relative)
                placed.append(view.id)
                if result.ctime_ns == 0:
                    look.append(relative)
            elif result is None:
                look.append(relative)
            else:
                self._problems.report(relative, result, view.copy_of or view.id)
                failed.append(view.id)
        for target in targets:
            self._index.forget_intention(target.view.id)
        self._index.commit(sync=True)  # else an edit after a crash would not be known for one of what was placed
        self.unsettled.difference_update(target.view.id for target in targets)
        lost = [target.temporary for target, result in zip(targets, results, strict=True) if _failed(result)]
        if not self.unsettled:
            lost.append(os.path.join(self._temporaries, PLACING))
        await self._turns.run(self._remove_all, lost)  # not before: where they are tells what became of them
        return Outcome(tuple(placed), tuple(look), (), tuple(failed))

    async def _put_in_place(
        self, targets: Sequence[Target], finished: Mapping[str, Signature | OSError]
    ) -> list[Signature | OSError | None]:
        """Return for each target its new signature; None where the disk was not as expected; or the error."""
        open_ones = [target for target in targets if target.temporary not in finished]
        by_hand = zip(open_ones, await self._turns.run(self._installer.finish, open_ones), strict=True)
        finished = {**finished, **{target.temporary: made for target, made in by_hand}}
        ready = [finished[target.temporary] for target in targets]
        try:
            self._disk.fs.open(os.path.join(self._temporaries, PLACING), "write").close()
            await self._turns.apart(self._disk.fs.sync_all, self._temporaries)
            for target, made in zip(targets, ready, strict=True):
                if isinstance(made, Signature):
                    self._index.intend(_record(target.view, made))
                    self.unsettled.add(target.view.id)
            self._index.commit(sync=True)  # else what a crash leaves in its place would be taken for a person's
        except OSError as error:
            return [error] * len(targets)
        results = await self._turns.run(self._installer.take_names, list(zip(targets, ready, strict=True)))
        touched = {os.path.dirname(target.path) for target in targets}
        await self._turns.apart(self._disk.sync_directories, touched)
        return results

    def _write_all(self, made: _Temporaries, work: Sequence[Piece]) -> list[None]:
        with self._disk.fs.held():
            for path, pieces in groupby(work, itemgetter(0)):
                parts = [(at, data) for _, at, data in pieces]
                if (content := made.single.get(path)) is not None:
                    made.finished[path] = self._disk.write_temporary(path, content, parts[0][1])
                else:
                    self._disk.write_pieces(path, parts, fresh=path in made.fresh, passing=path in made.large)
        return []

    def _listed(self) -> list[str]:
        return [os.path.join(self._temporaries, name) for name in self._disk.fs.names(self._temporaries)]

    def _remove_all(self, paths: Sequence[str]) -> list[None]:
        with self._disk.fs.held():
            for path in paths:
                with contextlib.suppress(OSError):
                    self._disk.fs.unlink(path)
        return []

    def _drop(self, views: Sequence[NodeView]) -> None:
        self._remove_all([self.temporary(view) for view in views])

    def _relative(self, view: NodeView) -> str | None:
        parent = self._index.path(view.parent) if view.parent != ROOT else ""
        if parent is None:
            return None
        return f"{parent}/{view.name}" if parent else view.name


def _failed(result: Signature | OSError | None) -> bool:
    return not isinstance(result, Signature)


def _record(view: NodeView, signature: Signature) -> LocalNode:
    content = view.version.content
    assert content is not None
    return LocalNode(view.id, view.parent, view.name, "file", view.version.id, content, signature, view.copy_of)
