"""Who is asked for what. Pure: wants and holders in, requests out.

Each chunk is asked of one holder at a time. What a holder lacks, or drops by leaving, goes to the others; what every
holder present lacks is stalled, until a holder joins. Wants of the lower priority number come first, then those that
came first. A holder that has been asked and is slow loses its oldest chunks to one that has nothing to do.

Open wants lie in groups, one for each (priority, set of holders that lack them), so that no request ever passes over
wants that the asked one lacks: with a million open and one new holder, the next request still costs what it asks for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

from shoal.transfer.messages import MAX_WANTED

Key = tuple[bytes, bytes]  # folder, chunk id
SHARE = 1024 * 1024  # bytes below which what is left is not divided among the holders
PATIENCE = 10.0  # seconds that a holder may take before an idle one may be asked as well


@dataclass(frozen=True, slots=True)
class Request:
    """Chunks of one folder to ask a holder for, with the length that each must have."""

    folder: bytes
    ids: tuple[bytes, ...]
    lengths: tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Want:
    length: int
    priority: int
    order: int
    lackers: frozenset[Hashable] = frozenset()
    holder: Hashable | None = None  # None: open
    asked_at: float = 0.0


@dataclass(slots=True, eq=False)
class _Holder:
    asked: dict[Key, _Want] = field(default_factory=dict)  # the oldest first
    flying: int = 0  # bytes asked for and not come


_Group = OrderedDict[Key, _Want]


class Scheduler:
    """The wants of all fetches, and the holders they are spread over."""

    def __init__(self) -> None:
        self._wants: dict[Key, _Want] = {}
        self._open: dict[tuple[int, frozenset[Hashable]], _Group] = {}
        self.open_bytes = 0  # wanted, and nobody is asked for it
        self._holders: dict[Hashable, _Holder] = {}
        self._count = 0

    def want(self, folder: bytes, chunks: Iterable[tuple[bytes, int]], priority: int = 0) -> None:
        """Want chunks, (id, length in bytes) each. One that is wanted already only becomes more urgent."""
        for chunk, length in chunks:
            key = (folder, chunk)
            known = self._wants.get(key)
            if known is None:
                self._count += 1
                self._wants[key] = want = _Want(length, priority, self._count)
                self._put(key, want)
            elif priority < known.priority:
                if known.holder is None:
                    self._take(key, known)
                    known.priority = priority
                    self._put(key, known)
                else:
                    known.priority = priority

    def wanted(self, folder: bytes, chunk: bytes) -> bool:
        """Return whether the chunk is wanted and has not come."""
        return (folder, chunk) in self._wants

    def forget(self, folder: bytes, chunks: Iterable[bytes]) -> None:
        """Want these no longer; what comes of them yet is of no use."""
        for chunk in chunks:
            self._drop((folder, chunk))

    def holder_joined(self, holder: Hashable) -> None:
        """A peer can be asked."""
        self._holders.setdefault(holder, _Holder())

    def holder_left(self, holder: Hashable) -> None:
        """A peer cannot be asked any more; what it was asked for is open again, first in line."""
        gone = self._holders.pop(holder, None)
        if gone is None:
            return
        for key, want in reversed(gone.asked.items()):
            want.holder = None
            self._put(key, want, first=True)
        self.retry_missing(holder)

    def retry_missing(self, holder: Hashable) -> None:
        """The holder may have gained chunks since it said that it lacks them."""
        for group in [key for key in self._open if holder in key[1]]:
            for key, want in self._open.pop(group).items():
                self.open_bytes -= want.length
                want.lackers -= {holder}
                self._put(key, want)
        for other in self._holders.values():
            for want in other.asked.values():
                want.lackers -= {holder}

    def next_request(self, holder: Hashable, window: int, now: float) -> Request | None:
        """Choose what to ask `holder` for now, so that at most `window` bytes are under way (one chunk always may
        be). Returns None when there is no room, or nothing for it."""
        state = self._holders[holder]
        room = window - state.flying
        if room <= 0 or (state.flying > 0 and room < window // 4):
            return None  # few large requests rather than many small ones
        usable = [(key[0], group) for key, group in self._open.items() if holder not in key[1]]
        if usable:
            group = min(usable, key=lambda each: (each[0], next(iter(each[1].values())).order))[1]
            chosen = _from_front(group, min(room, max(SHARE, self.open_bytes // len(self._holders))))
        else:
            chosen = self._overdue(holder, min(room, SHARE), now)
        if not chosen:
            return None
        for key, want in chosen:
            if want.holder is None:
                self._take(key, want)
            else:
                self._take_from_holder(key, want)
            want.holder, want.asked_at = holder, now
            state.asked[key] = want
            state.flying += want.length
        return Request(chosen[0][0][0], tuple(key[1] for key, _ in chosen), tuple(want.length for _, want in chosen))

    def on_chunk(self, folder: bytes, chunk: bytes) -> bool:
        """A verified chunk came, of whomever; return whether it was still wanted."""
        return self._drop((folder, chunk))

    def on_missing(self, holder: Hashable, folder: bytes, chunk: bytes) -> None:
        """The holder lacks the chunk: ask others."""
        key = (folder, chunk)
        want = self._wants.get(key)
        if want is None or holder not in self._holders:
            return
        if want.holder is None:
            self._take(key, want)
        elif want.holder == holder:
            self._take_from_holder(key, want)
        want.lackers |= {holder}
        if want.holder is None:
            self._put(key, want)

    def all_stalled(self, folder: bytes, chunks: Collection[bytes]) -> bool:
        """Return whether there are holders, and every one present lacks each of these."""
        lost = self._lost()
        if sum(map(len, lost)) < len(chunks):
            return False
        return all(any((folder, chunk) in group for group in lost) for chunk in chunks)

    def stalled(self) -> list[Key]:
        """Return the (folder, chunk id)s that every holder present lacks; none while there is no holder."""
        return [key for group in self._lost() for key in group]

    def _lost(self) -> list[_Group]:
        present = self._holders.keys()
        return [group for (_, lackers), group in self._open.items() if present <= lackers] if present else []

    def _overdue(self, holder: Hashable, room: int, now: float) -> list[tuple[Key, _Want]]:
        for other, state in self._holders.items():
            if other == holder:
                continue
            late: _Group = OrderedDict()
            for key, want in state.asked.items():
                if want.asked_at + PATIENCE > now:
                    break
                if holder not in want.lackers:
                    late[key] = want
            if late:
                return _from_front(late, room)
        return []

    def _put(self, key: Key, want: _Want, *, first: bool = False) -> None:
        group = self._open.setdefault((want.priority, want.lackers), OrderedDict())
        group[key] = want
        self.open_bytes += want.length
        if first:
            group.move_to_end(key, last=False)

    def _take(self, key: Key, want: _Want) -> None:
        name = (want.priority, want.lackers)
        del self._open[name][key]
        if not self._open[name]:
            del self._open[name]
        self.open_bytes -= want.length

    def _take_from_holder(self, key: Key, want: _Want) -> None:
        state = self._holders[want.holder]
        del state.asked[key]
        state.flying -= want.length
        want.holder = None

    def _drop(self, key: Key) -> bool:
        want = self._wants.pop(key, None)
        if want is None:
            return False
        if want.holder is None:
            self._take(key, want)
        else:
            self._take_from_holder(key, want)
        return True


def _from_front(group: _Group, room: int) -> list[tuple[Key, _Want]]:
    chosen: list[tuple[Key, _Want]] = []
    for key, want in group.items():
        if chosen and (want.length > room or key[0] != chosen[0][0][0] or len(chosen) == MAX_WANTED):
            break
        chosen.append((key, want))
        room -= want.length
    return chosen
