"""Kept versions: packed, so that what they share is there once; safe at every line; gone when their time is up."""

from __future__ import annotations

import errno
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count

import pytest
import trio
import trio.testing
from tests.sim.device import InlineTurns, PowerCut, SimStore
from tests.sim.filesystem import SimFileSystem

from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.model import FileContent, FolderId, NodeId
from shoal.node.changes import Create
from shoal.node.folder.chunk_places import PACKED
from shoal.node.folder.disk import Disk, kind_of
from shoal.node.folder.keeping import HOUR, Keeper
from shoal.node.folder.local import LocalIndex, object_path
from shoal.node.folder.marker import make_marker
from shoal.node.folder.problems import Problems
from shoal.node.folder.reading import ChunkReader
from shoal.node.folder.retention import DAY, Policy
from shoal.node.replica import Replica
from shoal.transfer.chunking import chunk_id, pack_refs

ROOT, FOLDER = "/home", FolderId(b"f" * 16)
SIZE = 1000  # of a chunk here


class Shelf:
    """A folder whose kept versions are looked after; `start` is a start of the node."""

    def __init__(self) -> None:
        self.fs = SimFileSystem(lambda: 10**18, 1, 1 << 30)
        self.store = SimStore()
        self.disk = Disk(self.fs)
        self.fs.mkdir(ROOT)
        make_marker(self.disk, ROOT, FOLDER)
        self.passed = 0.0
        self.numbers = count()
        self.start()

    def start(self) -> None:
        key = DeviceKey(bytes(32))
        self.replica = Replica(
            self.store,
            FOLDER,
            FolderKeys.from_secret(b"s" * 32),
            key,
            lambda d: True,
            lambda: 0,
            random.Random(1).randbytes,
        )
        self.index = LocalIndex(self.replica.staging, FOLDER)
        ways = self.disk, InlineTurns(), ROOT, self.index, self.replica
        self.problems = Problems(lambda: 0)
        self.keeper = Keeper(*ways, self.problems, lambda: 0, lambda: self.passed)
        self.reader = ChunkReader(*ways)

    def keep(self, chunks: list[bytes]) -> str:
        """Have a file of these chunks replaced: what the engine does then."""
        key, data = self.replica.content_key, b"".join(chunks)
        refs = pack_refs([(chunk_id(key, chunk), len(chunk)) for chunk in chunks])
        name = f"{'ab' * 16}-{next(self.numbers):04}"
        self.disk.write_piece(f"{ROOT}/.shoal/versions/{name}", 0, data)
        self.fs.settle()
        self.index.places.keep(name, FileContent(len(data), 0o644, 0, refs))
        self.index.commit(sync=True)
        return name

    async def work(self, seconds: float = 0.0) -> None:
        """Let the keeper do its work; `seconds` pass before."""
        self.passed += seconds
        await self.keeper.work()

    async def has(self, chunks: list[bytes]) -> bool:
        ids = [chunk_id(self.replica.content_key, chunk) for chunk in chunks]
        return [bytes(data) for data in (await self.reader.read(ids))[0] if data is not None] == chunks

    def taken(self) -> int:
        """Return the bytes of all kept versions and objects."""
        whole = sum(sign.size for _, sign in self.fs.scan(f"{ROOT}/.shoal/versions"))
        objects = f"{ROOT}/.shoal/objects"
        parts = [f"{objects}/{part}" for part, sign in self.fs.scan(objects) if kind_of(sign) == "dir"]
        return whole + sum(sign.size for part in parts for _, sign in self.fs.scan(part))


def chunks(*seeds: int) -> list[bytes]:
    return [random.Random(seed).randbytes(SIZE) for seed in seeds]


LARGE = 300_000  # of a chunk that is cut into blocks


def edits(number: int) -> list[list[bytes]]:
    """Return versions of a file of two chunks: in each, another piece is written over, now in one and then in the
    other."""
    data = [random.Random(seed).randbytes(LARGE) for seed in (1, 2)]
    found = []
    for version in range(number):
        found.append([bytes(chunk) for chunk in data])
        at = random.Random(version).randrange(LARGE - 1000)
        chunk = data[version % 2]
        data[version % 2] = chunk[:at] + random.Random(-version - 1).randbytes(1000) + chunk[at + 1000 :]
    return found


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_what_versions_share_is_there_once(shelf: Shelf) -> None:
    for change in range(100):
        shelf.keep(chunks(*range(100, 150), change))
    await shelf.work()
    assert shelf.taken() < 1.1 * 151 * SIZE + 100 * 51 * 36
    assert await shelf.has(chunks(*range(150)))


async def test_a_chunk_that_changed_in_a_part_costs_little_more_than_that_part(shelf: Shelf) -> None:
    versions = edits(20)
    for version in versions:
        shelf.keep(version)
    await shelf.work()
    assert shelf.taken() == shelf.keeper.bytes < 2 * LARGE + 20 * LARGE // 2
    for version in versions:
        assert await shelf.has(version)


