"""What was replaced or deleted is kept: how long, and in how little space.

A file that is replaced or removed is moved to `.shoal/versions`, which costs nothing and is safe at once. Later, here,
it is packed: its chunks become objects, files named by their id in `.shoal/objects`, each there once however many
versions have it, what is like the version before not even once (`deltas`), and the kept file becomes a list of them. A
file of one chunk stays as it is.

Keys after the folder's 16 bytes, in column `local`:
    v + name   [the folder's age when it was kept, in seconds]
    a          [the folder's age, wall clock in ms]
    p          [days of all, days of one a day, space]    the policy, where it is not the usual one
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Awaitable, Callable, Iterator, Sequence
from os.path import join

import cbor2
import trio

from shoal.crdt.model import CHUNK_REF_SIZE, FactId, FileContent, NodeId
from shoal.node.folder.arriving import Fetch, Landed
from shoal.node.folder.chunk_places import PACKED
from shoal.node.folder.deltas import BadDelta
from shoal.node.folder.disk import Disk, is_same, kind_of
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import OBJECTS, VERSIONS, LocalIndex
from shoal.node.folder.objects import DELTA, FRESH, Objects
from shoal.node.folder.packing import Packer, refs_of
from shoal.node.folder.problems import Problems
from shoal.node.folder.retention import Age, Kept, Policy, oldest_first, surplus
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica
from shoal.transfer.scheduler import URGENT

REST = 5.0  # seconds in which more that is replaced is waited for, before it is packed
PATIENCE = 300.0  # seconds for which packing gives way to what a person waits for
HOUR = 3600.0  # between two looks at what is past its time
SHARE = 10  # kept versions take a tenth of the disk at most, unless told otherwise

Read = Callable[[Sequence[bytes]], Awaitable[list[bytes | None]]]


class Keeper:
    """Looks after the kept versions of one folder."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        problems: Problems,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
        is_quiet: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_quiet`: whether the folder has nothing to do that a person waits for."""
        self._disk = disk
        self._turns = turns
        self._root = root
        self._index = index
        self._places = index.places
        self._staging = replica.staging
        self._replica = replica
        self._folder = replica.folder
        self._objects = Objects(disk, root)
        self._packer = Packer(disk, turns, root, index, self._objects, replica.content_key, problems, self._yield)
        self._is_quiet = is_quiet
        self._hurried = 0  # those that wait for what the packer has
        self._patient_until = 0.0
        self._problems = problems
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._unpacked: dict[str, bool] = {}  # names, and whether they are in `bytes`
        self._news = trio.Event()
        self._alone = trio.Lock()  # what is gathered is no orphan, and no object is both written and removed
        self._age: Age | None = None
        self.bytes = 0  # that kept versions take
        self._looked = False
        self._dropped = -HOUR  # when it was last looked for what is past its time
        index.places.on_kept = self._on_kept

    async def run(self) -> None:
        """Work until cancelled. Trouble with the disk is told, and tried again later."""
        try:
            while True:
                self._news = trio.Event()
                await self.work()
                with trio.move_on_after(HOUR):
                    await self._news.wait()
                    await trio.sleep(REST)
        finally:
            self._places.on_kept = lambda name: None

    async def work(self) -> None:
        """Do what is to be done now."""
        if not self._looked:
            async with self._alone:
                await self._look()
        await self._pack_all()
        if self._monotonic() - self._dropped >= HOUR or self.bytes > self._space():
            async with self._alone:
                await self._drop_surplus()

    # -- asked by others ---------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """How long versions are kept."""
        stored = self._staging.get("local", self._folder + b"p")
        return Policy(*cbor2.loads(stored)) if stored is not None else Policy()

    def set_policy(self, policy: Policy) -> None:
        """Keep versions by this policy from now on."""
        fields = [policy.all_days, policy.daily_days, policy.space]
        self._staging.put("local", self._folder + b"p", cbor2.dumps(fields))
        self._staging.commit()
        self._news.set()

    async def gather(self, name: str, chunks: bytes, read: Read, fetch: Fetch) -> list[bytes]:
        """Have all of these chunks, packed references, on this disk, kept under `name`; return those that nobody has.
        `read`: returns chunks from this disk, verified. None of them goes until who waits is next. Raises OSError."""
        self._hurried += 1
        try:
            async with self._alone:
                return await self._gather(name, chunks, read, fetch)
        finally:
            self._hurried -= 1

    async def _gather(self, name: str, chunks: bytes, read: Read, fetch: Fetch) -> list[bytes]:
        lacking: list[tuple[bytes, int]] = []
        wanted = dict(refs_of(chunks))
        ids = list(wanted)
        while ids:
            found = await read(ids)
            lacking += [(chunk, wanted[chunk]) for chunk, data in zip(ids, found, strict=False) if data is None]
            del ids[: len(found)]
        if not lacking:
            return []

        async def sink(landed: Landed) -> None:
            await self._turns.apart(self._write_objects, landed)

        gone = set(await fetch(lacking, sink, URGENT))
        got = [(chunk, size) for chunk, size in lacking if chunk not in gone]
        refs = b"".join(chunk + size.to_bytes(4) for chunk, size in got)
        await self._turns.apart(self._write_list, name + PACKED, refs)
        self._places.keep_chunks(name + PACKED, refs)
        self._stamp(name + PACKED)
        self._index.commit(sync=True)
        self.bytes += sum(size for _, size in got) + len(refs)
        return sorted(gone)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _on_kept(self, name: str) -> None:
        self._stamp(name)
        self._unpacked[name] = False
        self._news.set()

    def _stamp(self, name: str) -> None:
        if self._staging.get("local", self._folder + b"v" + name.encode()) is None:
            self._staging.put("local", self._folder + b"v" + name.encode(), cbor2.dumps([self._now()]))

    def _now(self) -> float:
        if self._age is None:
            stored = self._staging.get("local", self._folder + b"a")
            before = cbor2.loads(stored) if stored is not None else None
            self._age = Age(before, self._now_ms(), self._monotonic())
        return self._age.now(self._monotonic())

    async def _look(self) -> None:
        """Learn what is there: after a crash, or a repair of the store, the store may know less, or more."""
        try:
            found = await self._turns.apart(self._list_all)
        except OSError as error:
            self._problems.report(VERSIONS, error)
            return
        self._looked = True
        there, objects = found
        whole = True  # every list could be read
        for count, name in enumerate(sorted(there)):
            self._stamp(name)
            if name.endswith(PACKED):
                whole = self._learn_list(name, there) and whole
            else:
                self._unpacked[name] = True
            if count % 100 == 99:
                self._index.commit()
                await trio.lowlevel.checkpoint()
        for name in self._places.kept_names():
            if name not in there and self._disk.look_quietly(join(self._root, VERSIONS, name)) is None:
                self._forget(name)
        self._index.commit()
        self.bytes = sum(there.values()) + sum(objects.values())
        if whole and await self._learn_deltas(objects):
            await self._remove_orphans(objects)

    async def _learn_deltas(self, objects: dict[str, int]) -> bool:
        """Take note of what objects copy from; return whether all could be read."""
        names = {path.rpartition("/")[2] for path in objects}
        known = set(self._places.deltas())
        there = {chunk for name in names if name.endswith(DELTA) and (chunk := _id(name.removesuffix(DELTA)))}
        for chunk in known - there:
            self._places.set_bases(chunk, ())
        unknown = sorted(there - known)
        try:
            for at in range(0, len(unknown), 1000):
                for chunk, bases in await self._turns.apart(self._bases_of, unknown[at : at + 1000]):
                    self._places.set_bases(chunk, bases)
                self._index.commit()
        except OSError as error:
            self._problems.report(OBJECTS, error)
            return False
        self._index.commit()
        return True

    def _bases_of(self, chunks: Sequence[bytes]) -> list[tuple[bytes, frozenset[bytes]]]:
        found = []
        for chunk in chunks:
            with contextlib.suppress(BadDelta, FileNotFoundError):  # it cannot be read: it needs nothing
                delta = self._objects.delta(chunk)
                found.append((chunk, delta.bases if delta is not None else frozenset()))
        return found

    async def _remove_orphans(self, objects: dict[str, int]) -> None:
        """Remove what no version needs."""
        orphans: set[bytes] = set()
        for path, size in objects.items():
            chunk = _id(path.rpartition("/")[2].removesuffix(DELTA))
            rewritten = path.endswith(DELTA) and path.removesuffix(DELTA) in objects  # whole since
            if path.endswith(FRESH) or rewritten:
                with contextlib.suppress(OSError):
                    self._disk.fs.unlink(join(self._root, path))
                    self.bytes -= size
                    if rewritten and chunk is not None:
                        self._places.set_bases(chunk, ())
            elif chunk is not None and not self._places.has_object(chunk):
                orphans.add(chunk)
        await self._remove(orphans)

    async def _remove(self, objects: set[bytes]) -> None:
        freed = await self._packer.remove(objects)
        self.bytes -= freed

    def _learn_list(self, name: str, there: dict[str, int]) -> bool:
        """Take note of a packed version; return whether its list could be read."""
        if self._places.chunks_of(name) is None:
            try:
                self._places.keep_chunks(name, self._read_list(name))
            except OSError as error:
                self._problems.report(VERSIONS + name, error)
                return False
        packed = name.removesuffix(PACKED)
        if packed in there:  # a crash came before the file went that was packed: it is looked at again, and goes then
            chunks = self._places.chunks_of(name)
            if chunks is not None and self._places.chunks_of(packed) is None:
                self._places.keep_chunks(packed, chunks)
        return True

    def _forget(self, name: str) -> None:
        self._places.forget(name)
        self._staging.delete("local", self._folder + b"v" + name.encode())

    def _list_all(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the kept files by name, and the objects by relative path, with their sizes."""
        versions = {name: sign.size for name, sign in self._disk.list_directory(join(self._root, VERSIONS))}
        objects: dict[str, int] = {}
        for part, sign in self._disk.list_directory(join(self._root, OBJECTS)):
            if kind_of(sign) != "dir":
                objects[OBJECTS + part] = sign.size
                continue
            for name, found in self._disk.list_directory(join(self._root, OBJECTS, part)):
                objects[f"{OBJECTS}{part}/{name}"] = found.size
        return versions, objects

    async def _yield(self) -> None:
        while not (self._is_quiet() or self._hurried) and self._monotonic() < self._patient_until:  # noqa: ASYNC110
            await trio.sleep(0.5)

    async def _pack_all(self) -> None:
        self._patient_until = self._monotonic() + PATIENCE
        while self._unpacked:
            name, counted = next(iter(self._unpacked.items()))
            del self._unpacked[name]
            seen = self._disk.look_quietly(join(self._root, VERSIONS, name))
            chunks = self._places.chunks_of(name)
            if seen is None:
                continue
            if not counted:
                self.bytes += seen.size
            if chunks is not None and len(chunks) > CHUNK_REF_SIZE:
                try:
                    async with self._alone:
                        await self._pack(name, chunks, seen)
                except OSError as error:
                    self._problems.report(VERSIONS + name, error)

    async def _pack(self, name: str, chunks: bytes, seen: Signature) -> None:
        """Make objects of a kept file's chunks. The file goes last, so that a crash at any line leaves one or both."""
        path = join(self._root, VERSIONS, name)
        if seen.size != sum(size for _, size in refs_of(chunks)):
            return  # a program that had it open wrote to it: it stays as it is
        former = self._places.chunks_of(self._latest(name)) or b""
        made = await self._packer.make(name, chunks, former, as_kept=self._is_as_kept(name, seen))
        if made is None:
            return  # its bytes are not what they were: it stays as it is
        if self._disk.look_quietly(path + PACKED) is None:
            await self._turns.apart(self._write_list, name + PACKED, chunks)
            self.bytes += len(chunks)
        since = self._staging.get("local", self._folder + b"v" + name.encode())
        self._forget(name)
        self._places.keep_chunks(name + PACKED, chunks)
        self._staging.put("local", self._folder + b"v" + (name + PACKED).encode(), since or cbor2.dumps([self._now()]))
        self._index.commit(sync=True)
        self.bytes += made
        with contextlib.suppress(OSError):
            if is_same(self._disk.look(path), seen):
                self._disk.fs.unlink(path)
                self.bytes -= seen.size
            else:  # a program that had it open wrote to it meanwhile: that is nowhere else
                self._disk.fs.rename(path, f"{path}-{seen.inode}-{seen.ctime_ns}")

    def _is_as_kept(self, name: str, seen: Signature) -> bool:
        """Return whether size and time are those of the version that the name says: what a program that had the file
        open wrote to it since is nowhere else."""
        node, _, rest = name.partition("-")
        try:
            ids = NodeId(bytes.fromhex(node)), FactId(bytes.fromhex(rest.partition("-")[0]))
        except ValueError:
            return False
        version = self._replica.version(*ids)
        content = version.content if version is not None else None
        return isinstance(content, FileContent) and (content.size, content.mtime_ns) == (seen.size, seen.mtime_ns)

    def _latest(self, name: str) -> str:
        """Return the name of the last packed version of the file of which another is to be packed, "" without one."""
        prefix = self._folder + b"v" + name[:33].encode()
        rows = self._staging.scan("local", prefix)
        found = [(cbor2.loads(value)[0], key[17:].decode()) for key, value in rows]
        packed = [each for each in found if each[1].endswith(PACKED) and each[1] != name + PACKED]
        return max(packed)[1] if packed else ""

    def _write_objects(self, chunks: Landed) -> None:
        for chunk, data in chunks:
            self._objects.write(chunk, data)
        self._objects.sync()

    def _write_list(self, name: str, chunks: bytes) -> None:
        path = join(self._root, VERSIONS, name)
        self._disk.write_whole(path, join(self._root, OBJECTS, "list" + FRESH), chunks)

    def _read_list(self, name: str) -> bytes:
        path = join(self._root, VERSIONS, name)
        size = self._disk.fs.lstat(path).size
        data = self._disk.read_piece(path, 0, size)
        if data is None or size % CHUNK_REF_SIZE:
            raise OSError(errno.EIO, "the list of a kept version's chunks cannot be read")
        return data

    def _space(self) -> int:
        space = self.policy.space
        return space if space is not None else self._disk.fs.space(self._root)[1] // SHARE

    async def _drop_surplus(self) -> None:
        age = self._now()
        self._dropped = self._monotonic()
        assert self._age is not None
        state = self._age.state(self._now_ms(), self._monotonic())
        self._staging.put("local", self._folder + b"a", cbor2.dumps(list(state)))
        self._index.commit()
        kept = [Kept(name, name[:32], since) for name, since in self._stamps()]
        space = self._space()
        if not (surplus(kept, age, self.policy) or self._packer.left or self.bytes > space):
            return
        awaited = await self._awaited()
        kept = [version for version in kept if not self._holds_any(version.name, awaited)]
        gone = set()
        unneeded: set[bytes] = set()
        for version in surplus(kept, age, self.policy):
            gone.add(version.name)
            unneeded |= await self._drop(version.name)
        await self._remove(unneeded)
        for version in oldest_first(version for version in kept if version.name not in gone):
            if self.bytes <= space:
                break
            await self._remove(await self._drop(version.name))

    async def _awaited(self) -> set[bytes]:
        """Return the chunks kept here of contents that are to come to this disk yet: what is kept may be all there is
        of a version that was restored, or of a conflict copy."""
        found: set[bytes] = set()
        for count, node in enumerate(self._replica.dirty.all(), 1):
            for head in self._replica.heads(node):
                if isinstance(head.content, FileContent):
                    found.update(chunk for chunk, _ in head.content.refs() if next(self._places.kept(chunk), None))
            if count % 500 == 0:
                await trio.lowlevel.checkpoint()
        return found

    def _holds_any(self, name: str, chunks: set[bytes]) -> bool:
        return bool(chunks) and any(chunk in chunks for chunk, _ in refs_of(self._places.chunks_of(name) or b""))

    def _stamps(self) -> Iterator[tuple[str, float]]:
        for key, value in list(self._staging.scan("local", self._folder + b"v")):
            yield key[17:].decode(), cbor2.loads(value)[0]

    async def _drop(self, name: str) -> set[bytes]:
        """Remove a kept file; return the objects that no version needs any more."""
        chunks = self._places.chunks_of(name) or b""
        path = join(self._root, VERSIONS, name)
        seen = self._disk.look_quietly(path)
        try:
            self._disk.remove_quietly(path)
        except OSError as error:
            self._problems.report(VERSIONS + name, error)
            return set()
        self.bytes -= seen.size if seen is not None else 0
        self._forget(name)
        self._index.commit()
        await trio.lowlevel.checkpoint()
        objects = {chunk for chunk, _ in refs_of(chunks)} if name.endswith(PACKED) else set()
        return {chunk for chunk in objects if not self._places.has_object(chunk)}


def _id(text: str) -> bytes | None:
    """Return the chunk that a name says; None for what is not of this keeper's making."""
    try:
        chunk = bytes.fromhex(text)
    except ValueError:
        return None
    return chunk if len(chunk) == 32 else None
