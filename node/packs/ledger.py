"""What a folder's board comes to: which packs there are, who holds which pieces, who offers space, and the policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

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
    POLICY_KEY,
    About,
    Declared,
    FolderPolicy,
)
from shoal.transfer.placement import Holder

KEY = 33  # bytes of a kind and a pack's id


class Ledger:
    """Of one folder. `says`: whether what a device says of packs and of the policy counts; `present`: whether a device
    was heard of lately; `believed`: whether what it says to hold is believed."""

    def __init__(
        self,
        board: Board,
        says: Callable[[DeviceId], bool],
        present: Callable[[DeviceId], bool],
        believed: Callable[[DeviceId], bool],
    ) -> None:
        self._board = board
        self._says = says
        self._present = present
        self._believed = believed
        self._declarers: dict[bytes, set[DeviceId]] = {}
        self._droppers: dict[bytes, set[DeviceId]] = {}
        self._claims: dict[bytes, dict[DeviceId, set[int]]] = {}
        self.about: dict[DeviceId, About] = {}
        self.generation = 0  # it grows with each change
        self._policy: tuple[int, FolderPolicy] | None = None  # by generation

    def load(self) -> None:
        """Take all that is on the board."""
        for device in self._board.devices():
            self.follow(device, dict.fromkeys(self._all_keys(device), b""))

    def _all_keys(self, device: DeviceId) -> Iterator[bytes]:
        for kind in (DECLARED, DROPPED, HOLDS):
            yield from self._board.keys(device, kind)

    def follow(self, device: DeviceId, changes: Mapping[bytes, bytes | None]) -> None:
        """Take what changed of a device's sheet."""
        self.generation += 1
        record = self._board.record(device)
        self.about[device] = About()
        if record is not None:
            with contextlib.suppress(codec.Malformed):
                self.about[device] = About.decode(record.about)
        for key, value in changes.items():
            kind, pack = key[:1], key[1:KEY]
            if kind in (DECLARED, DROPPED) and len(key) == KEY:
                among = self._declarers if kind == DECLARED else self._droppers
                if value is not None:
                    among.setdefault(pack, set()).add(device)
                elif device in among.get(pack, ()):
                    among[pack].discard(device)
                    if not among[pack]:
                        del among[pack]
            elif kind == HOLDS and len(key) == KEY + 1:
                held = self._claims.setdefault(pack, {}).setdefault(device, set())
                if value is not None:
                    held.add(key[KEY])
                else:
                    held.discard(key[KEY])
                if not held:
                    del self._claims[pack][device]
                    if not self._claims[pack]:
                        del self._claims[pack]

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

    def declarers(self, pack: bytes) -> set[DeviceId]:
        """Return who says that there is a pack."""
        return {device for device in self._declarers.get(pack, ()) if self._says(device)}

    def declared(self, pack: bytes) -> Declared | None:
        """Return what was said of a pack; the split form where the devices say several."""
        found = None
        for device in sorted(self.declarers(pack)):
            value = self._board.value(device, DECLARED + pack)
            with contextlib.suppress(codec.Malformed):
                said = Declared.decode(value or b"")
                if found is None or (said.k, said.m) > (found.k, found.m):
                    found = said
        return found

    def policy(self) -> FolderPolicy:
        """Return the folder's policy."""
        if self._policy is not None and self._policy[0] == self.generation:
            return self._policy[1]
        newest = (-1, b"", FolderPolicy())
        for device in self._board.devices():
            value = self._board.value(device, POLICY_KEY) if self._says(device) else None
            if value is not None:
                with contextlib.suppress(codec.Malformed):
                    said = FolderPolicy.decode(value)
                    newest = max(newest, (said.time_ms, bytes(device), said), key=lambda each: each[:2])
        self._policy = self.generation, newest[2]
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
        """Return who has all of the folder as files, and was heard of lately, with its zone."""
        return {d: zone_of(d, about) for d, about in self.about.items() if about.plain and self._counts(d)}

    def holders(self) -> list[Holder]:
        """Return who offers space, and was heard of lately."""
        return [
            Holder(device, zone_of(device, about), about.offer * max(1, about.online) / 1000)
            for device, about in self.about.items()
            if about.offer and not about.plain and self._counts(device)
        ]

    def claims(self) -> dict[bytes, dict[bytes, set[int]]]:
        """Return by pack who holds which pieces, of those that are believed and were heard of lately."""
        counted = {device for device in self.about if self._counts(device)}
        return {
            pack: {bytes(device): held for device, held in by.items() if device in counted}
            for pack, by in self._claims.items()
        }

    def full(self) -> set[bytes]:
        """Return who takes no more than it holds."""
        return {bytes(device) for device, about in self.about.items() if about.full}

    def claims_of(self, pack: bytes) -> dict[DeviceId, set[int]]:
        """Return who says to hold which pieces of a pack, of those that are believed."""
        return {device: held for device, held in self._claims.get(pack, {}).items() if self._believed(device)}

    def claimed_by(self, device: DeviceId) -> list[tuple[bytes, int]]:
        """Return the pieces that a device says to hold."""
        return [(pack, index) for pack, by in self._claims.items() for index in by.get(device, ())]

    def accused(self) -> set[DeviceId]:
        """Return whom others say to have failed an audit."""
        return {DeviceId(key[1:]) for device in self._board.devices() for key in self._board.keys(device, FAILED)}

    def _counts(self, device: DeviceId) -> bool:
        return self._present(device) and self._believed(device)


def zone_of(device: DeviceId, about: About) -> str:
    """Return a device's zone; who says none is one by itself."""
    return about.zone or f"({device.hex()[:8]})"
