"""Making objects of kept files, and removing those that no version needs.

Nothing that something copies from goes before that has the bytes for its own, durable. What an object may copy from is
in the store before its file says so, so after a crash the store knows too much, never too little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import join

import trio

from shoal.crdt.model import CHUNK_REF_SIZE
from shoal.node.folder.deltas import BadDelta, Delta, Neighbourhood, without
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import OBJECTS, VERSIONS, LocalIndex
from shoal.node.folder.objects import Objects
from shoal.node.folder.problems import Problems
from shoal.transfer.chunking import chunk_id

AT_ONCE = 8  # chunks, before it is looked whether there is something more urgent

Place = tuple[bytes, int, int]
"""A chunk's id, its offset in a file, its length."""


@dataclass(slots=True, eq=False)
class _Making:
    """A kept file on its way to objects. `known`: objects that should be there; `bases`: those that others copy from;
    `made`: those that were written, and what each copies from; `size`: bytes that this took."""

    name: str
    known: Collection[bytes]
    bases: Collection[bytes]
    near: Neighbourhood
    as_kept: bool
    sizes: dict[bytes, int] = field(default_factory=dict)
    made: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    size: int = 0


class Packer:
    """Writes and removes the objects of one folder. Who calls sees to it that only one call runs at a time."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        objects: Objects,
        key: bytes,
        problems: Problems,
        until_quiet: Callable[[], Awaitable[None]],
    ) -> None:
        """`until_quiet`: waits while there is something more urgent to do."""
        self._until_quiet = until_quiet
        self._disk = disk
        self._turns = turns
        self._root = root
        self._index = index
        self._places = index.places
        self._objects = objects
        self._key = key
        self._problems = problems
        self.left: set[bytes] = set()  # what was to be removed and could not be

    # -- making ------------------------------------------------------------------------------------------------------

    async def make(self, name: str, chunks: bytes, former: bytes, *, as_kept: bool) -> int | None:
        """Have objects of all of a kept file's chunks, durable; return how many bytes that took, None where the file
        does not hold these chunks. `former`: the chunks of a version before that is packed; `as_kept`: the file need
        not be read as a whole. What the objects copy from is staged. Raises OSError."""
        wanted = {chunk for chunk, _ in refs_of(chunks)}
        known: set[bytes] = set()
        bases: set[bytes] = set()
        for count, chunk in enumerate(wanted, 1):
            if self._places.users(chunk):
                bases.add(chunk)
            if chunk in bases or self._places.has_object(chunk):
                known.add(chunk)
            if count % 500 == 0:
                await trio.lowlevel.checkpoint()
        near = [place for place in _places(former) if place[0] not in wanted]
        making = _Making(name, known, bases, Neighbourhood(near, self._load), as_kept)
        places = list(_places(chunks))
        for at in range(0, len(places), AT_ONCE):
            await self._until_quiet()
            if not await self._turns.apart(self._make, making, places[at : at + AT_ONCE]):
                return None
        await self._turns.apart(self._objects.sync)
        for chunk, found in making.made.items():
            self._places.set_bases(chunk, found)
        return making.size

    def _make(self, making: _Making, places: Sequence[Place]) -> bool:
        """Write the objects that lack; return False, and nothing is left of all that were made, where the file does
        not hold a chunk."""
        made = making.made
        for chunk, offset, length in places:
            known = chunk in making.known
            lacks = chunk not in made and (not known or self._objects.sound_size(chunk, making.sizes) != length)
            if not lacks and making.as_kept:
                continue
            data = self._disk.read_piece(join(self._root, VERSIONS, making.name), offset, length)
            if data is None or chunk_id(self._key, data) != chunk:
                for orphan in made:
                    if orphan not in making.known:
                        self._objects.remove(orphan)
                return False
            if lacks:
                # What others copy from copies from nothing: else it might copy from them.
                delta = making.near.delta(data, offset) if chunk not in making.bases else None
                made[chunk] = delta.bases if delta is not None else frozenset()
                making.size += self._objects.write(chunk, data, delta, safely=known)
        return True

    def _load(self, chunk: bytes, length: int) -> tuple[int, bytes] | None:
        try:
            delta = self._objects.delta(chunk)
        except (BadDelta, OSError):
            return None
        data = self._objects.read(chunk, length)
        return (delta.rank if delta is not None else 0, data) if data is not None else None

    # -- removing ----------------------------------------------------------------------------------------------------

    async def remove(self, chunks: Collection[bytes]) -> int:
        """Remove objects, which no version needs, as far as what copies from them can do without; return by how many
        bytes less is on disk. Trouble is told: what it is about stays, and is tried again with the next."""
        gone = {chunk for chunk in (*chunks, *self.left) if not self._places.has_object(chunk)}
        self.left = set(gone)
        users = {user for chunk in gone for user in self._places.users(chunk)} - gone
        needed = self._below(users, gone)
        freed = await self._unlink(gone - needed)
        if not users:
            return freed
        try:
            deltas, planned = await self._turns.apart(self._plan, needed, users)
        except OSError as error:
            self._problems.report(OBJECTS, error)
            return freed
        for chunk, delta in planned.items():
            self._places.set_bases(chunk, {*self._places.bases(chunk), *delta.bases})
        self._index.commit(sync=True)
        grown, done, trouble = await self._turns.apart(self._rewrite, deltas, planned)
        if trouble is not None:
            self._problems.report(OBJECTS, trouble)
        else:
            self._problems.clear(OBJECTS)
        done |= users - planned.keys()  # whole by now; or lost, or its file says no more what it copied
        for chunk in done:
            self._places.set_bases(chunk, planned[chunk].bases if chunk in planned else ())
        self._index.commit(sync=True)
        return freed - grown + await self._unlink(needed - self._below(users - done, needed))

    def _below(self, users: Collection[bytes], gone: Collection[bytes]) -> set[bytes]:
        """Return those of `gone` that users copy from, directly or not."""
        found: set[bytes] = set()
        queue = list(users)
        while queue:
            bases = [base for base in self._places.bases(queue.pop()) if base in gone and base not in found]
            found.update(bases)
            queue += bases
        return found

    def _plan(self, gone: Collection[bytes], users: Collection[bytes]) -> tuple[dict[bytes, Delta], dict[bytes, Delta]]:
        """Return the deltas among these as they are, and what is to become of the users."""
        found = {}
        for chunk in (*gone, *users):
            try:
                delta = self._objects.delta(chunk)
            except (BadDelta, FileNotFoundError):
                continue  # it is lost, or damaged
            if delta is not None:
                found[chunk] = delta
        return found, without(gone, found)

    def _rewrite(
        self, before: Mapping[bytes, Delta], planned: Mapping[bytes, Delta]
    ) -> tuple[int, set[bytes], OSError | None]:
        """Write objects as they are to be; return by how many bytes more is on disk; which are as planned: not those
        whose bytes are damaged, which stay with all that they copy from; and what was in the way of the rest."""
        grown = 0
        done: set[bytes] = set()
        try:
            for chunk, delta in planned.items():
                if delta != before[chunk]:
                    data = self._objects.read(chunk, delta.size)
                    if data is None or chunk_id(self._key, data) != chunk:
                        continue
                    grown += self._objects.write(chunk, data, delta if delta.bases else None, safely=True)
                done.add(chunk)
        except OSError as error:
            return grown, done, error
        return grown, done, None

    async def _unlink(self, chunks: Collection[bytes]) -> int:
        if not chunks:
            return 0
        freed, removed, trouble = await self._turns.apart(self._unlink_all, sorted(chunks))
        if trouble is not None:
            self._problems.report(OBJECTS, trouble)
        self.left.difference_update(removed)
        for chunk in removed:
            self._places.set_bases(chunk, ())
        self._index.commit()
        return freed

    def _unlink_all(self, chunks: Sequence[bytes]) -> tuple[int, list[bytes], OSError | None]:
        freed = 0
        removed: list[bytes] = []
        for chunk in chunks:
            try:
                freed += self._objects.remove(chunk)
            except OSError as error:
                return freed, removed, error
            removed.append(chunk)
        return freed, removed, None


def refs_of(chunks: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield id and length of packed references."""
    for at in range(0, len(chunks), CHUNK_REF_SIZE):
        yield chunks[at : at + 32], int.from_bytes(chunks[at + 32 : at + CHUNK_REF_SIZE])


def _places(chunks: bytes) -> Iterator[Place]:
    at = 0
    for chunk, size in refs_of(chunks):
        yield chunk, at, size
        at += size