async def test_chunks_that_copy_from_others_outlive_a_restart_and_the_loss_of_the_store(shelf: Shelf) -> None:
    versions = edits(6)
    for version in versions:
        shelf.keep(version)
    await shelf.work()
    taken = shelf.taken()
    for store in (shelf.store, SimStore()):
        shelf.store = store
        shelf.start()
        await shelf.work()
        assert shelf.taken() == shelf.keeper.bytes == taken
        for version in versions:
            assert await shelf.has(version)


async def test_what_others_copy_from_goes_once_they_have_its_bytes(shelf: Shelf) -> None:
    shelf.keeper.set_policy(Policy(all_days=10, daily_days=10, space=None))
    versions = edits(8)
    for version in versions:
        shelf.keep(version)
        await shelf.work(2 * DAY)
    assert not await shelf.has(versions[0])
    for version in versions[4:]:
        assert await shelf.has(version)
    assert shelf.taken() == shelf.keeper.bytes < 2 * LARGE + 4 * LARGE
    await shelf.work(20 * DAY)
    assert shelf.taken() == shelf.keeper.bytes == 0


async def test_a_file_of_one_chunk_stays_a_file(shelf: Shelf) -> None:
    name = shelf.keep(chunks(1))
    await shelf.work()
    assert [found for found, _ in shelf.fs.scan(f"{ROOT}/.shoal/versions")] == [name]
    assert await shelf.has(chunks(1))


async def test_packed_versions_outlive_a_restart_and_the_loss_of_the_store(shelf: Shelf) -> None:
    shelf.keep(chunks(1, 2))
    await shelf.work()
    shelf.start()
    await shelf.work()
    assert await shelf.has(chunks(1, 2))
    shelf.store = SimStore()
    shelf.start()
    await shelf.work()
    assert await shelf.has(chunks(1, 2))


async def test_a_version_whose_time_is_up_takes_only_what_no_other_has(shelf: Shelf) -> None:
    shelf.keeper.set_policy(Policy(all_days=10, daily_days=10, space=None))
    shelf.keep(chunks(1, 2))
    await shelf.work()
    shelf.passed += 6 * DAY
    shelf.keep(chunks(2, 3))
    await shelf.work()
    await shelf.work(6 * DAY)
    assert await shelf.has(chunks(2, 3))
    assert not await shelf.has(chunks(1))
    assert shelf.taken() == shelf.keeper.bytes == 2 * (SIZE + 36)


async def test_the_oldest_versions_go_where_the_space_is_spent(shelf: Shelf) -> None:
    shelf.keeper.set_policy(Policy(space=6 * SIZE))
    for change in range(10):
        shelf.passed += 1
        shelf.keep(chunks(2 * change, 2 * change + 1))
    await shelf.work()
    await shelf.work()
    assert shelf.taken() == shelf.keeper.bytes <= 6 * SIZE
    assert await shelf.has(chunks(18, 19))
    assert not await shelf.has(chunks(0))


async def test_bytes_that_rotted_stay_as_they_are(shelf: Shelf) -> None:
    name = shelf.keep(chunks(1, 2))
    shelf.disk.write_piece(f"{ROOT}/.shoal/versions/{name}", 5, b"rot")
    await shelf.work()
    assert name in [found for found, _ in shelf.fs.scan(f"{ROOT}/.shoal/versions")]


def cut(shelf: Shelf, calls: int) -> Callable[[str, str], None]:
    """Return what counts system calls, and cuts the power after so many."""
    left = count(calls, -1)

    def on_call(name: str, path: str) -> None:
        if next(left) <= 0:
            shelf.store.dead = True
            raise PowerCut

    return on_call


async def dies(shelf: Shelf, calls: int, seconds: float = 0.0) -> bool:
    """Let the keeper work until the power is cut, and again after a start; return whether it was."""
    shelf.fs.settle()
    on_call = shelf.fs.on_call = cut(shelf, calls)
    shelf.store.on_write = partial(on_call, "store", "")
    died = False
    try:
        await shelf.work(seconds)
    except PowerCut:
        died = True
    shelf.fs.on_call = lambda name, path: None
    shelf.store.on_write = lambda: None
    if died:
        shelf.store.crash()
        shelf.fs.crash(random.Random(calls))
    shelf.store.dead = False
    shelf.start()
    await shelf.work()
    return died


