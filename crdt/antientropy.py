"""Anti-entropy between two replicas of a folder, over an ordered and reliable channel. Pure: it names ranges of
entries, the caller reads and sends them.

    Frontier  what the sender holds, all logs; opens the exchange on both sides, and answers a `Frontier` marked `ask`
    Entries   consecutive entries of one log, as the receiver lacks them
    Ack       the heads of logs that the receiver of `Entries` holds after it stored them

Each side sends what the other's frontier lacks, at most `WINDOW` bytes ahead of what was acknowledged, then every new
entry at once. A channel that breaks ends the exchange; the next one starts from frontiers again, so nothing is
remembered between them. After quiescence no message is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.crdt.frontier import Frontier, Range, covers
from shoal.crdt.log import LogHead, LogId

WINDOW = 8 * 1024 * 1024
BATCH = 512  # entries in a range, at most


@dataclass(slots=True)
class AntiEntropy:
    """One side of the exchange with one peer. `theirs`: what it has acknowledged, None before its frontier came."""

    theirs: dict[LogId, LogHead] | None = None
    _sent: dict[LogId, int] = field(default_factory=dict)
    _flying: dict[tuple[LogId, int], int] = field(default_factory=dict)

    def on_frontier(self, frontier: Frontier) -> None:
        """The peer says all that it holds."""
        self.theirs = dict(frontier)
        self._sent = {log: head.length for log, head in frontier.items()}
        self._flying.clear()

    def on_ack(self, heads: Frontier) -> None:
        """The peer says how much it holds of some logs."""
        if self.theirs is None:
            return
        for log, head in heads.items():
            self.theirs[log] = head
            self._sent[log] = max(self._sent.get(log, 0), head.length)
        self._flying = {
            key: size for key, size in self._flying.items() if key[1] > self.theirs.get(key[0], LogHead()).length
        }

    def next_range(self, mine: Frontier) -> Range | None:
        """Return what to send now, or None: all sent, the window is full, or the peer's frontier is not known."""
        if self.theirs is None or sum(self._flying.values()) >= WINDOW:
            return None
        for log, head in mine.items():
            first = self._sent.get(log, 0)
            if first < head.length:
                return Range(log, first, min(head.length, first + BATCH))
        return None

    def on_sent(self, log: LogId, end: int, size: int) -> None:
        """The entries before `end` are on their way, the last ones of `size` bytes together."""
        self._sent[log] = end
        self._flying[log, end] = size

    def peer_holds_all(self, mine: Frontier) -> bool:
        """Return whether the peer has acknowledged all that is held here."""
        return self.theirs is not None and covers(self.theirs, mine)

    def we_hold_all(self, mine: Frontier) -> bool:
        """Return whether we hold all that the peer ever said to hold."""
        return self.theirs is not None and covers(mine, self.theirs)
