"""One folder's packs, as one node has them: its board, what it comes to, and what this node says on it."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import trio

from shoal.crdt import codec
from shoal.crdt.board import MOST_BYTES, Board
from shoal.crdt.folder_statements import rank
from shoal.crdt.keys import FolderKeys, Unsealable, open_sealed, seal
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.packs.forming import policy_of
from shoal.node.packs.ledger import Ledger, accused_by
from shoal.node.packs.rows import Listing, Packed, StoredBoard
from shoal.node.packs.sheet import (
    DECLARED,
    DROPPED,
    FAILED,
    HOLDS,
    HOT,
    MOST_SAID,
    MOST_ZONES,
    PART,
    POLICY_KEY,
    About,
    Declared,
    FolderPolicy,
)
from shoal.node.store import StoreFull
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
        self._rows = StoredBoard(packs.store, folder)
        self._rows.listing = self._listing
        self.board = Board(folder, node.key, self._rows, self._may_say, self._most_bytes)
        self.ledger = Ledger(self.board, self.says, self._reads, self.is_present, self.is_believed)
        self.news = trio.Event()
        self.scope = trio.CancelScope()
        self._last_idle = -PLAIN_LAPSE
        self._said: tuple[bytes, float] = (b"", -1e9)
        self._pending = False
        self._rows.load(self.board)
        now = trio.current_time()
        self._heard: dict[DeviceId, float] = dict.fromkeys(self.board.devices(), now)
        self.ledger.load()
        self.failed = accused_by(self.board, node.key.id)  # when, Unix milliseconds
        self._tried_to_list = (0, 0)  # how many, with how many keys
        self._unlisted = {pack for pack in self.ledger.packs() if not self._rows.is_listed(pack)}
        self.board.on_changed = self._changed
        self._say_what_is_held()

    def _say_what_is_held(self) -> None:
        """Have this device's sheet say that it holds what it holds: a crash, or a disk, came between."""
        own, kind = self.node.key.id, HOLDS
        said = {(key[1:33], int.from_bytes(key[33:])) for key in self.board.keys(own, kind)}
        held = set(self.packs.shelf.held(self.id))
        for pack, part in held - said:
            self.claim(pack, part, held=True)
        for pack, part in said - held:
            self.claim(pack, part, held=False)

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

    def _reads(self, device: DeviceId) -> bool:
        return self.node.sharing.access.may_read(device, self.id)

    def _most_bytes(self, device: DeviceId) -> int:
        return MOST_BYTES if self.says(device) else MOST_SAID

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

    def reachable(self) -> set[DeviceId]:
        """Return who can be asked now, this device included."""
        return {self.node.key.id, *self.node.sessions}

    def there(self, pack: bytes, part: int) -> list[DeviceId]:
        """Return who says to hold a part and can be asked now, this device first, the others in any order."""
        own, able = self.node.key.id, self.reachable()
        found = [device for device in self.ledger.holding(pack, part) if device in able]
        random.shuffle(found)
        return sorted(found, key=lambda device: device != own)

    # -- the board ---------------------------------------------------------------------------------------------------

    def receive(self, device: DeviceId, message: list[Any]) -> None:
        """Take what a peer said. Raises Malformed."""
        try:
            answers, told = self.board.receive(device, message)
        except StoreFull as error:
            self.packs.trouble(self, str(error))
            return
        session = self.node.sessions.get(device)
        for answer in answers if session is not None else ():
            assert session is not None
            session.tell_board(self.id, answer)
        for each in told:
            self._tell(each, but=device)
        self._pending |= self.board.is_behind

    def _tell(self, message: list[Any], but: DeviceId | None = None) -> None:
        for device, session in self.node.sessions.items():
            if device != but:
                session.tell_board(self.id, message)

    def _changed(self, device: DeviceId, changes: Mapping[bytes, bytes | None]) -> None:
        self._heard[device] = trio.current_time()
        self.ledger.follow(device, changes)
        for key, value in changes.items():
            kind, pack = key[:1], key[1:33]
            if kind == DECLARED and not self._rows.is_listed(pack) and self.ledger.is_pack(pack):
                self._unlisted.add(pack)
            elif kind == DROPPED and value is not None and device != self.node.key.id:
                self.packs.dropped(self.id, pack)
            elif kind == FAILED and value is not None and device != self.node.key.id:
                self.packs.suspect(self.id, DeviceId(key[1:]))
        self.wake()

    def policy_of(self, pack: bytes) -> Policy | None:
        """Return how a pack is to be held; None for what is none."""
        form = self.ledger.form(pack)
        return policy_of(form, self.ledger.policy()) if form is not None else None

    def wanted(self, pack: bytes) -> int:
        """Return how many holders the policy wants for a pack, beside the devices that have the files: one at least."""
        policy = self.policy_of(pack) or self.ledger.policy().policy
        return policy.pieces if policy.is_erasure else policy.copies - min(len(self.ledger.plain()), policy.copies - 1)

    def lacking(self, pack: bytes, claims: Mapping[bytes, Mapping[bytes, Collection[int]]]) -> int:
        """Return how many pieces a pack lacks of what the policy says; `claims`: what counts as held."""
        policy, held = self.policy_of(pack), claims.get(pack, {})
        if policy is None:
            return 0
        there = {index for indexes in held.values() for index in indexes} if policy.is_erasure else held.keys()
        return max(0, self.wanted(pack) - len(there))

    # -- what is in packs --------------------------------------------------------------------------------------------

    def places(self, chunk: bytes) -> Iterator[Packed]:
        """Yield where a chunk is packed."""
        return (place for place in self._rows.places(chunk) if self.ledger.form(place.pack) is not None)

    def is_packed(self, chunk: bytes) -> bool:
        """Return whether a chunk is in a pack."""
        return next(self.places(chunk), None) is not None

    def list_late(self) -> bool:
        """Note where the chunks of packs are whose list could not be read when they came; return whether any could be
        now."""
        entry = self.node.account.entry(self.id)
        tried = len(self._unlisted), len(entry.secrets) if entry is not None else 0
        if tried == self._tried_to_list:
            return False
        self._tried_to_list = tried
        done = set()
        for pack in self._unlisted if tried[1] else ():
            declared = self.ledger.declared(pack)
            if declared is None or self._rows.list_late(pack, declared.encode()):
                done.add(pack)
        self._unlisted -= done
        return bool(done)

    def gone(self, pack: bytes) -> list[bytes]:
        """Return the chunks of a pack that was just said to be none any more."""
        return [chunk for chunk, _ in self._rows.gone.get(pack) or self.chunks_of(pack) or []]

    def chunks_of(self, pack: bytes) -> Listing | None:
        """Return a pack's chunks with their sealed sizes; None where they cannot be read here, or make no sense."""
        declared = self.ledger.declared(pack)
        return self._opened(pack, declared) if declared is not None else None

    def _listing(self, pack: bytes, value: bytes) -> Listing | None:
        try:
            return self._opened(pack, Declared.decode(value))
        except codec.Malformed:
            return None

    def _opened(self, pack: bytes, declared: Declared) -> Listing | None:
        keys = self.keys
        key = keys.log_of(declared.epoch) if keys is not None else None
        if key is None:
            return None
        try:
            refs = open_sealed(key, declared.sealed, self.id + pack)
        except Unsealable:
            return None
        found = [(refs[at : at + 32], int.from_bytes(refs[at + 32 : at + REF])) for at in range(0, len(refs), REF)]
        return found if len(refs) % REF == 0 and sum(size for _, size in found) == declared.form.size else None

    def seal_chunks(self, pack: bytes, chunks: Listing, keys: FolderKeys) -> bytes:
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
        self._take_back(DECLARED + pack)

    def claim(self, pack: bytes, part: int, *, held: bool) -> None:
        """Say that this device holds a part of a pack, or holds it no more."""
        key = HOLDS + pack + part.to_bytes(PART)
        if held:
            self._put(key, b"")
        else:
            self._take_back(key)

    def fail(self, device: DeviceId) -> None:
        """Say that a device failed an audit."""
        self.failed[device] = self.node.now_ms()
        self._put(FAILED + device, codec.encode([self.failed[device]]))
        self.ledger.changes += 1
        self.publish()
        self.wake()

    def forgive(self, device: DeviceId) -> None:
        """Believe a device again."""
        if self.failed.pop(device, None) is not None:
            self._take_back(FAILED + device)
            self.ledger.changes += 1
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
                self._take_back(key)
        for pack, zones in packs.items():
            value = codec.encode(sorted(zones)[:MOST_ZONES])
            if self.board.value(own, HOT + pack) != value:
                self._put(HOT + pack, value)
        self.publish()

    def _put(self, key: bytes, value: bytes) -> None:
        self.board.put(key, value)
        self._pending = True

    def _take_back(self, key: bytes) -> None:
        self.board.remove(key)
        self._pending = True

    @property
    def beat(self) -> float:
        """Seconds between two times that a device says that it is there."""
        return min(SLOWEST_BEAT, self.ledger.policy().grace / BEATS)

    def publish(self) -> None:
        """Say what is new, or that this device is there, where that is due. On a full disk it is said later."""
        about = self._about().encode()
        said, at = self._said
        now = trio.current_time()
        if not self._pending and about == said and now - at < self.beat:
            return
        if not self._pending and self.board.record(self.node.key.id) is None and not self._has_something_to_say():
            return
        self._say(about)

    def _say(self, about: bytes) -> None:
        try:
            message = self.board.publish(about, self.node.now_ms())
        except StoreFull as error:
            self.packs.trouble(self, str(error))
            return
        self._said = about, trio.current_time()
        self._pending = False
        self._tell(message)

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
        """Say that nothing of the folder is held here any more, and forget its packs."""
        self.scope.cancel()
        own = self.node.key.id
        if self.board.record(own) is not None:
            for kind in (HOLDS, HOT, FAILED):
                for key in self.board.keys(own, kind):
                    self._take_back(key)
            self._say(About().encode())
        self._rows.erase()
