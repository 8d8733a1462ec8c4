"""The parts of packs that one node holds: which, in the store; their bytes, in a back end; and that they are what they
were.

Key in column `pack`: b"held" + folder + pack + part (3) -> CBOR [size, root]; b"scrubbed" -> the key that was looked
at last. A row is written once the bytes are durable, and goes before them, so a row always has its bytes unless the
disk lost them; then `reconcile` says so. What is a part: see `sheet`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable

import cbor2
import trio

from shoal.node.packs.backend import Backend, BackendFailed, Missing, parse_name, piece_name
from shoal.node.store import Store, StoreFull
from shoal.transfer import merkle

HELD, SCRUBBED = b"held", b"scrubbed"
MARKER = "shoal-packs"  # is there with the first part: without it the place is another, or not there
SCRUB_REST = 3600.0  # seconds between two rounds

Part = tuple[bytes, int]
"""A pack's id, and which part of it."""


class Shelf:
    """Of one node. `on_damage`: told of a part, by folder, that is held no more, as its bytes were others."""

    def __init__(self, store: Store, backend: Backend, on_damage: Callable[[bytes, bytes, int], None]) -> None:
        self._store = store
        self._backend = backend
        self._on_damage = on_damage
        self._held: dict[bytes, dict[Part, int]] = {}
        self._used: Counter[bytes] = Counter()
        self._is_marked = False
        self._busy: dict[bytes, trio.Lock] = {}  # parts that are being kept, removed or looked at
        for key, value in store.scan("pack", HELD):
            self._note(key[4:20], _part_of(key), cbor2.loads(value)[0])

    # -- what is held ------------------------------------------------------------------------------------------------

    def folders(self) -> list[bytes]:
        """Return the folders of which anything is held."""
        return list(self._held)

    def held(self, folder: bytes) -> dict[Part, int]:
        """Return the parts that are held of a folder, with their sizes."""
        return dict(self._held.get(folder, {}))

    def count(self, folder: bytes) -> int:
        """Return how many parts are held of a folder."""
        return len(self._held.get(folder, {}))

    def holds_any(self, folder: bytes, pack: bytes) -> bool:
        """Return whether any part of a pack is held."""
        return any(each == pack for each, _ in self._held.get(folder, {}))

    def size(self, folder: bytes, pack: bytes, part: int) -> int | None:
        """Return a part's bytes, None where it is not held."""
        return self._held.get(folder, {}).get((pack, part))

    def root(self, folder: bytes, pack: bytes, part: int) -> bytes | None:
        """Return what a part's root was when it came, None where it is not held."""
        row = self._store.get("pack", _key(folder, pack, part))
        return bytes(cbor2.loads(row)[1]) if row is not None else None

    def used(self, folder: bytes) -> int:
        """Return the bytes that are held of a folder."""
        return self._used[folder]

    def used_all(self) -> int:
        """Return the bytes that are held in all."""
        return sum(self._used.values())

    def free(self) -> int | None:
        """Return how many bytes there is room for, None where nobody says."""
        return self._backend.free()

    # -- parts -------------------------------------------------------------------------------------------------------

    async def keep(self, folder: bytes, pack: bytes, part: int, root: bytes, data: bytes) -> None:
        """Hold a part from now on. Raises ValueError where it is not what the root says, StoreFull, BackendFailed."""
        if await trio.to_thread.run_sync(merkle.root_of, data) != root:
            raise ValueError("bytes that are not the piece")
        key = _key(folder, pack, part)
        async with self._lock(key):
            if not self._is_marked:
                await self._backend.put(MARKER, b"Shoal keeps pieces of packs here.\n")
                self._is_marked = True
            await self._backend.put(piece_name(folder, pack, part), data)
            self._store.write([("pack", key, cbor2.dumps([len(data), root]))], sync=True)
            self._note(folder, (pack, part), len(data))

    async def read(self, folder: bytes, pack: bytes, part: int, offset: int, length: int) -> bytes:
        """Return bytes of a part, as they are on disk. Raises Missing, BackendFailed."""
        return await self._backend.read(piece_name(folder, pack, part), offset, length)

    async def remove(self, folder: bytes, pack: bytes, part: int) -> None:
        """Hold a part no more. Raises StoreFull; BackendFailed where its bytes stay: the next start removes them."""
        key = _key(folder, pack, part)
        async with self._lock(key):
            self._store.write([("pack", key, None)], sync=True)
            self._forget(folder, (pack, part))
            await self._backend.remove(piece_name(folder, pack, part))

    async def remove_all(self, folder: bytes) -> None:
        """Hold nothing of a folder any more. Raises as `remove`."""
        for pack, part in self.held(folder):
            await self.remove(folder, pack, part)

    # -- whether all is well -----------------------------------------------------------------------------------------

    async def reconcile(self) -> int:
        """Have rows and bytes agree after a start, before anything is kept: a row without bytes is none, bytes
        without a row are removed. Return how many parts are gone. Raises BackendFailed where all of it is away, as of
        a disk that is not mounted."""
        there = dict(await self._backend.names())
        self._is_marked = MARKER in there
        if self._held and not self._is_marked:
            raise BackendFailed(
                f"nothing that is held is where it was: have its disk mounted; if it is gone for good, put a file named"
                f" {MARKER!r} there"
            )
        gone = 0
        for folder in self.folders():
            for (pack, part), size in self.held(folder).items():
                if there.pop(piece_name(folder, pack, part), None) != size:
                    self._store.write([("pack", _key(folder, pack, part), None)], sync=True)
                    self._forget(folder, (pack, part))
                    gone += 1
        for name in there:
            if parse_name(name) is not None:
                await self._backend.remove(name)
        return gone

    async def scrub(self, rate: int) -> None:
        """Read everything again and again, `rate` bytes a second; what is damaged is held no more. It goes on where it
        was before a restart. Until cancelled."""
        while True:
            last = self._store.get("pack", SCRUBBED) or b""
            keys = [_key(folder, *part) for folder in self.folders() for part in self.held(folder)]
            for key in sorted(key for key in keys if key > last):
                size = self.size(key[4:20], *_part_of(key)) or 0
                with contextlib.suppress(StoreFull, BackendFailed):
                    await self.check(key[4:20], *_part_of(key))
                    self._store.write([("pack", SCRUBBED, key)], sync=False)
                await trio.sleep(size / rate)
            with contextlib.suppress(StoreFull):
                self._store.write([("pack", SCRUBBED, None)], sync=False)
            await trio.sleep(SCRUB_REST)

    async def check(self, folder: bytes, pack: bytes, part: int) -> bool:
        """Return whether a part is what it was; one that is not is held no more. Raises StoreFull; BackendFailed where
        nobody can tell, or the bytes of what is held no more stay for now."""
        row = self._store.get("pack", _key(folder, pack, part))
        if row is None:
            return False
        size, root = cbor2.loads(row)
        try:
            data = await self._backend.read(piece_name(folder, pack, part), 0, size)
        except Missing:
            data = b""
        if len(data) == size and await trio.to_thread.run_sync(merkle.root_of, data) == root:
            return True
        if self.size(folder, pack, part) is not None:
            try:
                await self.remove(folder, pack, part)
            finally:
                if self.size(folder, pack, part) is None:
                    self._on_damage(folder, pack, part)
        return False

    def _lock(self, key: bytes) -> trio.Lock:
        self._busy = {each: lock for each, lock in self._busy.items() if lock.locked()}
        return self._busy.setdefault(key, trio.Lock())

    def _note(self, folder: bytes, part: Part, size: int) -> None:
        held = self._held.setdefault(folder, {})
        self._used[folder] += size - held.get(part, 0)
        held[part] = size

    def _forget(self, folder: bytes, part: Part) -> None:
        size = self._held.get(folder, {}).pop(part, None)
        self._used[folder] -= size or 0
        if not self._held.get(folder):
            self._held.pop(folder, None)


def _key(folder: bytes, pack: bytes, part: int) -> bytes:
    return HELD + folder + pack + part.to_bytes(3)


def _part_of(key: bytes) -> Part:
    return key[20:52], int.from_bytes(key[52:])
