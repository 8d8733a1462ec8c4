"""One folder's logs in the store: entries as they came, signed and sealed, and how much of each log is held.

Keys after the folder's 16 bytes: `log`: device + incarnation + seq -> entry; `meta`: b"head" + device + incarnation ->
CBOR [length, hash]; b"size" -> of one that is held sealed, the bytes of its entries, 8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cbor2

from shoal.crdt import log
from shoal.crdt.frontier import Range
from shoal.crdt.log import Entry, LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.store import Staging, Store

SIZE = b"size"
READ_LIMIT = 2 * 1024 * 1024  # bytes of entries read at once for a peer


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an entry that a peer sent was not applied. `misbehaved`: no honest peer could have sent it."""

    reason: str
    misbehaved: bool


class StoredLogs:
    """The logs, read and written through a `Staging`. `frontier`: what is held; `limit`: how much of a log is taken,
    None for all of it."""

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        self._staging = staging
        self._folder = folder
        self.limit: Callable[[LogId], LogHead | None] = lambda log_id: None
        self.frontier: dict[LogId, LogHead] = {}
        self.load()

    def load(self) -> None:
        """Take the store's word for what is held."""
        self.frontier.clear()
        for key, data in self._staging.scan("meta", self._folder + b"head"):
            length, digest = cbor2.loads(data)
            self.frontier[LogId(DeviceId(key[20:52]), key[52:68])] = LogHead(length, digest)

    def entry(self, log_id: LogId, seq: int) -> bytes | None:
        """Return an entry."""
        return self._staging.get("log", self._key(log_id, seq))

    def read(self, wanted: Range) -> list[bytes]:
        """Return consecutive entries from `wanted.first` on, at least one, about `READ_LIMIT` bytes at most."""
        entries: list[bytes] = []
        size = 0
        for seq in range(wanted.first, wanted.end):
            entry = self.entry(wanted.log, seq)
            if entry is None or (entries and size + len(entry) > READ_LIMIT):
                break
            entries.append(entry)
            size += len(entry)
        return entries

    def holds(self, log_id: LogId, head: LogHead) -> bool:
        """Return whether our entry number `head.length - 1` of the log is the one that `head` names."""
        entry = self.entry(log_id, head.length - 1)
        return entry is not None and log.entry_hash(entry) == head.hash

    def check(self, entry: Entry, is_known: Callable[[DeviceId], bool]) -> None:
        """Check that an entry is the next of its log, and may be taken. Raises EntryRefused."""
        log.check_place(entry, self._folder, self.frontier.get(entry.log, LogHead()), is_known)
        limit = self.limit(entry.log)
        if limit is None or entry.seq + 1 < limit.length:
            return
        if entry.seq >= limit.length:
            raise log.NotAMember("its author may not write to the folder")
        if entry.hash != limit.hash:
            raise log.Forked("it is not what was known of its author's log")

    def put(self, log_id: LogId, encoded: bytes, head: LogHead) -> None:
        """Stage the next entry of a log, and the head after it."""
        self._staging.put("log", self._key(log_id, head.length - 1), encoded)
        self._set_head(log_id, head)

    def cut(self, log_id: LogId, head: LogHead) -> None:
        """Stage that no more of a log is held than `head`, which may be none."""
        for seq in range(head.length, self.frontier.get(log_id, LogHead()).length):
            self._staging.delete("log", self._key(log_id, seq))
        if head.length:
            self._set_head(log_id, head)
        elif self.frontier.pop(log_id, None) is not None:
            self._staging.delete("meta", self._head_key(log_id))

    def within_limits(self, heads: Mapping[LogId, LogHead]) -> dict[LogId, LogHead]:
        """Return what may be had of the logs that a peer holds."""
        within = {}
        for log_id, head in heads.items():
            limit = self.limit(log_id)
            kept = head if limit is None or head.length <= limit.length else limit
            if kept.length:
                within[log_id] = kept
        return within

    def beyond_limits(self) -> dict[LogId, LogHead]:
        """Return the logs of which more is held than is taken of them by now, or another history, with how much of
        them may stay."""
        beyond = {}
        for log_id, head in self.frontier.items():
            limit = self.limit(log_id)
            if limit is None or head.length < limit.length:
                continue
            if limit.length and not self.holds(log_id, limit):
                beyond[log_id] = LogHead()
            elif head.length > limit.length:
                beyond[log_id] = limit
        return beyond

    def _set_head(self, log_id: LogId, head: LogHead) -> None:
        self.frontier[log_id] = head
        self._staging.put("meta", self._head_key(log_id), cbor2.dumps([head.length, head.hash]))

    def _head_key(self, log_id: LogId) -> bytes:
        return self._folder + b"head" + log_id.key()

    def _key(self, log_id: LogId, seq: int) -> bytes:
        return self._folder + log_id.key() + seq.to_bytes(8)


