"""Who is asked for what. Pure: wants and holders in, requests out.

Each chunk is asked of one holder at a time. What a holder lacks, or drops by leaving, goes to the others; what every
holder present lacks is stalled, until a holder joins. Wants of the lower priority number come first; among those, each
folder gets as many bytes as the others, and in a folder those go first that came first. Urgent wants (a priority below
0) do not wait for room in the window. A holder that has been asked and is silent or slow loses chunks to one that has
nothing to do. What several devices need at the same time is shared out among them: see `shares`.

Open wants lie in groups, one for each (priority, folder, owner of the share, set of holders that lack them), so that no
request ever passes over wants that the asked one lacks: with a million open and one new holder, the next request still
costs what it asks for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shoal.transfer.messages import MAX_WANTED
from shoal.transfer.shares import Shares

Key = tuple[bytes, bytes]  # folder, chunk id
SHARE = 1024 * 1024  # bytes below which what is left is not divided among the holders
URGENT = -1  # the priority of what a person waits for
PATIENCE = 10.0  # seconds that a holder may take before an idle one may be asked as well
SILENT = 2.0  # seconds without a byte after which an idle one may be asked
TAIL = 2.0  # seconds that a slow one may need for what it owes before a quicker one is asked as well
RATE_OVER = 5.0  # seconds
SHARED_WINDOW = 4 * 1024 * 1024  # bytes
SHARED_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Request:
    """Chunks of one folder to ask a holder for, with the length that each must have."""

    folder: bytes
    ids: tuple[bytes, ...]
    lengths: tuple[int, ...]
    urgent: bool = False


@dataclass(slots=True, eq=False)
class _Want:
    length: int
    priority: int
    order: int
    lackers: frozenset[Hashable] = frozenset()
    holder: Hashable | None = None  # None: open
    asked_at: float = 0.0
    owner: bytes | None = None  # whose share it is in, where there are shares
    former: Hashable | None = None  # who was asked before the holder, and may send it yet


@dataclass(slots=True, eq=False)
class _Holder:
    device: Hashable
    asked: dict[Key, _Want] = field(default_factory=dict)  # the oldest first
    flying: int = 0  # bytes asked for and not come
    heard_at: float = 0.0  # when the last byte came, or the first question went
    came: float = 0.0  # bytes since `since`
    since: float = 0.0

    def rate(self, now: float) -> float:
        """Return the bytes a second that come, or came when it was last asked; 0 where that is not known."""
        until = now if self.flying else self.heard_at
        return self.came / (until - self.since) if until > self.since else 0.0


_Group = OrderedDict[Key, _Want]


class _Name(NamedTuple):
    priority: int
    folder: bytes
    owner: bytes | None
    lackers: frozenset[Hashable]


class Scheduler:
    """The wants of all fetches, and the holders they are spread over."""

    def __init__(self) -> None:
        self._wants: dict[Key, _Want] = {}
        self._open: dict[_Name, _Group] = {}
        self.open_bytes = 0  # wanted, and nobody is asked for it
        self._holders: dict[Hashable, _Holder] = {}
        self._shares: dict[bytes, Shares] = {}  # of folders that have rivals
        self._shared_before: dict[bytes, Shares] = {}
        self._served: dict[bytes, int] = {}  # bytes asked for, of folders that have open wants
        self._count = 0

    @property
    def is_waiting(self) -> bool:
        """Whether anything is wanted."""
        return bool(self._wants)

    def want(self, folder: bytes, chunks: Iterable[tuple[bytes, int]], priority: int = 0) -> None:
        """Want chunks, (id, length in bytes) each. One that is wanted already only becomes more urgent; where the two
        differ about its length, the more urgent is believed: the other is a peer's hint, perhaps."""
        for chunk, length in chunks:
            key = (folder, chunk)
            known = self._wants.get(key)
            if known is not None and known.length != length and priority < known.priority:
                self._drop(key)
                known = None
            if known is None:
                self._count += 1
                self._wants[key] = want = _Want(length, priority, self._count)
                want.owner = self._owner(key)
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

    def holder_joined(self, holder: Hashable, device: Hashable = None) -> None:
        """A peer can be asked. `device`: whose it is, where that is not the holder itself."""
        self._holders.setdefault(holder, _Holder(holder if device is None else device))

    def holder_left(self, holder: Hashable) -> None:
        """A peer cannot be asked any more; what it was asked for is open again, first in line."""
        gone = self._holders.pop(holder, None)
        if gone is None:
            return
        for key, want in reversed(gone.asked.items()):
            want.holder = None
            self._put(key, want, first=True)
        for other in self._holders.values():
            for want in other.asked.values():
                if want.former == holder:
                    want.former = None
        self.retry_missing(holder)

    def retry_missing(self, holder: Hashable) -> None:
        """The holder may have gained chunks since it said that it lacks them."""
        for group in [name for name in self._open if holder in name.lackers]:
            for key, want in list(self._open[group].items()):
                self._take(key, want)
                want.lackers -= {holder}
                self._put(key, want)
        for other in self._holders.values():
            for want in other.asked.values():
                want.lackers -= {holder}

    def set_rivals(self, folder: bytes, own: bytes, devices: Iterable[bytes], now: float) -> None:
        """Say which other devices need the folder as this one does, and are connected."""
        shares, wanted = self._shares.get(folder), set(devices) - {own}
        if wanted == (shares.rivals.keys() if shares is not None else set()):
            return
        again = [pair for name, group in self._open.items() if name.folder == folder for pair in group.items()]
        for key, want in again:
            self._take(key, want)
        if shares is None:
            shares = self._shared_before.pop(folder, None) or Shares(own)
        shares.set_rivals(wanted, now)
        if wanted:
            self._shares[folder] = shares
        else:
            self._shared_before[folder] = shares
            self._shares.pop(folder, None)
        for key, want in sorted(again, key=lambda pair: pair[1].order):
            want.owner = self._owner(key)
            self._put(key, want)

    def on_have(self, device: bytes, folder: bytes, chunks: Iterable[bytes], now: float) -> None:
        """A device has these by now."""
        shares = self._shares.get(folder)
        holders = {holder for holder, state in self._holders.items() if state.device == device}
        for chunk in chunks:
            want = self._wants.get((folder, chunk))
            if shares is not None:
                shares.on_have(device, chunk, want.length if want is not None else 0, now)
            if want is None or not holders & want.lackers:
                continue
            if want.holder is None:
                self._take((folder, chunk), want)
            want.lackers -= holders
            if want.holder is None:
                self._put((folder, chunk), want)

    def heard(self, holder: Hashable, now: float) -> None:
        """Bytes came from a holder, be it of a chunk that is not whole."""
        if (state := self._holders.get(holder)) is not None:
            state.heard_at = now

    def next_request(self, holder: Hashable, window: int, now: float) -> Request | None:
        """Return what to ask the holder for next, with at most `window` bytes under way (one chunk always may
        be). Returns None when there is no room, or nothing for it."""
        state = self._holders[holder]
        if self._shares:  # what is asked for early cannot be had of a rival that gets it first
            window = min(window, max(SHARED_WINDOW, int(SHARED_SECONDS * state.rate(now))))
        room = window - state.flying
        names = [name for name in self._open if holder not in name.lackers]
        if room <= 0 or (state.flying > 0 and room < window // 4):  # few large requests rather than many small ones
            urgent = [name for name in names if name.priority < 0]
            chosen = self._first(state, urgent, SHARE) if state.flying <= window + 2 * SHARE else []
        else:
            chosen = self._offered(holder, state, room) or self._first(state, names, room)
            chosen = chosen or self._late(state, names, room, now) or self._overdue(holder, min(room, SHARE), now)
        if not chosen:
            return None
        if not state.flying:
            state.heard_at, state.since, state.came = now, now, 0.0
        for key, want in chosen:
            if want.holder is None:
                self._take(key, want)
            else:
                want.former = want.holder
                self._take_from_holder(key, want)
            want.asked_at = now
            self._give_to(holder, key, want)
        folder = chosen[0][0][0]
        if folder in self._served:
            self._served[folder] += sum(want.length for _, want in chosen)
        lengths = tuple(want.length for _, want in chosen)
        return Request(folder, tuple(key[1] for key, _ in chosen), lengths, chosen[0][1].priority < 0)

    def _first(self, state: _Holder, names: Sequence[_Name], room: int) -> list[tuple[Key, _Want]]:
        """Return what is first in line of what the holder is to be asked for."""
        usable = [name for name in names if self._is_for(state, name)]
        if not usable:
            return []

        def rank(name: _Name) -> tuple[int, int, int]:
            return name.priority, self._served[name.folder], next(iter(self._open[name].values())).order

        return _from_front(self._open[min(usable, key=rank)], self._part(room))

    def _part(self, room: int) -> int:
        return min(room, max(SHARE, self.open_bytes // len(self._holders)))

    def _is_for(self, state: _Holder, name: _Name) -> bool:
        shares = self._shares.get(name.folder)
        if shares is None:
            return True
        if state.device not in shares.rivals:
            return name.owner in (None, shares.own)
        # A rival may have what it told nobody of: where none else has it, it is asked.
        others = (holder for holder, other in self._holders.items() if other.device not in shares.rivals)
        return all(holder in name.lackers for holder in others)

    def _offered(self, holder: Hashable, state: _Holder, room: int) -> list[tuple[Key, _Want]]:
        """Return what a rival says that it has."""
        for folder, shares in self._shares.items():
            if not isinstance(state.device, bytes):
                continue
            offers, left = shares.offers(state.device), self._part(room)
            chosen: list[tuple[Key, _Want]] = []
            while offers and len(chosen) < MAX_WANTED:
                chunk = next(iter(offers))
                want = self._wants.get((folder, chunk))
                if want is not None and want.holder is None and holder not in want.lackers:
                    if chosen and want.length > left:
                        break
                    chosen.append(((folder, chunk), want))
                    left -= want.length
                del offers[chunk]
            if chosen:
                return chosen
        return []

    def _late(self, state: _Holder, names: Sequence[_Name], room: int, now: float) -> list[tuple[Key, _Want]]:
        """Return what is a late rival's, the last first, for a way that else lies idle."""
        if state.flying >= SHARE:
            return []
        for name in names:
            shares = self._shares.get(name.folder)
            if shares is None or name.owner is None or state.device in shares.rivals:
                continue
            if shares.is_late(name.owner, now):
                return _from_front(reversed(self._open[name].items()), min(room, SHARE))
        return []

    def on_chunk(self, folder: bytes, chunk: bytes, holder: Hashable = None, length: int = 0, now: float = 0.0) -> bool:
        """A verified chunk came, of whomever; return whether it was still wanted."""
        if (state := self._holders.get(holder)) is not None:
            if now - state.since > RATE_OVER:
                state.came, state.since = state.came / 2, now - (now - state.since) / 2
            state.came += length
            state.heard_at = now
        return self._drop((folder, chunk))

    def on_missing(self, holder: Hashable, folder: bytes, chunk: bytes, length: int | None = None) -> None:
        """The holder lacks the chunk: ask others. `length`: that it was asked for with, which may be wanted no more."""
        key = (folder, chunk)
        want = self._wants.get(key)
        if want is None or holder not in self._holders or length not in (None, want.length):
            return
        if want.holder is None:
            self._take(key, want)
        elif want.holder == holder:
            self._take_from_holder(key, want)
        want.lackers |= {holder}
        if want.former == holder:
            want.former = None
        if want.holder is None and want.former in self._holders and want.former not in want.lackers:
            self._give_to(want.former, key, want)
            want.former = None
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
        return [group for name, group in self._open.items() if present <= name.lackers] if present else []

    def _overdue(self, holder: Hashable, room: int, now: float) -> list[tuple[Key, _Want]]:
        """Return what others owe and are too slow with."""
        mine = self._holders[holder].rate(now)
        for other, state in self._holders.items():
            if other == holder or not state.asked:
                continue
            owed = [
                pair
                for pair in state.asked.items()
                if holder not in pair[1].lackers and self._may_have(holder, pair[0])
            ]
            if not owed:
                continue
            oldest = owed[0][1].asked_at
            if now - max(state.heard_at, oldest) >= SILENT:
                return _from_front(owed, room)
            if late := [(key, want) for key, want in owed if want.asked_at + PATIENCE <= now]:
                return _from_front(late, room)
            theirs = state.rate(now)
            if theirs and mine > 2 * theirs and state.flying / theirs > TAIL:
                return _from_front(reversed(owed), room)
        return []

    def _may_have(self, holder: Hashable, key: Key) -> bool:
        """Return whether a holder has a chunk, as far as is known; a rival says what it has."""
        shares, device = self._shares.get(key[0]), self._holders[holder].device
        return shares is None or device not in shares.rivals or key[1] in shares.rivals[device].has

    def _owner(self, key: Key) -> bytes | None:
        shares = self._shares.get(key[0])
        return shares.owner(key[1]) if shares is not None and shares.rivals else None

    def _put(self, key: Key, want: _Want, *, first: bool = False) -> None:
        folder = key[0]
        if folder not in self._served:  # it begins with what the others have had, not with all that it missed
            self._served[folder] = min(self._served.values(), default=0)
        group = self._open.setdefault(_Name(want.priority, folder, want.owner, want.lackers), OrderedDict())
        group[key], want.former = want, None
        self.open_bytes += want.length
        if (shares := self._shares.get(folder)) is not None:
            shares.on_open(key[1], want.length, want.owner)
        if first:
            group.move_to_end(key, last=False)

    def _take(self, key: Key, want: _Want) -> None:
        folder = key[0]
        name = _Name(want.priority, folder, want.owner, want.lackers)
        del self._open[name][key]
        if not self._open[name]:
            del self._open[name]
            if len(self._served) > 64 and not any(other.folder == folder for other in self._open):
                del self._served[folder]
        self.open_bytes -= want.length
        if (shares := self._shares.get(folder)) is not None:
            shares.on_taken(key[1], want.length, want.owner)

    def _give_to(self, holder: Hashable, key: Key, want: _Want) -> None:
        state = self._holders[holder]
        want.holder = holder
        state.asked[key] = want
        state.flying += want.length

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


def _from_front(items: Iterable[tuple[Key, _Want]] | _Group, room: int) -> list[tuple[Key, _Want]]:
    chosen: list[tuple[Key, _Want]] = []
    for key, want in items.items() if isinstance(items, OrderedDict) else items:
        if chosen and (want.length > room or key[0] != chosen[0][0][0] or len(chosen) == MAX_WANTED):
            break
        chosen.append((key, want))
        room -= want.length
    return chosen
