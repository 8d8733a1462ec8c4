"""Who is asked for what. Pure: wants and holders in, requests out.

Each chunk is asked of one holder at a time. What a holder lacks, or drops by leaving, goes to the others; what every
holder present lacks is `exhausted`, until a holder joins. Small and early wants come first: the order they came in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from shoal.transfer.messages import MAX_WANTED

Key = tuple[bytes, bytes]  # folder, chunk id


@dataclass(slots=True)
class _Holder:
    lacks: set[Key] = field(default_factory=set)
    asked: dict[Key, int] = field(default_factory=dict)  # -> length
    flying: int = 0  # bytes asked for and not come


class Scheduler:
    """The wants of all fetches, and the holders they are spread over."""

    def __init__(self) -> None:
        self._open: OrderedDict[Key, int] = OrderedDict()  # wanted and not asked of anyone
        self._asked: dict[Key, Hashable] = {}
        self._holders: dict[Hashable, _Holder] = {}

    def want(self, folder: bytes, chunks: Iterable[tuple[bytes, int]]) -> None:
        """Want chunks, each of a known length in bytes; one that is wanted already stays as it is."""
        for chunk, length in chunks:
            if (folder, chunk) not in self._asked:
                self._open.setdefault((folder, chunk), length)

    def forget(self, folder: bytes, chunks: Iterable[bytes]) -> None:
        """Want these no longer; what comes of them yet is of no use."""
        for chunk in chunks:
            self._open.pop((folder, chunk), None)
            holder = self._asked.pop((folder, chunk), None)
            if holder is not None:
                self._take_back(self._holders[holder], (folder, chunk))

    def holder_joined(self, holder: Hashable) -> None:
        """A peer can be asked."""
        self._holders.setdefault(holder, _Holder())

    def holder_left(self, holder: Hashable) -> None:
        """A peer cannot be asked any more; what it was asked for is open again, first in line."""
        gone = self._holders.pop(holder, None)
        if gone is None:
            return
        for key, length in reversed(gone.asked.items()):
            del self._asked[key]
            self._open[key] = length
            self._open.move_to_end(key, last=False)

    def next_request(self, holder: Hashable, window: int) -> tuple[bytes, list[bytes]] | None:
        """Return (folder, chunk ids) to ask `holder` for now, so that at most `window` bytes are under way."""
        state = self._holders[holder]
        room = window - state.flying
        if room <= 0 or (state.flying > 0 and room < window // 4):
            return None  # few large requests rather than many small ones
        chosen: list[Key] = []
        for key, length in self._open.items():
            if key in state.lacks or (chosen and key[0] != chosen[0][0]):
                continue
            if chosen and (length > room or len(chosen) == MAX_WANTED):
                break
            chosen.append(key)
            room -= length
        if not chosen:
            return None
        for key in chosen:
            length = self._open.pop(key)
            self._asked[key] = holder
            state.asked[key] = length
            state.flying += length
        return chosen[0][0], [chunk for _, chunk in chosen]

    def on_chunk(self, holder: Hashable, folder: bytes, chunk: bytes) -> bool:
        """A verified chunk came; return whether it was still wanted of this holder."""
        key = (folder, chunk)
        if self._asked.get(key) != holder:
            return False
        del self._asked[key]
        self._take_back(self._holders[holder], key)
        return True

    def on_missing(self, holder: Hashable, folder: bytes, chunk: bytes) -> None:
        """The holder lacks the chunk: ask others."""
        key = (folder, chunk)
        if self._asked.get(key) != holder:
            return
        del self._asked[key]
        state = self._holders[holder]
        self._open[key] = self._take_back(state, key)
        state.lacks.add(key)

    def retry_missing(self, holder: Hashable) -> None:
        """The holder may have gained chunks since it said that it lacks them."""
        if holder in self._holders:
            self._holders[holder].lacks.clear()

    def exhausted(self, folder: bytes, chunks: Iterable[bytes]) -> list[bytes]:
        """Return those of `chunks` that every holder present lacks; none while there is no holder."""
        if not self._holders:
            return []
        lacking = [state.lacks for state in self._holders.values()]
        return [c for c in chunks if (folder, c) in self._open and all((folder, c) in lacks for lacks in lacking)]

    @staticmethod
    def _take_back(state: _Holder, key: Key) -> int:
        length = state.asked.pop(key)
        state.flying -= length
        return length
