"""One folder's packs, as one node has them: its board, what it comes to, and what this node says on it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from shoal.crdt import codec
from shoal.crdt.board import Board
from shoal.crdt.folder_statements import rank
from shoal.crdt.keys import FolderKeys, Unsealable, open_sealed, seal
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.packs.ledger import Ledger
from shoal.node.packs.rows import PackedChunks, StoredBoard
from shoal.node.packs.sheet import (
    DECLARED,
    DROPPED,
    FAILED,
    HOLDS,
    HOT,
    MOST_ZONES,
    POLICY_KEY,
    About,
    Declared,
    FolderPolicy,
)
from shoal.transfer.packs import PACK_SIZE
from shoal.transfer.placement import Policy

if TYPE_CHECKING:
    from shoal.node.packs.service import Packs
    from shoal.node.runtime import FolderRuntime

WRITER = rank("writer")
PLAIN_LAPSE = 600.0  # seconds for which a device that is behind still counts as having all of the folder
BEATS = 4  # times in a grace period that a device says that it is there
SLOWEST_BEAT = 600.0  # seconds
REF = 36  # bytes of a chunk in a sealed list
BARRED = 7 * 24 * 3600 * 1000  # milliseconds for which one that failed an audit holds nothing


class PackFolder:
    """The packs of one folder. `news`: set, and replaced by a new one, when the board changed."""

    def __init__(self, packs: Packs, folder: FolderId) -> None:
        self.packs = packs
        self.id = folder
        self.node = node = packs.node
        self.rows = StoredBoard(packs.store, folder)
        self.chunks = PackedChunks(packs.store, folder)
        self.board = Board(folder, node.key, self.rows, self._may_say)
        self.ledger = Ledger(self.board, self.says, self.is_present, self.is_believed)
        self.failed: dict[DeviceId, int] = {}  # when, Unix milliseconds
        self.news = trio.Event()
        self.scope = trio.CancelScope()
        self._heard: dict[DeviceId, float] = {}
        self._last_idle = -PLAIN_LAPSE
        self._said: tuple[bytes, float] = (b"", -1e9)
        self._pending = False
        self.rows.load(self.board)
        self.ledger.load()
        own = node.key.id
        for key in self.board.keys(own, FAILED):
            with contextlib.suppress(codec.Malformed, ValueError):
                (when,) = codec.decode(self.board.value(own, key) or b"", 16)
                self.failed[DeviceId(key[1:])] = when
        now = trio.current_time()
        self._heard |= dict.fromkeys(self.board.devices(), now)
        self.board.on_changed = self._changed

    # -- who is who --------------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> FolderRuntime | None:
        """The folder, where it is kept here as files."""
        return self.node.folders.get(self.id)

    @property
    def keys(self) -> FolderKeys | None:
        """The folder's keys, where this device has them."""
        entry = self.node.account.entry(self.id)
        return entry.keys() if entry is not None and entry.secrets else None

    @property
    def may_declare(self) -> bool:
        """Whether this device may say what packs there are."""
        return self.keys is not None and self.node.sharing.access.may_write(self.id)

    def says(self, device: DeviceId) -> bool:
        """Return whether what a device says of packs counts: it may write, or its sheet is from when it might."""
        role = self.node.sharing.access.role_of_device(device, self.id)
        return rank(role) >= WRITER or role == "none"

    def _may_say(self, device: DeviceId) -> bool:
        return self.node.sharing.access.may_sync(device, self.id)

    def is_present(self, device: DeviceId) -> bool:
        """Return whether a device was heard of within the grace period; as long as it has a part in the folder."""
        if not self._may_say(device):
            return False
        here = device == self.node.key.id or device in self.node.sessions
        return here or trio.current_time() - self._heard.get(device, -1e9) < self.ledger.policy().grace

    def is_believed(self, device: DeviceId) -> bool:
        """Return whether a device did not fail an audit of this one lately."""
        failed = self.failed.get(device)
        return failed is None or abs(self.node.now_ms() - failed) > BARRED

    # -- the board ---------------------------------------------------------------------------------------------------

    def receive(self, device: DeviceId, message: list[Any]) -> None:
        """Take what a peer said. Raises Malformed."""
        answers, told = self.board.receive(device, message)
        session = self.node.sessions.get(device)
        for answer in answers if session is not None else ():
            assert session is not None
            session.tell_board(self.id, answer)
        for each in told:
            self._tell(each, but=device)

    def _tell(self, message: list[Any], but: DeviceId | None = None) -> None:
        for device, session in self.node.sessions.items():
            if device != but:
                session.tell_board(self.id, message)

    def _changed(self, device: DeviceId, changes: Mapping[bytes, bytes | None]) -> None:
        self._heard[device] = trio.current_time()
        self.ledger.follow(device, changes)
        for key, value in changes.items():
            if key[:1] == DECLARED:
                self._place(key[1:], value)
            elif key[:1] == DROPPED and value is not None:
                self._unplace(key[1:])
            elif key[:1] == FAILED and value is not None and device != self.node.key.id:
                self.packs.suspect(self.id, DeviceId(key[1:]))
        self.wake()

    def _place(self, pack: bytes, value: bytes | None) -> None:
        """Note where a new pack's chunks are."""
        with contextlib.suppress(codec.Malformed):
            known = value is not None and not self.ledger.is_dropped(pack)
            found = self.chunks_of(pack, Declared.decode(value or b"")) if known else None
            if found is not None:
                self.chunks.add(pack, found)

    def _unplace(self, pack: bytes) -> None:
        """Note that a pack was dropped."""
        declared = self.ledger.declared(pack) if self.ledger.is_dropped(pack) else None
        found = self.chunks_of(pack, declared) if declared is not None else None
        if found is not None:
            self.chunks.remove(pack, found)

    def chunks_of(self, pack: bytes, declared: Declared) -> list[tuple[bytes, int]] | None:
        """Return a pack's chunks with their sealed sizes; None where they cannot be read here, or make no sense."""
        keys = self.keys
        key = keys.log_of(declared.epoch) if keys is not None else None
        if key is None:
            return None
        try:
            refs = open_sealed(key, declared.sealed, self.id + pack)
        except Unsealable:
            return None
        found = [(refs[at : at + 32], int.from_bytes(refs[at + 32 : at + REF])) for at in range(0, len(refs), REF)]
        return found if len(refs) % REF == 0 and sum(size for _, size in found) == declared.size else None

    def seal_chunks(self, pack: bytes, chunks: list[tuple[bytes, int]], keys: FolderKeys) -> bytes:
        """Return the sealed list of a pack's chunks."""
        return seal(keys.log, b"".join(chunk + size.to_bytes(4) for chunk, size in chunks), self.id + pack)

    def wake(self) -> None:
        """Have all look whether there is something to do."""
        self.news.set()
        self.news = trio.Event()

    # -- what this node says -----------------------------------------------------------------------------------------

    def declare(self, pack: bytes, declared: Declared) -> None:
        """Say that there is a pack."""
        self._put(DECLARED + pack, declared.encode())

    def drop(self, pack: bytes) -> None:
        """Say that a pack is none any more: all of it that counts is in others, which are held."""
        self._put(DROPPED + pack, codec.encode([self.node.now_ms()]))
        if self.board.has(self.node.key.id, DECLARED + pack):
            self.board.remove(DECLARED + pack)

    def claim(self, pack: bytes, index: int, *, held: bool) -> None:
        """Say that this device holds a piece, or holds it no more."""
        key = HOLDS + pack + bytes([index])
        if held:
            self._put(key, b"")
        else:
            self.board.remove(key)
            self._pending = True

    def fail(self, device: DeviceId) -> None:
        """Say that a device failed an audit."""
        self.failed[device] = self.node.now_ms()
        self._put(FAILED + device, codec.encode([self.failed[device]]))
        self.ledger.generation += 1
        self.publish()
        self.wake()

    def forgive(self, device: DeviceId) -> None:
        """Believe a device again."""
        if self.failed.pop(device, None) is not None:
            self.board.remove(FAILED + device)
            self._pending = True
            self.ledger.generation += 1
            self.publish()

    def set_policy(self, policy: Policy, grace: int) -> FolderPolicy:
        """Say how the folder's packs are to be held."""
        made = FolderPolicy(policy, grace, max(self.node.now_ms(), self.ledger.policy().time_ms + 1))
        self._put(POLICY_KEY, made.encode())
        self.publish()
        return made

    def say_hot(self, packs: Mapping[bytes, list[str]]) -> None:
        """Say which packs are read much from here, and from which zones."""
        own = self.node.key.id
        for key in self.board.keys(own, HOT):
            if key[1:] not in packs:
                self.board.remove(key)
                self._pending = True
        for pack, zones in packs.items():
            value = codec.encode(sorted(zones)[:MOST_ZONES])
            if self.board.value(own, HOT + pack) != value:
                self._put(HOT + pack, value)
        self.publish()

    def _put(self, key: bytes, value: bytes) -> None:
        self.board.put(key, value)
        self._pending = True

    def publish(self) -> None:
        """Say what is new, or that this device is there, where that is due. Raises StoreFull."""
        about = self._about().encode()
        said, at = self._said
        now = trio.current_time()
        if not self._pending and about == said and now - at < min(SLOWEST_BEAT, self.ledger.policy().grace / BEATS):
            return
        if not self._pending and self.board.record(self.node.key.id) is None and not self._has_something_to_say():
            return
        self._said = about, now
        self._pending = False
        self._tell(self.board.publish(about, self.node.now_ms()))

    def _has_something_to_say(self) -> bool:
        about = self._about()
        return about.plain or about.offer > 0

    def _about(self) -> About:
        offer = self.packs.offer_for(self.id)
        is_full = offer > 0 and self.packs.room(self.id) < PACK_SIZE
        return About(self.packs.offer.zone, offer, self.is_plain(), self.packs.online(), is_full)

    def is_plain(self) -> bool:
        """Return whether this device has all of the folder as files, or had a moment ago."""
        runtime = self.runtime
        if runtime is None:
            return False
        engine = runtime.engine
        if engine.one_way.mode != "both" or engine.selection.is_used:
            return False
        now = trio.current_time()
        if engine.is_idle() and runtime.replica.frontier:
            self._last_idle = now
        return now - self._last_idle < PLAIN_LAPSE

    def erase(self) -> None:
        """Forget the folder's packs."""
        self.scope.cancel()
        self.rows.erase()
