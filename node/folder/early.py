"""Chunks of large files that come before the entry which says what they are for: while their sender reads the file.

They are written where they will be in the file, to `.shoal/tmp/<number>.early`. When the entry is here, that
becomes the file's temporary, and what is under way to it goes on. What nobody needs after all is removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from sortedcontainers import SortedDict

from shoal.crdt.model import DeviceId, FileContent, NodeId
from shoal.node.folder.arriving import Arriving, Fetch, Landed
from shoal.node.folder.coming import MOST, Coming, Piece
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import PRIVATE, LocalIndex
from shoal.node.folder.prefilled import places

ENDING = ".early"
PRIORITY = 1_000_000  # after all that is known to be needed
UPLOADS = 8  # that come at a time
SPARE = 0.25  # of the free disk may be filled by what nobody asked for,
LEAVE = 1 << 30  # but for so many bytes of it
QUIET = 60.0  # seconds without news after which the file is not waited for, if there is nothing else to do
LOOK = 5.0  # seconds


@dataclass(slots=True, eq=False)
class Upload:
    """A file that comes early. `path`: where it is written; `places`: offset -> (chunk, length) of what comes, no two
    of which overlap; `landed`: the offsets of what is there."""

    path: str
    places: SortedDict[int, tuple[bytes, int]] = field(default_factory=SortedDict)
    landed: set[int] = field(default_factory=set)
    came: list[tuple[int, bytes, bytes | memoryview]] = field(default_factory=list)  # and is not written yet
    lock: trio.Lock = field(default_factory=trio.Lock)  # held by who writes, or renames
    scopes: set[trio.CancelScope] = field(default_factory=set)  # of the fetches that run
    news: trio.Event = field(default_factory=trio.Event)
    told: int = 0  # pieces, good ones or not
    heard: float = 0.0
    failed: OSError | None = None

    @property
    def offsets(self) -> set[int]:
        """What is there, or under way."""
        return set(self.places)

    def take(self, piece: Piece) -> bool:
        """Add a piece; return False where it is known, or would write over another."""
        at, chunk, length = piece
        after = self.places.bisect_left(at)
        if after < len(self.places) and self.places.keys()[after] < at + length:
            return False
        if after:
            before = self.places.keys()[after - 1]
            if before + self.places[before][1] > at:
                return False
        self.places[at] = chunk, length
        return True

    def tell(self) -> None:
        """Wake who waits for the rest."""
        self.news.set()
        self.news = trio.Event()

    async def rest(self) -> list[Piece]:
        """Wait for what is under way; return what nobody has. Raises OSError where it could not be written."""
        while self.scopes and self.failed is None and not self.landed.issuperset(self.places):
            await self.news.wait()
        if self.failed is not None:
            raise self.failed
        return [(at, *place) for at, place in self.places.items() if at not in self.landed]


class Early:
    """What comes early to one folder."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        fetch: Fetch,
        wants: Callable[[NodeId], bool],
    ) -> None:
        """`wants`: whether what is new there is to be on this disk."""
        self._disk = disk
        self._turns = turns
        self._root = root
        self._temporaries = os.path.join(root, PRIVATE, "tmp")
        self._index = index
        self._fetch = fetch
        self._wants = wants
        self._uploads: dict[tuple[DeviceId, bytes], Upload] = {}
        self._nursery: trio.Nursery | None = None
        self._count = 0
        self.arriving = Arriving()

    async def run(self, is_idle: Callable[[], bool]) -> None:
        """Fetch until cancelled. `is_idle`: whether no entry waits to be followed."""
        self._uploads.clear()
        await self._turns.apart(self._remove_old)
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await trio.sleep(LOOK)
                    for key, upload in list(self._uploads.items()):
                        is_late = trio.current_time() > upload.heard + QUIET
                        if upload.failed is not None or (is_late and is_idle()):
                            del self._uploads[key]
                            await self._drop(upload)
        finally:
            self._nursery = None

    def on_coming(self, device: DeviceId, coming: Coming) -> None:
        """Another device reads a file that this one may need."""
        if self._nursery is None or not self._wants(coming.near):
            return
        upload = self._uploads.get((device, coming.upload))
        if upload is None:
            if len(self._uploads) >= UPLOADS or not coming.pieces:
                return
            upload = self._uploads[device, coming.upload] = Upload(self._new_path())
        upload.heard = trio.current_time()
        pieces = [piece for piece in coming.pieces[: MOST - upload.told] if self._is_new(piece[1])]
        upload.told = min(MOST, upload.told + len(coming.pieces))
        if sum(length for _, _, length in pieces) > self._spare() or upload.failed is not None:
            return
        taken = [piece for piece in pieces if upload.take(piece)]
        if taken:
            upload.scopes.add(scope := trio.CancelScope())
            self._nursery.start_soon(self._bring, upload, taken, scope)

    def landed_of(self, content: FileContent) -> int:
        """Return how many bytes of a content are there already."""
        upload = self._best(content)
        return sum(length for at, (_, length) in upload.places.items() if at in upload.landed) if upload else 0

    async def adopt(self, content: FileContent, temporary: str, zeros: dict[int, int]) -> Upload | None:
        """Have what came early of a content be its temporary, and what is under way come to it; None where nothing
        did. Raises OSError. The caller ends it."""
        upload = self._best(content)
        if upload is None:
            return None
        self._uploads = {key: each for key, each in self._uploads.items() if each is not upload}
        async with upload.lock:
            right = places(content)
            for at in [at for at, place in upload.places.items() if right.get(at) != place]:
                del upload.places[at]
            upload.landed &= upload.places.keys()
            await self._turns.apart(self._rename, upload.path, temporary, zeros)
            self.arriving.rename(self._relative(upload.path), self._relative(temporary))
            upload.path = temporary
        return upload

    async def end(self, upload: Upload) -> None:
        """Nothing more is to be written to what was adopted."""
        for scope in upload.scopes:
            scope.cancel()
        with trio.CancelScope(shield=True):  # a write that runs is not stopped by that
            async with upload.lock:
                upload.places.clear()

    def _is_new(self, chunk: bytes) -> bool:
        return next(iter(self._index.sources(chunk)), None) is None and not self.arriving.has(chunk)

    def _spare(self) -> int:
        under_way: int = sum(
            length
            for upload in self._uploads.values()
            for at, (_, length) in upload.places.items()
            if at not in upload.landed
        )
        free, _ = self._disk.fs.space(self._root)
        return int((free - LEAVE) * SPARE) - under_way

    def _new_path(self) -> str:
        self._count += 1
        return os.path.join(self._temporaries, f"{self._count}{ENDING}")

    def _best(self, content: FileContent) -> Upload | None:
        """Return the upload that has most of a content, None where none has anything."""
        if not self._uploads:
            return None
        right = places(content)
        best, most = None, 0
        for upload in self._uploads.values():
            found = sum(right.get(at) == place for at, place in upload.places.items())
            if found > most and upload.failed is None:
                best, most = upload, found
        return best

    async def _bring(self, upload: Upload, pieces: list[Piece], scope: trio.CancelScope) -> None:
        async def sink(landed: Landed) -> None:
            upload.came += [(offset, chunk, data) for chunk, data in landed for offset in at[chunk]]
            async with upload.lock:
                await self._write(upload)  # for all who wait for that, at once

        at: dict[bytes, list[int]] = {}
        for offset, chunk, _ in pieces:
            at.setdefault(chunk, []).append(offset)
        try:
            with scope:
                await self._fetch([(chunk, length) for _, chunk, length in pieces], sink, PRIORITY)
        except OSError as error:  # a full disk, most often: who needs the file will say so
            upload.failed = error
        finally:
            upload.scopes.discard(scope)
            upload.tell()

    async def _write(self, upload: Upload) -> None:
        came, upload.came = upload.came, []
        places = [each for each in came if upload.places.get(each[0]) == (each[1], len(each[2]))]
        if not places:
            return
        upload.heard = trio.current_time()
        await self._turns.apart(self._write_all, upload.path, [(offset, data) for offset, _, data in places])
        upload.landed.update(offset for offset, _, _ in places)
        path = self._relative(upload.path)
        self.arriving.add((chunk, (path, offset, len(data))) for offset, chunk, data in places)
        upload.tell()

    def _write_all(self, path: str, pieces: list[tuple[int, bytes | memoryview]]) -> None:
        self._disk.write_pieces(path, pieces, fresh=True, passing=True)

    def _rename(self, path: str, temporary: str, zeros: dict[int, int]) -> None:
        self._disk.remove_quietly(temporary)
        with contextlib.suppress(FileNotFoundError):  # nothing may have come yet
            self._disk.fs.rename(path, temporary)
        for at, length in zeros.items():
            self._disk.clear_piece(temporary, at, length)

    async def _drop(self, upload: Upload) -> None:
        await self.end(upload)
        self.arriving.drop(self._relative(upload.path))
        await self._turns.apart(self._disk.remove_quietly, upload.path)

    def _remove_old(self) -> None:
        for name in self._disk.fs.names(self._temporaries):
            if name.endswith(ENDING):
                self._disk.remove_quietly(os.path.join(self._temporaries, name))

    def _relative(self, path: str) -> str:
        return path[len(self._root) + 1 :]
