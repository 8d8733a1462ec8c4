"""Anti-entropy between two replicas of a folder. Pure: messages in, commands out; it names ranges of entries, and the
caller reads and sends them. `mine` is always the caller's own frontier as it stands.

    Holds    opens the exchange on both sides, says all that the sender holds, and answers a `Holds` marked `ask`
    Entries  consecutive entries of one log
    Ack      the head of that log that the receiver holds after it stored them

Each side sends what the other's frontier lacks, at most `WINDOW` bytes ahead of what was acknowledged, then every new
entry at once. Loss, repetition and reordering only cost time: what is known of the peer grows with acks and shrinks
only when it says all that it holds, and a side that waits in vain asks for that, at growing intervals (`tick`). Nothing
is remembered between two connections. When both hold the same and know it, no message is sent.

How the caller drives it: `open` at the start; `receive` for each message; `applied` after carrying out `ApplyEntries`;
`tick` about once a second while `is_waiting`; and after each of these and each entry of its own:

    while (wanted := exchange.next_range(mine)) is not None:
        entries = ...read from `wanted.first` on...
        exchange.on_sent(wanted.log, wanted.first + len(entries), size in bytes)
        ...send Entries(wanted.log, wanted.first, entries)...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shoal.crdt.antientropy_messages import Ack, CheckpointManifest, CheckpointPart, Entries, Holds, Message
from shoal.crdt.frontier import Frontier, Range, covers
from shoal.crdt.log import LogHead, LogId, entry_hash

WINDOW = 8 * 1024 * 1024
BATCH = 512  # entries in a range, at most
PATIENCE = 5.0  # seconds without progress before asking again; doubled each time it was in vain
MAX_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message."""

    message: Message


@dataclass(frozen=True, slots=True)
class ApplyEntries:
    """Verify, store and apply these; then call `applied`. Those already held are to be skipped."""

    log: LogId
    first: int
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PeerHolds:
    """The peer has stored this much of these logs."""

    heads: Mapping[LogId, LogHead]


@dataclass(frozen=True, slots=True)
class OwnLogDiverged:
    """The peer holds of our own log what we do not: our store is an old copy. Never write to this log again."""

    log: LogId
    head: LogHead


@dataclass(frozen=True, slots=True)
class CheckOwnLog:
    """Compare the hash of our own entry number `head.length - 1` with `head.hash`; unequal means `OwnLogDiverged`."""

    log: LogId
    head: LogHead


@dataclass(frozen=True, slots=True)
class SendCheckpoint:
    """The peer lacks entries that were dropped here: send it a checkpoint, unless one is on its way to it already."""


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """A message of a checkpoint that the peer sends; after the last one the caller calls `open` again."""

    message: CheckpointManifest | CheckpointPart


@dataclass(frozen=True, slots=True)
class PeerMisbehaved:
    """No honest peer could have sent this: end the connection."""

    reason: str


Command = (
    Send | ApplyEntries | PeerHolds | OwnLogDiverged | CheckOwnLog | SendCheckpoint | TakeCheckpoint | PeerMisbehaved
)