class OverLogs:
    """What keeps a folder's logs, with what they say or without: to be told and asked of them."""

    _logs: StoredLogs

    @property
    def frontier(self) -> dict[LogId, LogHead]:
        """How much of each log is held."""
        return self._logs.frontier

    @property
    def limit(self) -> Callable[[LogId], LogHead | None]:
        """How much of a log is taken, None for all of it."""
        return self._logs.limit

    @limit.setter
    def limit(self, limit: Callable[[LogId], LogHead | None]) -> None:
        self._logs.limit = limit

    def read_entries(self, wanted: Range) -> list[bytes]:
        """Return consecutive entries from `wanted.first` on, at least one, about `READ_LIMIT` bytes at most."""
        return self._logs.read(wanted)

    def within_limits(self, heads: Mapping[LogId, LogHead]) -> dict[LogId, LogHead]:
        """Return what may be had of the logs that a peer holds."""
        return self._logs.within_limits(heads)

    def holds(self, log_id: LogId, head: LogHead) -> bool:
        """Return whether our entry number `head.length - 1` of the log is the one that `head` names."""
        return self._logs.holds(log_id, head)


class HeldFolder(OverLogs):
    """A folder of others, as somebody keeps it who may not read it: its logs, checked and passed on, sealed as they
    are."""

    log_id: LogId | None = None  # nothing is said here

    def __init__(self, store: Store, folder: FolderId, is_known: Callable[[DeviceId], bool]) -> None:
        self.folder = folder
        self.grown: Callable[[], None] = lambda: None
        self.room: Callable[[], int | None] = lambda: None  # bytes that may be held beside what is; None: any number
        self._staging = Staging(store)
        self._logs = StoredLogs(self._staging, folder)
        self._is_known = is_known
        self.size = self._counted()  # bytes of entries

    @property
    def entries(self) -> int:
        """How many entries are held."""
        return sum(head.length for head in self.frontier.values())

    def receive_entries(self, entries: Sequence[bytes]) -> Refusal | None:
        """Keep entries that a peer sent, in their order, up to the first that is refused; return why it was."""
        refusal: Refusal | None = None
        before, size, room = self.entries, self.size, self.room()
        with self._written():
            for encoded in entries:
                try:
                    entry = log.decode_entry(encoded)
                    if entry.seq < self.frontier.get(entry.log, LogHead()).length:
                        continue
                    self._logs.check(entry, self._is_known)
                except log.EntryRefused as error:
                    refusal = Refusal(str(error), misbehaved=error.blames_sender)
                    break
                if room is not None and self.size - size + len(encoded) > room:
                    refusal = Refusal("there is no room for more of that account here", misbehaved=False)
                    break
                self._logs.put(entry.log, encoded, LogHead(entry.seq + 1, entry.hash))
                self.size += len(encoded)
        if self.entries > before:
            self.grown()
        return refusal

    def on_own_log_diverged(self, log_id: LogId) -> bool:
        """It writes no log."""
        return False

    def keep_to_limits(self) -> bool:
        """Forget what is held of logs beyond what is taken of them; return whether there was any."""
        beyond = self._logs.beyond_limits()
        with self._written():
            for log_id, head in beyond.items():
                self._cut(log_id, head)
        return bool(beyond)

    def erase(self) -> None:
        """Remove all of it from the store."""
        with self._written():
            for log_id in list(self.frontier):
                self._cut(log_id, LogHead())

    def _cut(self, log_id: LogId, head: LogHead) -> None:
        for seq in range(head.length, self.frontier[log_id].length):
            self.size -= len(self._logs.entry(log_id, seq) or b"")
        self._logs.cut(log_id, head)

    def _counted(self) -> int:
        """Return what the store says of its size; counted once, where it does not."""
        saved = self._staging.get("meta", self.folder + SIZE)
        if saved is not None:
            return int.from_bytes(saved)
        return sum(len(entry) for _, entry in self._staging.scan("log", self.folder))

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Write what is staged in the block, or have all be as it was."""
        try:
            yield
            if self.frontier:
                self._staging.put("meta", self.folder + SIZE, self.size.to_bytes(8))
            else:
                self._staging.delete("meta", self.folder + SIZE)
            self._staging.commit()
        except BaseException:
            self._staging.discard()
            self._logs.load()
            self.size = self._counted()
            raise
