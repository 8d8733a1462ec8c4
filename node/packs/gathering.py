"""The loop by which a device that offers space comes to hold what it is to hold: it fetches its own pieces, most
endangered packs first, and drops what is surplus, or of packs that are none any more, after the grace period.

Nobody is told to do anything: each device does its own share of what all of them compute. Whoever does the same at
the same time as another holds the same bytes. What is surplus goes only after who is to have it has proven that it
does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
import trio.lowlevel

from shoal.crdt.model import DeviceId
from shoal.node.packs.backend import BackendFailed
from shoal.node.packs.sheet import WHOLE, Form
from shoal.node.store import StoreFull
from shoal.transfer.placement import Claims, Holder, Need, Plan, Policy, choose, mine

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder

AT_ONCE = 3  # pieces that are fetched beside each other
LOOKED_AT = 256  # needs between two plans, so that what is most urgent is looked at anew
SLICE = 200  # packs planned between two looks at what else there is to do
LOOK_EVERY = 10.0  # seconds, where nothing is told
AGAIN = 5.0  # seconds after which what could not be fetched is tried again
SETTLES = 4.0  # seconds after who is there changed, until all are likely to know: two would rebuild the same before
SAY_EVERY = 1.0  # seconds between two words on what came
REST = 0.3  # seconds at least between two plans

NOTHING = Plan((), (), ())


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a plan follows from; where it is the same, so is the plan."""

    changes: int
    holders: tuple[Holder, ...]
    plain: tuple[str, ...]
    away: frozenset[bytes]
    held: int


