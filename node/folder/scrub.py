"""Bit rot: reads a folder's files through, and finds bytes that are others although nobody wrote.

A file whose signature is as recorded and whose chunks are not has lost bits, or was written past its times. Such bytes
are never sent: the signature shows no edit, and no chunk goes out unverified. Here they are found, told as a problem of
the path, and left alone, until a person edits or removes the file, or asks for repair: then the right bytes are
fetched, and the wrong ones are kept in `.shoal/versions`. A pass is made when somebody asks, and slowly once in
30 days.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import trio

from shoal.crdt.model import ROOT, FileContent, NodeId
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import LocalIndex, LocalNode
from shoal.node.folder.problems import Problems
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica
from shoal.transfer.chunking import chunk_id, zero_chunks

EVERY_MS = 30 * 24 * 3600 * 1000
LOOK = 3600.0  # seconds between two looks at whether a pass is due
SHARE = 0.1  # of the time, that a pass nobody asked for may read
FILES = 200  # checked between two looks at what was found
PIECE = 16 * 1024 * 1024  # bytes checked at once

Found = Literal["right", "wrong", "changed", "unreadable"]
DAMAGE = "its bytes changed although nobody wrote to it: they are not sent; shoal scrub --repair fetches the right ones"
HOPELESS = "its bytes changed although nobody wrote to it, and no connected device has the right ones now"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the last pass is. `files`, `bytes`: read so far; `items`: nodes of the folder, folders included;
    `damaged`: paths, those found before included; `repaired`: paths; `skipped`: files that are being changed, or could
    not be read."""

    running: bool
    items: int
    files: int
    bytes: int
    skipped: int
    damaged: tuple[str, ...]
    repaired: tuple[str, ...]