@dataclass(slots=True)
class AntiEntropy:
    """One side of the exchange with one peer.

    `theirs`: what it is known to hold, None before its frontier came. `own`: the log that this device writes.
    """

    theirs: dict[LogId, LogHead] | None = None
    own: LogId | None = None
    _sent: dict[LogId, int] = field(default_factory=dict)
    _flying: dict[tuple[LogId, int], int] = field(default_factory=dict)
    _patience: float = PATIENCE
    _due: float | None = None
    _gap_told: bool = False

    # -- events ----------------------------------------------------------------------------------------------------

    def open(self, mine: Frontier) -> list[Command]:
        """The channel is there. Both sides do this."""
        return [Send(Holds(dict(mine)))]

    def receive(self, message: Message, mine: Frontier) -> list[Command]:
        """The peer sent a message."""
        match message:
            case Holds(frontier, ask):
                self.on_frontier(frontier)
                answer: list[Command] = [Send(Holds(dict(mine)))] if ask else []
                lacks = any(frontier.get(log, LogHead()).length < head.floor for log, head in mine.items())
                offer: list[Command] = [SendCheckpoint()] if lacks else []
                return [*self._on_heads(frontier, mine), *answer, *offer]
            case Ack(heads):
                self.on_ack(heads)
                return self._on_heads(heads, mine)
            case Entries(log):
                return self._on_entries(message, mine.get(log, LogHead()), mine)
            case CheckpointManifest() | CheckpointPart():
                self._progress()
                return [TakeCheckpoint(message)]

    def applied(self, log: LogId, mine: Frontier, misbehaved: str | None = None) -> list[Command]:
        """`ApplyEntries` was carried out, wholly or as far as could be; `misbehaved`: why the peer is to blame."""
        if misbehaved is not None:
            return [PeerMisbehaved(misbehaved)]
        return [Send(Ack({log: mine[log]}))] if log in mine else []

    def tick(self, mine: Frontier, now: float) -> list[Command]:
        """Time has come to `now` (seconds, monotonic)."""
        if not self.is_waiting(mine):
            self._progress()
        elif self._due is None:
            self._due = now + self._patience
        elif now >= self._due:
            self._patience = min(2 * self._patience, MAX_PATIENCE)
            self._due = now + self._patience
            self._gap_told = False
            return [Send(Holds(dict(mine), ask=True))]
        return []

    # -- sending ---------------------------------------------------------------------------------------------------

    def next_range(self, mine: Frontier) -> Range | None:
        """Return what to send now, or None: all sent, the window is full, or the peer's frontier is not known."""
        if self.theirs is None or sum(self._flying.values()) >= WINDOW:
            return None
        for log, head in mine.items():
            first = self._sent.get(log, 0)
            if head.floor <= first < head.length:
                return Range(log, first, min(head.length, first + BATCH))
        return None

    def on_sent(self, log: LogId, end: int, size: int) -> None:
        """The entries before `end` are on their way, the last ones of `size` bytes together."""
        self._sent[log] = end
        self._flying[log, end] = size

    # -- what is known ---------------------------------------------------------------------------------------------

    def on_frontier(self, frontier: Frontier) -> None:
        """The peer says all that it holds; what is on its way counts as lost."""
        self.theirs = dict(frontier)
        self._sent = {log: head.length for log, head in frontier.items()}
        self._flying.clear()

    def on_ack(self, heads: Frontier) -> None:
        """The peer says how much it holds of some logs. An ack that was overtaken changes nothing."""
        if self.theirs is None:
            return
        for log, head in heads.items():
            if self._raise(log, head):
                self._progress()

    def peer_holds_all(self, mine: Frontier) -> bool:
        """Return whether the peer has acknowledged all that is held here."""
        return self.theirs is not None and covers(self.theirs, mine)

    def we_hold_all(self, mine: Frontier) -> bool:
        """Return whether we hold all that the peer ever said to hold."""
        return self.theirs is not None and covers(mine, self.theirs)

    def is_waiting(self, mine: Frontier) -> bool:
        """Return whether something is to come from the peer: its frontier, an ack, or entries that it holds."""
        return bool(self._flying) or not self.we_hold_all(mine)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _on_entries(self, message: Entries, held: LogHead, mine: Frontier) -> list[Command]:
        last = LogHead(message.end, entry_hash(message.entries[-1]))
        if self.theirs is not None:
            self._raise(message.log, last)  # so that they are not sent back to where they came from
        diverged = self._on_heads({message.log: last}, mine) if message.log == self.own else []
        if message.first > held.length:
            told, self._gap_told = self._gap_told, True
            return diverged if told else [*diverged, Send(Holds(dict(mine)))]
        if message.end <= held.length:
            return [*diverged, Send(Ack({message.log: held}))]
        self._progress()
        return [*diverged, ApplyEntries(message.log, message.first, message.entries)]

    def _on_heads(self, heads: Frontier, mine: Frontier) -> list[Command]:
        commands: list[Command] = [PeerHolds(heads)]
        if self.own is None or self.own not in heads:
            return commands
        theirs, ours = heads[self.own], mine.get(self.own, LogHead())
        if theirs.length > ours.length or (theirs.length == ours.length and theirs.hash != ours.hash):
            commands.append(OwnLogDiverged(self.own, theirs))
        elif ours.floor < theirs.length < ours.length:
            commands.append(CheckOwnLog(self.own, theirs))
        return commands

    def _raise(self, log: LogId, head: LogHead) -> bool:
        """Note that the peer holds this much; return whether that was news."""
        assert self.theirs is not None
        self._sent[log] = max(self._sent.get(log, 0), head.length)
        if head.length <= self.theirs.get(log, LogHead()).length:
            return False
        self.theirs[log] = head
        for key in [key for key in self._flying if key[0] == log and key[1] <= head.length]:
            del self._flying[key]
        return True

    def _progress(self) -> None:
        self._patience = PATIENCE
        self._due = None
        self._gap_told = False
