"""One life of a network: holders come, die and leave, zones burn, and packs are repaired or lost.

A step is a day. A pack's pieces are where `choose` says; who is to hold a piece and lacks it has it once the loss was
noticed (`GRACE`) and its own line carried it. A day's losses come before its repairs.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

from shoal.transfer.placement import Holder, Policy, assign, choose, score

YEAR = 365  # days
GRACE = 1  # days
PACK = 32 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Rates:
    """What happens in a year. `disk`: of a holder's disk; `leaves`: its owner takes it away for good; `burns`: all that
    is in a zone is gone at once."""

    disk: float = 0.0157
    leaves: float = 0.10
    burns: float = 0.002


@dataclass(frozen=True, slots=True)
class Setting:
    """A network. `stands_for`: how many packs each simulated one is of; `line`: bytes a day that a holder may fetch."""

    nodes: int = 1000
    zones: int = 20
    packs: int = 3000
    years: int = 10
    rates: Rates = field(default_factory=Rates)
    stands_for: int = 1000
    line: int = 54 * 10**9


@dataclass(slots=True)
class Outcome:
    """What became of it. `repaired`: pieces fetched; `read`: bytes read for that; `worst`: the fewest pieces beyond
    those needed that any pack that lived had at a day's end."""

    lost: int = 0
    deaths: int = 0
    burnt: int = 0
    repaired: int = 0
    read: float = 0.0
    worst: int = 1 << 30
    days: int = 0


class World:
    """One network under one policy. `knows_zones`: whether holders say where they are; `repairs`: whether there are
    any."""

    def __init__(
        self, setting: Setting, policy: Policy, seed: int, *, knows_zones: bool = True, repairs: bool = True
    ) -> None:
        self.setting = setting
        self.policy = policy
        self.outcome = Outcome()
        self._rng = random.Random(seed)
        self._knows_zones = knows_zones
        self._repairs = repairs
        self._born = 0
        self._zone: dict[bytes, str] = {}  # where each is in truth
        self._holders: dict[bytes, Holder] = {}
        self._chosen: dict[bytes, tuple[bytes, ...]] = {}
        self._held: dict[bytes, dict[bytes, int]] = {}  # who has which piece of a pack on disk
        self._of: dict[bytes, set[bytes]] = defaultdict(set)  # the packs that a holder is chosen for
        self._waiting: dict[bytes, int] = {}  # packs that lack a piece, and since which day
        for _ in range(setting.nodes):
            self._join()
        for number in range(setting.packs):
            pack = number.to_bytes(32)
            self._choose(pack)
            self._held[pack] = assign(self._chosen[pack], {}, policy)

    def run(self) -> Outcome:
        """Let the years pass."""
        for day in range(self.setting.years * YEAR):
            self._lose(day)
            if self._repairs:
                self._repair(day)
            self.outcome.days = day + 1
        return self.outcome

    # -- losses ------------------------------------------------------------------------------------------------------

    def _lose(self, day: int) -> None:
        rates, rng = self.setting.rates, self._rng
        daily = (rates.disk + rates.leaves) / YEAR
        gone = [device for device in self._holders if rng.random() < daily]
        for number in range(self.setting.zones):
            if rng.random() < rates.burns / YEAR:
                gone += [device for device, zone in self._zone.items() if zone == f"zone {number}"]
                self.outcome.burnt += 1
        for device in dict.fromkeys(gone):
            self._die(device, day)
        for _ in dict.fromkeys(gone) if self._repairs else ():
            self._come(self._join(), day)

    def _die(self, device: bytes, day: int) -> None:
        self.outcome.deaths += 1
        del self._holders[device], self._zone[device]
        for pack in [pack for pack, held in self._held.items() if device in held]:
            del self._held[pack][device]
            if self._living(pack) < self.policy.needed:
                self._forget(pack)
                self.outcome.lost += 1
        for pack in list(self._of.pop(device, ())):
            self._choose(pack)
            self._waiting.setdefault(pack, day)

    def _forget(self, pack: bytes) -> None:
        for device in self._chosen.pop(pack):
            self._of[device].discard(pack)
        del self._held[pack]
        self._waiting.pop(pack, None)

    # -- who holds what ----------------------------------------------------------------------------------------------

    def _join(self) -> Holder:
        self._born += 1
        device = self._born.to_bytes(32)
        self._zone[device] = f"zone {self._rng.randrange(self.setting.zones)}"
        holder = Holder(device, self._zone[device] if self._knows_zones else "", 1.0)
        self._holders[device] = holder
        return holder

    def _come(self, holder: Holder, day: int) -> None:
        """Give a holder that is new its share: a pack's least score is what it has to be above, in any zone."""
        for pack, chosen in list(self._chosen.items()):
            least = min((score(pack, device, 1.0) for device in chosen), default=0.0)
            if score(pack, holder.device, 1.0) > least and self._choose(pack):
                self._waiting.setdefault(pack, day)

    def _choose(self, pack: bytes) -> bool:
        before = self._chosen.get(pack, ())
        chosen = choose(pack, self._holders.values(), self.policy.pieces)
        for device in before:
            self._of[device].discard(pack)
        for device in chosen:
            self._of[device].add(pack)
        self._chosen[pack] = chosen
        return set(chosen) != set(before)

    def _living(self, pack: bytes) -> int:
        """Return how many pieces there are that count: different ones, or copies."""
        held = self._held[pack]
        return len(set(held.values())) if self.policy.is_erasure else len(held)

    def _repair(self, day: int) -> None:
        left: dict[bytes, float] = {}
        for pack in sorted(self._waiting, key=self._living):
            if day < self._waiting[pack] + GRACE:
                continue
            held, chosen = self._held[pack], self._chosen[pack]
            indexes = assign(chosen, {device: (index,) for device, index in held.items()}, self.policy)
            there = set(held.values())
            is_rebuilt = False
            for device in chosen:
                if device in held:
                    continue
                is_lost = self.policy.is_erasure and indexes[device] not in there
                # The first that lacks a lost piece reads k, and makes all that are lost of them.
                size = PACK if is_lost and not is_rebuilt else PACK / self.policy.needed
                room = left.setdefault(device, float(self.setting.line))
                if room < size * self.setting.stands_for:
                    continue
                is_rebuilt = is_rebuilt or is_lost
                left[device] = room - size * self.setting.stands_for
                held[device] = indexes[device]
                self.outcome.repaired += 1
                self.outcome.read += size
            if all(device in held for device in chosen):
                self._held[pack] = {device: held[device] for device in chosen}  # what is surplus goes
                del self._waiting[pack]
        least = min((self._living(pack) for pack in self._held), default=0)
        self.outcome.worst = min(self.outcome.worst, least - self.policy.needed)
