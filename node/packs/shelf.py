"""The pieces that one node holds: which, in the store; their bytes, in a back end; and that they are what they were.

Key in column `pack`: b"held" + folder + pack + index (1) -> CBOR [size, root]. A row is written once the bytes are
durable, and goes before them, so a row always has its bytes unless the disk lost them; then `reconcile` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import cbor2
import trio

from shoal.node.packs.backend import Backend, BackendFailed, Missing, parse_name, piece_name
from shoal.node.store import Store
from shoal.transfer import merkle

HELD = b"held"
MARKER = "shoal-packs"  # is there with the first piece: without it the place is another, or not there
SCRUB_REST = 3600.0  # seconds between two rounds

Piece = tuple[bytes, int]
"""A pack's id, and an index."""


class Shelf:
    """Of one node. `on_damage`: told of a piece, by folder, that is held no more, as its bytes were others."""

    def __init__(self, store: Store, backend: Backend, on_damage: Callable[[bytes, bytes, int], None]) -> None:
        self._store = store
        self._backend = backend
        self._on_damage = on_damage
        self._held: dict[bytes, dict[Piece, int]] = {}
        self._used: Counter[bytes] = Counter()
        self._is_marked = False
        for key, value in store.scan("pack", HELD):
            self._note(key[4:20], (key[20:52], key[52]), cbor2.loads(value)[0])

    # -- what is held ------------------------------------------------------------------------------------------------

    def folders(self) -> list[bytes]:
        """Return the folders of which anything is held."""
        return list(self._held)

    def held(self, folder: bytes) -> dict[Piece, int]:
        """Return the pieces that are held of a folder, with their sizes."""
        return dict(self._held.get(folder, {}))

    def indexes(self, folder: bytes, pack: bytes) -> list[int]:
        """Return which pieces of a pack are held."""
        return [index for index in range(128) if (pack, index) in self._held.get(folder, {})]

    def size(self, folder: bytes, pack: bytes, index: int) -> int | None:
        """Return a piece's bytes, None where it is not held."""
        return self._held.get(folder, {}).get((pack, index))

    def root(self, folder: bytes, pack: bytes, index: int) -> bytes | None:
        """Return what a piece's root was when it came, None where it is not held."""
        row = self._store.get("pack", _key(folder, pack, index))
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

    # -- pieces ------------------------------------------------------------------------------------------------------

    async def keep(self, folder: bytes, pack: bytes, index: int, root: bytes, data: bytes) -> None:
        """Hold a piece from now on. Raises ValueError where it is not what the root says, StoreFull, BackendFailed."""
        if await trio.to_thread.run_sync(merkle.root_of, data) != root:
            raise ValueError("bytes that are not the piece")
        if not self._is_marked:
            await self._backend.put(MARKER, b"Shoal keeps pieces of packs here.\n")
            self._is_marked = True
        await self._backend.put(piece_name(folder, pack, index), data)
        self._store.write([("pack", _key(folder, pack, index), cbor2.dumps([len(data), root]))], sync=True)
        self._note(folder, (pack, index), len(data))

    async def read(self, folder: bytes, pack: bytes, index: int, offset: int, length: int) -> bytes:
        """Return bytes of a piece, as they are on disk. Raises Missing, BackendFailed."""
        return await self._backend.read(piece_name(folder, pack, index), offset, length)

    async def remove(self, folder: bytes, pack: bytes, index: int) -> None:
        """Hold a piece no more. Raises StoreFull, BackendFailed."""
        self._store.write([("pack", _key(folder, pack, index), None)], sync=True)
        self._forget(folder, (pack, index))
        await self._backend.remove(piece_name(folder, pack, index))

    async def remove_all(self, folder: bytes) -> None:
        """Hold nothing of a folder any more."""
        for pack, index in self.held(folder):
            await self.remove(folder, pack, index)

    # -- whether all is well -----------------------------------------------------------------------------------------

    async def reconcile(self) -> int:
        """Have rows and bytes agree after a start: a row without bytes is none, bytes without a row are removed. Return
        how many pieces are gone. Raises BackendFailed where all of it is away, as of a disk that is not mounted."""
        there = dict(await self._backend.names())
        self._is_marked = MARKER in there
        if self._held and not self._is_marked:
            raise BackendFailed(
                f"nothing that is held is where it was: have its disk mounted; if it is gone for good, put a file named"
                f" {MARKER!r} there"
            )
        gone = 0
        for folder in self.folders():
            for (pack, index), size in self.held(folder).items():
                if there.pop(piece_name(folder, pack, index), None) != size:
                    self._store.write([("pack", _key(folder, pack, index), None)], sync=True)
                    self._forget(folder, (pack, index))
                    gone += 1
        for name in there:
            if parse_name(name) is not None:
                await self._backend.remove(name)
        return gone

    async def scrub(self, rate: int) -> None:
        """Read everything again and again, `rate` bytes a second; what is damaged is held no more. Until cancelled."""
        while True:
            for folder in self.folders():
                for (pack, index), size in self.held(folder).items():
                    await self.check(folder, pack, index)
                    await trio.sleep(size / rate)
            await trio.sleep(SCRUB_REST)

    async def check(self, folder: bytes, pack: bytes, index: int) -> bool:
        """Return whether a piece is what it was; one that is not is held no more."""
        row = self._store.get("pack", _key(folder, pack, index))
        if row is None:
            return False
        size, root = cbor2.loads(row)
        try:
            data = await self._backend.read(piece_name(folder, pack, index), 0, size)
        except Missing:
            data = b""
        except BackendFailed:
            return True  # nobody can tell
        if len(data) == size and await trio.to_thread.run_sync(merkle.root_of, data) == root:
            return True
        if self.size(folder, pack, index) is not None:
            await self.remove(folder, pack, index)
            self._on_damage(folder, pack, index)
        return False

    def _note(self, folder: bytes, piece: Piece, size: int) -> None:
        held = self._held.setdefault(folder, {})
        self._used[folder] += size - held.get(piece, 0)
        held[piece] = size

    def _forget(self, folder: bytes, piece: Piece) -> None:
        size = self._held.get(folder, {}).pop(piece, None)
        self._used[folder] -= size or 0
        if not self._held.get(folder):
            self._held.pop(folder, None)


def _key(folder: bytes, pack: bytes, index: int) -> bytes:
    return HELD + folder + pack + bytes([index])