class Gatherer:
    """Of one folder."""

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder
        self._scene: Scene | None = None
        self._plan = NOTHING
        self._leaders: dict[bytes, bytes] = {}
        self._there: tuple[frozenset[bytes], float] = (frozenset(), -SETTLES)
        self._unneeded: dict[tuple[bytes, int], float] = {}  # since when
        self._said_at = 0.0
        self.lacking = 0  # pieces, at the last look

    async def run(self) -> None:
        """Hold what is to be held, until cancelled."""
        folder = self._folder
        while True:
            news, came = folder.news, False
            if folder.packs.offer_for(folder.id) > 0 or folder.packs.shelf.used(folder.id):
                plan = await self._planned()
                self.lacking = len(plan.needs)
                came = await self._fetch_all(plan.needs)
                await self._drop(plan)
            folder.publish()
            await trio.sleep(REST)
            if not came:
                with trio.move_on_after(AGAIN if self.lacking else LOOK_EVERY):
                    await news.wait()

    # -- planning ----------------------------------------------------------------------------------------------------

    async def _planned(self) -> Plan:
        folder, ledger = self._folder, self._folder.ledger
        own = bytes(folder.node.key.id)
        holders = ledger.holders()
        there = frozenset(each.device for each in holders)
        if there != self._there[0]:
            self._there = there, trio.current_time()
        away = there - {bytes(d) for d in folder.node.sessions} - {own}
        plain = tuple(ledger.plain().values())
        scene = Scene(ledger.changes, tuple(holders), plain, away, folder.packs.shelf.count(folder.id))
        if scene == self._scene:
            return self._plan
        claims = self._claims()
        parts: list[Plan] = []
        for policy, packs in self._by_policy().items():
            known = plain if policy.is_erasure else plain[: policy.copies - 1]  # one copy at least is elsewhere
            for able, some in _by_room(packs, holders, claims, ledger.full()):
                for at in range(0, len(some), SLICE):
                    parts.append(mine(own, some[at : at + SLICE], able, policy, claims, known, away))
                    await trio.lowlevel.checkpoint()
        needs = sorted(
            (need for part in parts for need in part.needs), key=lambda need: (need.spare, -need.zones_short, need.pack)
        )
        warm = self._warm(holders, plain)
        needs += [Need(pack, 0, ledger.policy().policy.copies) for pack in warm - {need.pack for need in needs}]
        held = folder.packs.shelf.held(folder.id)
        needs = [need for need in needs if (need.pack, self._part(need)) not in held]
        self._follow_leaders(needs)
        surplus = tuple(each for part in parts for each in part.surplus if each.pack not in warm)
        self._scene = scene
        self._plan = Plan(tuple(needs), surplus, tuple(pack for part in parts for pack in part.out_of_reach))
        return self._plan

    def _claims(self) -> dict[bytes, dict[bytes, set[int]]]:
        """Return who holds what; of this device what is on its shelf, whatever its sheet says."""
        folder = self._folder
        own, claims = bytes(folder.node.key.id), folder.ledger.claims()
        for by in claims.values():
            by.pop(own, None)
        for pack, part in folder.packs.shelf.held(folder.id):
            form = folder.ledger.form(pack)
            if form is not None and part == form.part(part & 255):
                claims.setdefault(pack, {}).setdefault(own, set()).add(part & 255)
        return claims

    def _by_policy(self) -> dict[Policy, list[bytes]]:
        found: dict[Policy, list[bytes]] = {}
        for pack in self._folder.ledger.packs():
            policy = self._folder.policy_of(pack)
            if policy is not None:
                found.setdefault(policy, []).append(pack)
        return found

    def _part(self, need: Need) -> int:
        form = self._folder.ledger.form(need.pack)
        return form.part(need.index) if form is not None else WHOLE

    def _follow_leaders(self, needs: Sequence[Need]) -> None:
        """Keep to who was to rebuild a pack at first: once that one has its own piece it leads no more, and has the
        others' yet."""
        led = {need.pack: need.leader for need in needs if need.leader is not None}
        self._leaders = {pack: self._leaders.get(pack, leads) for pack, leads in led.items()}

    def _warm(self, holders: Sequence[Holder], plain: Sequence[str]) -> set[bytes]:
        """Return the packs of which this device is to have a copy more, as they are read much in its zone, and nobody
        there has them by the policy: the one of the zone that suits the pack best."""
        ledger, own = self._folder.ledger, bytes(self._folder.node.key.id)
        zones = {each.device: each.zone for each in holders}
        here = zones.get(own)
        found = set()
        for pack, wanted in ledger.hot().items():
            form, policy = ledger.form(pack), self._folder.policy_of(pack)
            if here is None or here not in wanted or here in plain or form is None or form.k or policy is None:
                continue
            chosen = choose(pack, holders, policy.copies - min(len(plain), policy.copies - 1), plain)
            near = [each for each in holders if each.zone == here]
            if not any(zones[device] == here for device in chosen) and choose(pack, near, 1) == (own,):
                found.add(pack)
        return found

    # -- fetching ----------------------------------------------------------------------------------------------------

    async def _fetch_all(self, needs: Sequence[Need]) -> bool:
        """Fetch pieces; return whether any came."""
        waiting = list(needs[:LOOKED_AT])[::-1]
        came = False

        async def work() -> None:
            nonlocal came
            while waiting:
                need = waiting.pop()
                async with self._folder.packs.fetching:
                    came = await self._fetch(need) or came

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(waiting))):
                nursery.start_soon(work)
        return came

    async def _fetch(self, need: Need) -> bool:
        folder, packs = self._folder, self._folder.packs
        form = folder.ledger.form(need.pack)
        if form is None or need.index >= form.pieces or packs.room(folder.id) < form.size_of(need.index):
            return False
        part = form.part(need.index)
        try:
            data = await self._obtained(need, form)
            if data is None:
                return False
            await packs.shelf.keep(folder.id, need.pack, part, form.root_of(need.index), data)
        except (BackendFailed, StoreFull, ValueError) as error:
            packs.trouble(folder, str(error))
            return False
        packs.kept_well(folder)
        folder.claim(need.pack, part, held=True)
        packs.announce([need.pack])
        if trio.current_time() - self._said_at > SAY_EVERY:
            self._said_at = trio.current_time()
            folder.publish()
        return True

    async def _obtained(self, need: Need, form: Form) -> bytes | None:
        """Return a piece, verified: from who holds it, who has the folder as files, or made of others."""
        own, part = self._folder.node.key.id, form.part(need.index)
        spare = self._folder.packs.giver.taken(need.pack, part)
        if spare is not None:
            return spare
        source = self._folder.packs.source(self._folder)
        for device in self._sources(need.pack, part):
            data = await source.piece(device, need.pack, part, form)
            if data is not None:
                return data
        settled = trio.current_time() - self._there[1] - self._settles_in(need)
        if settled < 0:
            return None
        leads = DeviceId(self._leaders.get(need.pack, own))
        if form.k and leads != own and leads in self._folder.node.sessions and settled < source.PATIENCE:
            return await source.piece(leads, need.pack, part, form)
        return await source.rebuilt(need.pack, form, need.index, need.lost)

    def _settles_in(self, need: Need) -> float:
        """Return how long after who is there changed nothing is rebuilt. Holders that died together are missed one
        after the other, within a beat: what is not endangered is rebuilt for all of them at once."""
        return max(SETTLES, 1.25 * self._folder.beat) if need.spare > 0 else SETTLES

    def _sources(self, pack: bytes, part: int) -> list[DeviceId]:
        """Return who has a piece and is connected; who holds it first, then who can make it of all of the pack."""
        ledger, there, own = self._folder.ledger, self._folder.node.sessions, self._folder.node.key.id
        found: list[DeviceId] = []
        for among in (ledger.holding(pack, part), list(ledger.plain()), ledger.holding(pack, WHOLE) if part else []):
            fit = [device for device in among if device != own and device in there and device not in found]
            random.shuffle(fit)
            found += fit
        return found

    # -- dropping ----------------------------------------------------------------------------------------------------

    async def _drop(self, plan: Plan) -> None:
        """Let go of what is not needed here any more, once that was so for the grace period."""
        folder, now = self._folder, trio.current_time()
        unneeded = {(each.pack, self._part(Need(each.pack, each.index, 0))) for each in plan.surplus}
        for pack, part in folder.packs.shelf.held(folder.id):
            form = folder.ledger.form(pack)
            if folder.ledger.is_dropped(pack) or (form is not None and part != form.part(part & 255)):
                unneeded.add((pack, part))
        self._unneeded = {piece: self._unneeded.get(piece, now) for piece in unneeded}
        grace = folder.ledger.policy().grace
        for (pack, part), since in list(self._unneeded.items()):
            if now - since >= grace and (folder.ledger.is_dropped(pack) or await self._is_safe(pack, part)):
                folder.claim(pack, part, held=False)
                folder.publish()
                try:
                    await folder.packs.shelf.remove(folder.id, pack, part)
                except (BackendFailed, StoreFull) as error:
                    folder.packs.trouble(folder, str(error))
                folder.packs.announce_no_more(folder.id, pack)

    async def _is_safe(self, pack: bytes, part: int) -> bool:
        """Return whether a pack is held as its policy says without a part that is here, by what was just proven: of a
        code, who has this piece of it; where it is of another form, or a copy, as many as there should be."""
        folder = self._folder
        form = folder.ledger.form(pack)
        if form is None:
            return False
        is_piece = form.k > 0 and part == form.part(part & 255)
        proven: set[tuple[DeviceId, int]] = set()
        for index in [part & 255] if is_piece else range(form.pieces):
            for device in folder.ledger.holding(pack, form.part(index)):
                if form.part(index) != part or device != folder.node.key.id:
                    proven |= {(device, index)} if await self._has(device, pack, form, index) else set()
        needed = 1 if is_piece else form.pieces if form.k else folder.wanted(pack)
        return len({index for _, index in proven} if form.k else proven) >= needed

    async def _has(self, device: DeviceId, pack: bytes, form: Form, index: int) -> bool:
        packs, folder = self._folder.packs, self._folder.id
        if device != self._folder.node.key.id:
            return bool(await packs.auditor(folder).challenge(device, pack, index))
        try:
            return await packs.shelf.check(folder, pack, form.part(index))
        except (BackendFailed, StoreFull):
            return False


def _by_room(
    packs: Sequence[bytes], holders: Sequence[Holder], claims: Mapping[bytes, Claims], full: frozenset[bytes]
) -> list[tuple[list[Holder], list[bytes]]]:
    """Return packs, and who may hold them: who is full holds what it has, and nothing else."""
    groups: dict[frozenset[bytes], list[bytes]] = {}
    for pack in packs:
        groups.setdefault(full & claims.get(pack, {}).keys() if full else full, []).append(pack)
    return [([h for h in holders if h.device not in full or h.device in has], found) for has, found in groups.items()]