@pytest.mark.parametrize("drop", [False, True])
async def test_a_power_cut_at_any_call_loses_no_version_that_is_to_stay(drop: bool) -> None:
    for calls in count():
        shelf = Shelf()
        shelf.keep(chunks(1, 2, 3))
        if drop:
            await shelf.work()
            shelf.passed += 6 * DAY
        shelf.keep(chunks(3, 4))
        if drop:
            await shelf.work()
            shelf.keeper.set_policy(Policy(10, 10))
            shelf.passed += 6 * DAY
        died = await dies(shelf, calls)
        assert await shelf.has(chunks(3, 4)), calls
        if not drop:
            assert await shelf.has(chunks(1, 2)), calls
        assert shelf.taken() == shelf.keeper.bytes, calls
        names = [name for name, _ in shelf.fs.scan(f"{ROOT}/.shoal/versions")]
        assert all(name.endswith(PACKED) for name in names), (calls, names)
        if not died:
            return


@pytest.mark.parametrize("drop", [False, True])
async def test_a_power_cut_at_any_call_loses_no_chunk_that_copies_from_another(drop: bool) -> None:
    versions = edits(5)
    for calls in count():
        shelf = Shelf()
        for version in versions[:4]:
            shelf.keep(version)
            if drop:
                await shelf.work()
                shelf.passed += DAY
        shelf.keep(versions[4])
        if drop:
            shelf.keeper.set_policy(Policy(all_days=2.5, daily_days=2.5, space=None))
            shelf.passed += HOUR
        stays = versions[2:] if drop else versions
        died = await dies(shelf, calls)
        for version in stays:
            assert await shelf.has(version), calls
        assert shelf.taken() == shelf.keeper.bytes, calls
        await shelf.work(9 * DAY)  # ages may have begun where they were last written down
        assert (shelf.taken() == 0) == drop, calls
        if not died:
            return


async def stumbles(shelf: Shelf, calls: int, seconds: float = 0.0) -> bool:
    """Let the keeper work while one system call fails; return whether one did."""
    left = count(calls, -1)

    def on_call(name: str, path: str) -> None:
        if next(left) == 0:
            raise OSError(errno.EIO, "the disk stumbles")

    shelf.fs.on_call = on_call
    await shelf.work(seconds)
    shelf.fs.on_call = lambda name, path: None
    return next(left) < 0


@pytest.mark.parametrize("goes_wrong", [dies, stumbles])
async def test_what_goes_wrong_while_the_bytes_of_what_goes_are_handed_on_leaves_nobody_without_them(
    goes_wrong: Callable[[Shelf, int, float], Awaitable[bool]],
) -> None:
    start, *_ = edits(1)
    key = Shelf().replica.content_key
    changed = (random.Random(seed).randbytes(1000).join((start[0][:-1000], b"")) for seed in range(2))
    one, other = ([chunk, start[1]] for chunk in sorted(changed, key=lambda chunk: chunk_id(key, chunk)))
    for calls in count():
        shelf = Shelf()
        shelf.keeper.set_policy(Policy(all_days=1, daily_days=6, space=None))
        for day in (one, other):  # each day it was `start` first, from which both come
            shelf.keep(start)
            await shelf.work(60)
            shelf.keep(day)
            await shelf.work(DAY)
        wrong = await goes_wrong(shelf, calls, DAY)
        shelf.keeper.set_policy(Policy(all_days=1, daily_days=4.5, space=None))
        await shelf.work(2 * DAY)
        await shelf.work(3600)
        assert await shelf.has(other), calls
        if not wrong:
            assert not await shelf.has(one)
            return


async def test_a_power_cut_while_a_lost_object_is_written_anew_loses_nothing() -> None:
    before, after = edits(2)
    for calls in count():
        shelf = Shelf()
        shelf.keep(before)
        shelf.keep(after)
        await shelf.work()
        shelf.fs.unlink(f"{ROOT}/{object_path(chunk_id(shelf.replica.content_key, before[0]))}")
        shelf.keep(before)
        died = await dies(shelf, calls)
        assert await shelf.has(before), calls
        assert await shelf.has(after), calls
        if not died:
            return


async def test_an_object_that_others_copy_from_is_written_anew_without_copying_from_them(shelf: Shelf) -> None:
    before, after = edits(2)
    shelf.keep(before)
    shelf.keep(after)
    await shelf.work()
    damaged = f"{ROOT}/{object_path(chunk_id(shelf.replica.content_key, before[0]))}"
    shelf.disk.write_piece(damaged, LARGE, b"too long by now, but what is copied from it is there")
    shelf.keep(before)
    await shelf.work()
    assert await shelf.has(before)
    assert await shelf.has(after)