@dataclass(slots=True)
class _Pass:
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    repaired: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a file: what its chunks should be, from `offset` on."""

    record: LocalNode
    path: str  # absolute
    offset: int
    refs: tuple[tuple[bytes, int], ...]
    zeros: frozenset[int]  # offsets of chunks that are known to be zeros

    @property
    def size(self) -> int:
        return sum(length for _, length in self.refs)


class FolderScrub:
    """Checks one folder. `restore` puts the right bytes of a node in place, and tells whether it could; `on_event`: a
    line for people."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        problems: Problems,
        restore: Callable[[NodeId], Awaitable[bool]],
        on_event: Callable[[str, str], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._disk = disk
        self._turns = turns
        self._root = root
        self._index = index
        self._replica = replica
        self._problems = problems
        self._restore = restore
        self._on_event = on_event
        self._now_ms = now_ms
        self._damaged: dict[NodeId, Signature] = {}  # what each damaged file looked like
        self._awake = trio.Event()
        self._suspects: set[NodeId] = set()
        self._asked = False
        self._repair = False
        self._scope: trio.CancelScope | None = None
        self._pass = _Pass()

    # -- asked by others ---------------------------------------------------------------------------------------------

    def ask(self, *, repair: bool) -> bool:
        """Have a pass begin; return False when one that was asked for runs already."""
        if self._asked:
            return False
        self._asked, self._repair = True, repair
        self._pass = _Pass()
        self._awake.set()
        if self._scope is not None:
            self._scope.cancel()  # the slow one
        return True

    def cancel(self) -> bool:
        """End the pass that runs; return whether one did."""
        running = self._asked
        self._asked = False
        if running and self._scope is not None:
            self._scope.cancel()
        return running

    def progress(self) -> Progress:
        """Return how far it is."""
        done = self._pass
        damaged = tuple(self._index.path(node) or node.hex() for node in self.damaged())
        return Progress(
            self._asked, self._index.count, done.files, done.bytes, done.skipped, damaged, tuple(done.repaired)
        )

    def damaged(self) -> list[NodeId]:
        """Return the files that are damaged, as far as is known, and were not changed since."""
        for node, signature in list(self._damaged.items()):
            record = self._index.get(node)
            if record is None or record.signature != signature:
                del self._damaged[node]
        return list(self._damaged)

    def suspect(self, paths: Iterable[str]) -> None:
        """Chunks were not where they should be in files, which are most often edited ones: have those looked at."""
        known = set(self.damaged())
        found = {node for path in paths if (node := self._index.find(path)) is not None} - known
        if found:
            self._suspects |= found
            self._awake.set()

    # -- the passes --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make passes as they are asked for or due, until cancelled."""
        self._scope = None
        if self._asked:  # the folder had stopped meanwhile
            self._awake.set()
        while True:
            with trio.move_on_after(LOOK):
                await self._awake.wait()
            self._awake = trio.Event()
            suspects, self._suspects = self._suspects, set()
            await self._check([record for node in suspects if (record := self._readable(node)) is not None])
            if self._asked:
                begun = self._pass
                with trio.CancelScope() as self._scope:
                    await self._whole(1.0)
                    if self._repair:
                        await self._mend()
                self._scope = None
                self._asked = self._asked and self._pass is not begun  # cancelled, and asked for anew
            elif self._is_due():
                self._pass = _Pass()
                with trio.CancelScope() as self._scope:
                    await self._whole(SHARE)
                self._scope = None

    def _is_due(self) -> bool:
        key = self._replica.folder + b"scrubbed"
        last = self._replica.staging.get("meta", key)
        if last is None:
            self._set_done()
        return last is not None and self._now_ms() - int.from_bytes(last) >= EVERY_MS

    def _set_done(self) -> None:
        self._replica.staging.put("meta", self._replica.folder + b"scrubbed", max(0, self._now_ms()).to_bytes(8))
        self._replica.staging.commit(sync=False)

    async def _whole(self, share: float) -> None:
        records = self._files()
        while True:
            start = time.monotonic()
            group = list(islice(records, FILES))
            if not group:
                break
            await self._check(group)
            if share < 1:
                await trio.sleep((time.monotonic() - start) * (1 / share - 1))
        self._set_done()

    def _files(self) -> Iterator[LocalNode]:
        """Yield the files, as they are known; the tree may change meanwhile."""
        folders = [ROOT]
        while folders:
            for node in sorted(self._index.children(folders.pop()).values()):
                known = self._index.get(node)
                if known is not None and known.kind == "dir":
                    folders.append(node)
                elif (record := self._readable(node)) is not None:
                    yield record

    def _readable(self, node: NodeId) -> LocalNode | None:
        """Return the record of a file that was read since it was last changed, as far as is known."""
        record = self._index.get(node)
        is_read = record is not None and isinstance(record.content, FileContent) and record.signature.ctime_ns
        return record if is_read else None

    async def _check(self, records: Sequence[LocalNode]) -> None:
        worst: dict[NodeId, Found] = {}
        for piece, found in await self._verified(records):
            node = piece.record.id
            if found == "wrong" or worst.get(node, "right") == "right":
                worst[node] = found
        for record in records:
            now = self._index.get(record.id)
            match worst.get(record.id, "right"):
                case _ if now != record:
                    self._pass.skipped += 1  # it was changed meanwhile
                case "changed" | "unreadable":
                    self._pass.skipped += 1
                case "wrong":
                    self._pass.files += 1
                    self._note(record)
                case _:
                    self._pass.files += 1
                    if self._damaged.pop(record.id, None) is not None:
                        self._problems.settled(record.id)

    async def _verified(self, records: Sequence[LocalNode]) -> list[tuple[_Piece, Found]]:
        found: list[tuple[_Piece, Found]] = []
        held: list[_Piece] = []
        for record in records:
            path = self._index.path(record.id)
            if path is None:
                continue
            for piece in _pieces(record, os.path.join(self._root, path), self._replica.content_key):
                held.append(piece)
                if sum(each.size for each in held) >= PIECE:
                    found += await self._read(held)
                    held = []
        return found + await self._read(held)

    async def _read(self, pieces: Sequence[_Piece]) -> list[tuple[_Piece, Found]]:
        results = await self._turns.run(self._look_at_all, pieces, lambda piece: piece.size)
        self._pass.bytes += sum(piece.size for piece in pieces)
        return list(zip(pieces, results, strict=True))

    def _look_at_all(self, pieces: Sequence[_Piece]) -> list[Found]:
        return [_look_at(self._disk, piece, self._replica.content_key) for piece in pieces]

    def _note(self, record: LocalNode) -> None:
        path = self._index.path(record.id) or record.name
        if self._damaged.get(record.id) != record.signature:
            self._damaged[record.id] = record.signature
            self._on_event("damaged", f"{path}: {DAMAGE}")
        self._problems.report(path, OSError(DAMAGE), record.copy_of or record.id)

    async def _mend(self) -> None:
        for node in self.damaged():
            path = self._index.path(node)
            record = self._index.get(node)
            if path is None or record is None:
                continue
            if await self._restore(node):
                self._damaged.pop(node, None)
                self._problems.settled(record.copy_of or node)
                self._pass.repaired.append(path)
                self._on_event(
                    "repaired", f"{path}: its right bytes are in place; the wrong ones are kept as a version"
                )
            else:
                self._problems.report(path, OSError(HOPELESS), record.copy_of or node)


def _pieces(record: LocalNode, path: str, key: bytes) -> Iterator[_Piece]:
    assert isinstance(record.content, FileContent)
    zeros = frozenset(zero_chunks(key, record.content.refs(), record.content.size))
    held: list[tuple[bytes, int]] = []
    at = size = 0
    for chunk, length in record.content.refs():
        held.append((chunk, length))
        size += length
        if size >= PIECE:
            yield _Piece(record, path, at, tuple(held), zeros)
            at, size, held = at + size, 0, []
    if held:
        yield _Piece(record, path, at, tuple(held), zeros)


def _look_at(disk: Disk, piece: _Piece, key: bytes) -> Found:
    """Say whether the bytes are right; `changed` when the file is not what was recorded."""
    try:
        file = disk.fs.open(piece.path, "read")
    except FileNotFoundError:
        return "changed"
    except OSError:
        return "unreadable"
    try:
        if file.stat() != piece.record.signature:
            return "changed"
        at, right = piece.offset, True
        for chunk, length in piece.refs:
            # A hole has no bits to lose.
            if not (at in piece.zeros and file.next_data(at) >= at + length):
                right = right and chunk_id(key, file.read(length, at)) == chunk
            at += length
        if file.stat() != piece.record.signature:
            return "changed"
        return "right" if right else "wrong"
    except OSError:
        return "unreadable"
    finally:
        file.close()
