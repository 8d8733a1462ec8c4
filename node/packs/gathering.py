"""The loop by which a device that offers space comes to hold what it is to hold: it fetches its own pieces, most
endangered packs first, and drops what is surplus, or of packs that are none any more, after the grace period.

Nobody is told to do anything: each device does its own share of what all of them compute. Whoever does the same at
the same time as another holds the same bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import trio
import trio.lowlevel

from shoal.crdt.model import DeviceId
from shoal.node.packs.backend import BackendFailed
from shoal.node.packs.sheet import Declared
from shoal.node.packs.wire import NotThere
from shoal.node.store import StoreFull
from shoal.transfer import erasure, merkle
from shoal.transfer.placement import Claims, Holder, Need, Plan, Policy, choose, mine
from shoal.transfer.stream import StreamClosed

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder

AT_ONCE = 3  # pieces that are fetched beside each other
SLICE = 200  # packs planned between two looks at what else there is to do
LOOK_EVERY = 10.0  # seconds, where nothing is told
AGAIN = 5.0  # seconds after which what could not be fetched is tried again
LEADER_WAITS = 60.0  # seconds in which who leads is to have rebuilt a piece, before it is rebuilt here
SETTLES = 4.0  # seconds after who is there changed, until all are likely to know: two would rebuild the same before
SAY_EVERY = 1.0  # seconds between two words on what came


class Gatherer:
    """Of one folder."""

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder
        self._waits_since: dict[tuple[bytes, int], float] = {}
        self._leaders: dict[bytes, bytes] = {}
        self._there: tuple[frozenset[bytes], float] = (frozenset(), -SETTLES)
        self._unneeded: dict[tuple[bytes, int], float] = {}  # since when
        self._said_at = 0.0
        self.lacking = 0  # pieces, at the last look

    async def run(self) -> None:
        """Hold what is to be held, until cancelled."""
        folder = self._folder
        while True:
            news = folder.news
            began = time.monotonic()
            done = False
            if folder.packs.offer_for(folder.id) > 0 or folder.packs.shelf.used(folder.id):
                plan = await self._planned()
                self.lacking = len(plan.needs)
                done = await self._fetch_all(plan.needs)
                await self._drop(plan)
            folder.publish()
            took = time.monotonic() - began
            await trio.sleep(min(60.0, max(0.3, took)) if not done else 0.05)
            if not done:
                with trio.move_on_after(AGAIN if self.lacking else LOOK_EVERY):
                    await news.wait()

    async def _planned(self) -> Plan:
        folder, ledger = self._folder, self._folder.ledger
        policy = ledger.policy().policy
        own = bytes(folder.node.key.id)
        claims: dict[bytes, dict[bytes, set[int]]] = ledger.claims()
        for pack, index in folder.packs.shelf.held(folder.id):
            claims.setdefault(pack, {}).setdefault(own, set()).add(index)
        holders = ledger.holders()
        there = frozenset(each.device for each in holders)
        if there != self._there[0]:
            self._there = there, trio.current_time()
        plain = list(ledger.plain().values())
        if not policy.is_erasure:
            plain = plain[: policy.copies - 1]  # one copy at least is where the folder itself is not
        away = {bytes(each.device) for each in holders} - {bytes(d) for d in folder.node.sessions} - {own}
        needs: list[Need] = []
        parts: list[Plan] = []
        for able, packs in _by_room(ledger.packs(), holders, claims, ledger.full()):
            for at in range(0, len(packs), SLICE):
                part = mine(own, packs[at : at + SLICE], able, policy, claims, plain, away)
                parts.append(part)
                needs += part.needs
                await trio.lowlevel.checkpoint()
        needs.sort(key=lambda need: (need.spare, -need.zones_short, need.pack))
        warm = self._warm(holders, plain) if not policy.is_erasure else set()
        lacking = warm - {need.pack for need in needs}
        needs += [Need(p, 0, policy.copies) for p in lacking if not folder.packs.shelf.indexes(folder.id, p)]
        self._follow_leaders(needs)
        surplus = tuple(each for part in parts for each in part.surplus if each.pack not in warm)
        return Plan(tuple(needs), surplus, tuple(pack for part in parts for pack in part.out_of_reach))

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
        mine_is = zones.get(own)
        found = set()
        for pack, wanted in ledger.hot().items():
            if mine_is is None or mine_is not in wanted or mine_is in plain or not ledger.is_pack(pack):
                continue
            chosen = choose(pack, holders, max(0, ledger.policy().policy.copies - len(plain)), plain)
            near = [each for each in holders if each.zone == mine_is]
            if not any(zones[device] == mine_is for device in chosen) and choose(pack, near, 1) == (own,):
                found.add(pack)
        return found

    # -- fetching ----------------------------------------------------------------------------------------------------

    async def _fetch_all(self, needs: Sequence[Need]) -> bool:
        """Fetch pieces; return whether any came. Of many, some, so that what is most urgent is looked at anew."""
        waiting = list(needs[:64])[::-1]
        came = False

        async def work() -> None:
            nonlocal came
            while waiting:
                came = await self._fetch(waiting.pop()) or came

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(waiting))):
                nursery.start_soon(work)
        return came

    async def _fetch(self, need: Need) -> bool:
        folder = self._folder
        declared = folder.ledger.declared(need.pack)
        if (
            declared is None
            or need.index >= declared.pieces
            or folder.packs.room(folder.id) < declared.size_of(need.index)
        ):
            return False
        if (declared.k, declared.m) != (self._policy.k, self._policy.m):
            return False  # who can read the folder says anew how it is split
        try:
            data = await self._obtained(need, declared)
            if data is None:
                return False
            await folder.packs.shelf.keep(folder.id, need.pack, need.index, declared.root_of(need.index), data)
        except (BackendFailed, StoreFull, ValueError) as error:
            folder.packs.trouble(folder, str(error))
            return False
        folder.packs.kept_well(folder)
        self._waits_since.pop((need.pack, need.index), None)
        folder.claim(need.pack, need.index, held=True)
        folder.packs.announce([need.pack])
        if trio.current_time() - self._said_at > SAY_EVERY:
            self._said_at = trio.current_time()
            folder.publish()
        return True

    @property
    def _policy(self) -> Policy:
        return self._folder.ledger.policy().policy

    async def _obtained(self, need: Need, declared: Declared) -> bytes | None:
        """Return a piece, verified: from who holds it, who has the folder as files, or made of others."""
        own = DeviceId(self._folder.node.key.id)
        spare = self._folder.packs.giver.spares.pop((need.pack, need.index), None)
        if spare is not None:
            return spare
        for device in self._sources(need):
            data = await self._piece(device, need.pack, need.index, declared)
            if data is not None:
                return data
        if not declared.k:
            return None
        now = trio.current_time()
        if now < self._there[1] + SETTLES:
            return None
        waited = now - self._waits_since.setdefault((need.pack, need.index), now)
        leads = DeviceId(self._leaders.get(need.pack, own))
        if leads != own and waited < LEADER_WAITS and leads in self._folder.node.sessions:
            return await self._piece(leads, need.pack, need.index, declared)
        return await self._rebuilt(need, declared)

    def _sources(self, need: Need) -> list[DeviceId]:
        folder = self._folder
        holding = [d for d, held in folder.ledger.claims_of(need.pack).items() if need.index in held]
        plain = [d for d in folder.ledger.plain() if folder.says(d)]
        own, there = folder.node.key.id, folder.node.sessions
        found = []
        for among in (holding, plain):
            fit = [device for device in among if device != own and device in there]
            random.shuffle(fit)
            found += fit
        return found

    async def _piece(self, device: DeviceId, pack: bytes, index: int, declared: Declared) -> bytes | None:
        """Return a piece as a device has it, verified; None where it has not."""
        packs = self._folder.packs
        size = declared.size_of(index)
        await packs.budget.wait(size)
        try:
            data = await packs.client.get(device, self._folder.id, pack, index, 0, size)
        except (NotThere, StreamClosed):
            return None
        packs.count("repair_received", size)
        if await trio.to_thread.run_sync(merkle.root_of, data) != declared.root_of(index):
            packs.lied(self._folder, device, pack, f"it sent other bytes than piece {index} of a pack has")
            return None
        return data

    async def _rebuilt(self, need: Need, declared: Declared) -> bytes | None:
        """Return a piece that nobody holds, made of k others; what else is lost is kept for a moment for the others."""
        packs, own = self._folder.packs, self._folder.node.key.id
        pieces: dict[int, bytes] = {}
        for index in packs.shelf.indexes(self._folder.id, need.pack):
            data = await packs.shelf.read(self._folder.id, need.pack, index, 0, declared.size_of(index))
            if merkle.root_of(data) == declared.root_of(index):
                pieces[index] = data
        there = self._folder.node.sessions
        for device, held in self._folder.ledger.claims_of(need.pack).items():
            for index in held - pieces.keys() if device != own and device in there else ():
                if len(pieces) < declared.k and index < declared.pieces:
                    found = await self._piece(device, need.pack, index, declared)
                    if found is not None:
                        pieces[index] = found
        if len(pieces) < declared.k:
            return None
        wanted = sorted({need.index, *need.lost} - pieces.keys())
        coding = erasure.Coding(declared.k, declared.m)
        made = await trio.to_thread.run_sync(erasure.rebuild, pieces, coding, declared.size, wanted)
        for index, data in made.items():
            if merkle.root_of(data) != declared.root_of(index):
                packs.trouble(self._folder, "a pack's pieces do not belong together: who declared it is at fault")
                return None
            if index != need.index:
                packs.giver.spare(need.pack, index, bytes(data))
        return bytes(made[need.index])

    # -- dropping ----------------------------------------------------------------------------------------------------

    async def _drop(self, plan: Plan) -> None:
        """Let go of what is not needed here any more, once that was so for the grace period."""
        folder, now = self._folder, trio.current_time()
        unneeded = {(each.pack, each.index) for each in plan.surplus}
        for piece in list(folder.packs.shelf.held(folder.id)):
            if folder.ledger.is_dropped(piece[0]):
                unneeded.add(piece)
        self._unneeded = {piece: self._unneeded.get(piece, now) for piece in unneeded}
        grace = folder.ledger.policy().grace
        for (pack, index), since in list(self._unneeded.items()):
            if now - since >= grace:
                folder.claim(pack, index, held=False)
                folder.publish()
                await folder.packs.shelf.remove(folder.id, pack, index)
                folder.packs.announce_no_more(folder.id, pack)


def _by_room(
    packs: Sequence[bytes], holders: Sequence[Holder], claims: Mapping[bytes, Claims], full: set[bytes]
) -> list[tuple[list[Holder], list[bytes]]]:
    """Return packs, and who may hold them: who is full holds what it has, and nothing else."""
    groups: dict[frozenset[bytes], list[bytes]] = {}
    for pack in packs:
        groups.setdefault(frozenset(full & claims.get(pack, {}).keys()) if full else frozenset(), []).append(pack)
    return [([h for h in holders if h.device not in full or h.device in has], found) for has, found in groups.items()]
