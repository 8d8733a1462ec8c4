"""What a folder's board comes to: which packs there are, who holds which pieces, who offers space, and the policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from shoal.crdt import codec
from shoal.crdt.board import Board
from shoal.crdt.model import DeviceId
from shoal.node.packs.sheet import (
    DECLARED,
    DROPPED,
    FAILED,
    HOLDS,
    HOT,
    MAX_ZONE,
    MOST_ZONES,
    PART,
    POLICY_KEY,
    About,
    Declared,
    FolderPolicy,
    Form,
    split_part,
)
from shoal.transfer.placement import Holder

K = TypeVar("K")
V = TypeVar("V")

KEY = 33  # bytes of a kind and a pack's id


class Ledger:
    """Of one folder. `says`: whether what a device says of packs and of the policy counts; `reads`: whether it may have
    the files; `present`: whether it was heard of lately; `believed`: whether what it says to hold is believed.

    `changes`: grows when what a sheet says changed, and not when its device only said that it is there.
    """

    def __init__(
        self,
        board: Board,
        says: Callable[[DeviceId], bool],
        reads: Callable[[DeviceId], bool],
        present: Callable[[DeviceId], bool],
        believed: Callable[[DeviceId], bool],
    ) -> None:
        self._board = board
        self._says = says
        self._reads = reads
        self._present = present
        self._believed = believed
        self._declarers: dict[bytes, dict[DeviceId, Form]] = {}
        self._droppers: dict[bytes, set[DeviceId]] = {}
        self._parts: dict[bytes, dict[DeviceId, set[int]]] = {}
        self.about: dict[DeviceId, About] = {}
        self.changes = 0
        self._policy: tuple[int, FolderPolicy] | None = None  # by changes

    def load(self) -> None:
        """Take all that is on the board."""
        for device in self._board.devices():
            self.follow(device, dict.fromkeys(self._all_keys(device), b""))

    def _all_keys(self, device: DeviceId) -> Iterator[bytes]:
        for kind in (DECLARED, DROPPED, HOLDS):
            yield from self._board.keys(device, kind)

    def follow(self, device: DeviceId, changes: Mapping[bytes, bytes | None]) -> None:
        """Take what changed of a device's sheet."""
        record = self._board.record(device)
        about = About()
        if record is not None:
            with contextlib.suppress(codec.Malformed):
                about = About.decode(record.about)
        self.changes += bool(changes) or self.about.get(device) != about
        self.about[device] = about
        for key, value in changes.items():
            kind, pack = key[:1], key[1:KEY]
            if kind == DECLARED and len(key) == KEY:
                self._follow_declared(device, pack, gone=value is None)
            elif kind == DROPPED and len(key) == KEY:
                _put(self._droppers, pack, device, gone=value is None)
            elif kind == HOLDS and len(key) == KEY + PART:
                by = self._parts.setdefault(pack, {})
                _put(by, device, int.from_bytes(key[KEY:]), gone=value is None)
                if not by:
                    del self._parts[pack]

    def _follow_declared(self, device: DeviceId, pack: bytes, *, gone: bool) -> None:
        forms = self._declarers.setdefault(pack, {})
        forms.pop(device, None)
        if not gone:
            with contextlib.suppress(codec.Malformed):
                forms[device] = Declared.decode(self._board.value(device, DECLARED + pack) or b"").form
        if not forms:
            del self._declarers[pack]

    # -- packs -------------------------------------------------------------------------------------------------------

    def packs(self) -> list[bytes]:
        """Return the packs that there are."""
        return [pack for pack in self._declarers if self.is_pack(pack)]

    def is_pack(self, pack: bytes) -> bool:
        """Return whether a pack is one, and was not dropped."""
        return any(map(self._says, self._declarers.get(pack, ()))) and not self.is_dropped(pack)

    def is_dropped(self, pack: bytes) -> bool:
        """Return whether somebody who may said that a pack is none any more."""
        return any(map(self._says, self._droppers.get(pack, ())))

    def declarers(self, pack: bytes) -> list[DeviceId]:
        """Return who says that there is a pack, whoever says last how it is split first."""
        forms = self._declarers.get(pack, {})
        order = sorted(forms, key=lambda device: (-forms[device].time_ms, device))
        return [device for device in order if self._says(device)]

    def form(self, pack: bytes) -> Form | None:
        """Return what a pack is made of, and None for what is none, or none any more."""
        declarers = self.declarers(pack) if not self.is_dropped(pack) else []
        return self._declarers[pack][declarers[0]] if declarers else None

    def declared(self, pack: bytes) -> Declared | None:
        """Return all that was said of a pack."""
        for device in self.declarers(pack):
            with contextlib.suppress(codec.Malformed):
                return Declared.decode(self._board.value(device, DECLARED + pack) or b"")
        return None

    def policy(self) -> FolderPolicy:
        """Return the folder's policy."""
        if self._policy is not None and self._policy[0] == self.changes:
            return self._policy[1]
        newest = (-1, b"", FolderPolicy())
        for device in self._board.devices():
            value = self._board.value(device, POLICY_KEY) if self._says(device) else None
            if value is not None:
                with contextlib.suppress(codec.Malformed):
                    said = FolderPolicy.decode(value)
                    newest = max(newest, (said.time_ms, bytes(device), said), key=lambda each: each[:2])
        self._policy = self.changes, newest[2]
        return newest[2]

    def hot(self) -> dict[bytes, set[str]]:
        """Return the packs that are read much, with the zones that read them."""
        found: dict[bytes, set[str]] = {}
        for device in filter(self._counts, self._board.devices()):
            for key in self._board.keys(device, HOT):
                with contextlib.suppress(codec.Malformed):
                    said = codec.as_list(codec.decode(self._board.value(device, key) or b"", 4096), most=MOST_ZONES)
                    found.setdefault(key[1:], set()).update(codec.as_text(zone, MAX_ZONE) for zone in said)
        return found

    # -- who holds what ----------------------------------------------------------------------------------------------

    def plain(self) -> dict[DeviceId, str]:
        """Return who has all of the folder as files, and was heard of lately, with its zone; the same order for all."""
        found = {d: zone_of(d, a) for d, a in self.about.items() if a.plain and self._reads(d) and self._counts(d)}
        return dict(sorted(found.items()))

    def holders(self) -> list[Holder]:
        """Return who offers space, and was heard of lately; those who have the files are none."""
        plain = self.plain()
        return [
            Holder(device, zone_of(device, about), about.offer * max(1, about.online) / 1000)
            for device, about in sorted(self.about.items())
            if about.offer and device not in plain and self._counts(device)
        ]

    def full(self) -> frozenset[bytes]:
        """Return who takes no more than it holds."""
        return frozenset(bytes(device) for device, about in self.about.items() if about.full)

    def claims(self) -> dict[bytes, dict[bytes, set[int]]]:
        """Return by pack who holds which pieces of it as it is split now, of those that are believed and were heard of
        lately."""
        counted = {device for device in self.about if self._counts(device)}
        found = {}
        for pack, by in self._parts.items():
            form = self.form(pack)
            if form is not None:
                held = {bytes(d): _pieces(form, parts) for d, parts in by.items() if d in counted}
                found[pack] = {device: pieces for device, pieces in held.items() if pieces}
        return found

    def parts_of(self, pack: bytes) -> dict[DeviceId, set[int]]:
        """Return who says to hold which parts of a pack, also of codes of before, of those that are believed."""
        return {device: held for device, held in self._parts.get(pack, {}).items() if self._believed(device)}

    def holding(self, pack: bytes, part: int) -> list[DeviceId]:
        """Return who says to hold a part, of those that are believed."""
        return [device for device, parts in self.parts_of(pack).items() if part in parts]

    def claimed_by(self, device: DeviceId) -> list[tuple[bytes, int]]:
        """Return the pieces, of packs as they are split now, that a device says to hold."""
        found = []
        for pack, by in self._parts.items():
            form = self.form(pack) if device in by else None
            if form is not None:
                found += [(pack, index) for index in _pieces(form, by[device])]
        return found

    def _counts(self, device: DeviceId) -> bool:
        return self._present(device) and self._believed(device)


def zone_of(device: DeviceId, about: About) -> str:
    """Return a device's zone; who says none is one by itself."""
    return about.zone or f"({device.hex()[:8]})"


def accused_by(board: Board, device: DeviceId) -> dict[DeviceId, int]:
    """Return whom a device says to have failed its audits, and when, Unix milliseconds."""
    found = {}
    for key in board.keys(device, FAILED):
        with contextlib.suppress(codec.Malformed):
            (when,) = codec.as_list(codec.decode(board.value(device, key) or b"", 16), length=1)
            found[DeviceId(key[1:])] = codec.as_int(when)
    return found


def _pieces(form: Form, parts: set[int]) -> set[int]:
    """Return the pieces of a form among parts."""
    if not form.k:
        return {0} if 0 in parts else set()
    split = map(split_part, parts)
    return {index for k, m, index in split if (k, m) == (form.k, form.m) and index < form.pieces}


def _put(among: dict[K, set[V]], key: K, value: V, *, gone: bool) -> None:
    found = among.setdefault(key, set())
    if gone:
        found.discard(value)
    else:
        found.add(value)
    if not found:
        del among[key]