async def test_what_is_copied_from_damaged_bytes_is_not_written_anew_and_keeps_what_it_has(shelf: Shelf) -> None:
    shelf.keeper.set_policy(Policy(all_days=10, daily_days=10, space=None))
    before, after = edits(2)
    shelf.keep(before)
    await shelf.work(6 * DAY)
    shelf.keep(after)
    await shelf.work()
    rotten = f"{ROOT}/{object_path(chunk_id(shelf.replica.content_key, before[0]))}"
    shelf.disk.write_piece(rotten, 0, b"rot")
    await shelf.work(5 * DAY)
    assert shelf.disk.look(rotten) is not None
    assert not await shelf.has(after)
    shelf.disk.write_piece(rotten, 0, before[0][:3])  # the disk came to its senses
    assert await shelf.has(after)
    shelf.start()
    await shelf.work()
    assert shelf.disk.look(rotten) is None
    assert await shelf.has(after)


async def test_where_there_is_no_room_to_hand_bytes_on_nothing_that_is_needed_goes(shelf: Shelf) -> None:
    shelf.keeper.set_policy(Policy(all_days=10, daily_days=10, space=1 << 30))
    before, after = edits(2)
    shelf.keep(before)
    await shelf.work(6 * DAY)
    shelf.keep(after)
    await shelf.work()
    room, shelf.fs.room = shelf.fs.room, shelf.fs.used
    await shelf.work(5 * DAY)
    assert await shelf.has(after)
    assert shelf.problems.all()
    assert shelf.taken() == shelf.keeper.bytes
    shelf.fs.room = room
    await shelf.work(3600)
    assert not shelf.problems.all()
    assert await shelf.has(after)
    assert shelf.taken() == shelf.keeper.bytes < 2 * LARGE + 3000


async def test_what_is_written_to_a_kept_file_through_an_open_descriptor_stays(shelf: Shelf) -> None:
    shelf.keep(chunks(1, 2))
    await shelf.work()
    grown = shelf.keep(chunks(1, 2))  # each of its chunks is an object already
    changed = shelf.keep(chunks(1, 2))
    shelf.disk.write_piece(f"{ROOT}/.shoal/versions/{grown}", 2 * SIZE, b"the last line of a log")
    shelf.disk.write_piece(f"{ROOT}/.shoal/versions/{changed}", 0, b"saved in place")
    await shelf.work()
    names = [name for name, _ in shelf.fs.scan(f"{ROOT}/.shoal/versions")]
    assert grown in names
    assert changed in names


async def test_an_object_that_was_lost_is_written_anew_from_the_next_version_that_has_it(shelf: Shelf) -> None:
    shelf.keep(chunks(1, 2, 3))
    await shelf.work()
    gone, cut = (f"{ROOT}/{object_path(chunk_id(shelf.replica.content_key, chunk))}" for chunk in chunks(1, 2))
    shelf.fs.unlink(gone)
    shelf.fs.unlink(cut)
    shelf.disk.write_piece(cut, 0, b"half of it")
    shelf.keep(chunks(1, 2, 4))
    await shelf.work()
    assert await shelf.has(chunks(1, 2, 3, 4))


async def test_what_the_document_waits_for_is_kept_whatever_the_policy(shelf: Shelf) -> None:
    for held in (chunks(1, 2), chunks(3)):
        shelf.keep(held)
        refs = pack_refs([(chunk_id(shelf.replica.content_key, chunk), len(chunk)) for chunk in held])
        content = FileContent(len(held) * SIZE, 0o644, 0, refs)
        shelf.replica.commit_wanted([Create(NodeId(bytes(16)), f"{len(held)}", "file", content)])
    shelf.keeper.set_policy(Policy(all_days=0, daily_days=0, space=1))
    await shelf.work()
    await shelf.work(2 * DAY)
    assert await shelf.has(chunks(1, 2, 3))
    shelf.replica.dirty.clean(shelf.replica.dirty.first(1)[0])
    shelf.replica.dirty.clean(shelf.replica.dirty.first(1)[0])
    await shelf.work(2 * DAY)
    assert shelf.taken() == 0


async def test_what_is_gathered_while_the_keeper_looks_at_everything_stays(shelf: Shelf) -> None:
    shelf.keep(chunks(1, 2))
    await shelf.work()
    shelf.start()
    key = shelf.replica.content_key
    refs = pack_refs([(chunk_id(key, chunk), SIZE) for chunk in chunks(7, 8)])

    async def read(ids: Sequence[bytes]) -> list[bytes | None]:
        return [None for _ in ids]

    async def fetch(
        wants: Sequence[tuple[bytes, int]], sink: Callable[..., Awaitable[None]], priority: int
    ) -> list[bytes]:
        await sink([(chunk_id(key, chunk), chunk) for chunk in chunks(7)])
        nursery.start_soon(shelf.work)
        await trio.testing.wait_all_tasks_blocked()
        await sink([(chunk_id(key, chunk), chunk) for chunk in chunks(8)])
        return []

    async with trio.open_nursery() as nursery:
        assert await shelf.keeper.gather("cd" * 16 + "-restored", refs, read, fetch) == []
    await shelf.work()
    assert await shelf.has(chunks(7, 8))
