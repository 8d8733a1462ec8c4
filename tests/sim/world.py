"""One life of a few devices: people at work, power cuts, partitions, full disks and wrong clocks, all from one seed;
then peace, in which everything must become the same everywhere, with nothing lost and nothing come back.

Operations are numbered, and each draws from a `Random` of its own: a life `without` some is the same life but for what
those did, which is how `minimise` finds the few that matter.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any

import trio
import trio.testing
from tests.sim.device import ROOT, Device, Machine, PowerCut
from tests.sim.end import Failure, check, describe
from tests.sim.network import stream_pair
from tests.sim.person import Person, Texts

from shoal.crdt.codec import Malformed
from shoal.crdt.model import DeviceId
from shoal.node.name_rules import NameRules
from shoal.node.session import MAX_FRAME, Session
from shoal.transfer.messages import MAX_FRAME as EXCHANGE_FRAME
from shoal.transfer.server import serve
from shoal.transfer.stream import FrameStream, FrameTooLarge, StreamClosed

PEACE = 900.0  # virtual seconds within which all must be the same
ROOM = 1 << 30
APFS = NameRules(case="full", forms=True, utf8=True)
HFS = NameRules(case="full", forms=True, stores="NFD", ignores=True, utf8=True)
EXT4_CASEFOLD = NameRules(case="full", forms=True, ignores=True)
VFAT = NameRules(case="simple", forbids=True, trims=True, utf8=True)
WINDOWS = NameRules(case="simple", forbids=True, trims=True, reserves=True, utf8=True)
NTFS_3G = NameRules(case="simple", forbids=True, trims=True, reserves=True, utf8=True, lowers=True)
DISKS = [APFS, HFS, EXT4_CASEFOLD, VFAT, WINDOWS, NTFS_3G]
PLACING = frozenset({"rename", "exchange"})


@dataclass
class Link:
    """Whether two devices can talk, and the conversation's end. `deaf`: those that nothing comes to; they cannot be
    connected to, either."""

    chance: random.Random
    open: bool = True
    deaf: set[DeviceId] = field(default_factory=set)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def delay(self) -> float:
        """Draw how long something is under way, seconds."""
        return self.chance.choice([0.001, 0.001, 0.02, 0.3])


class World:
    """Runs one seed."""

    def __init__(
        self,
        seed: int,
        devices: int = 3,
        operations: int = 60,
        without: Collection[int] = (),
        *,
        odd_disks: bool | None = None,
    ) -> None:
        """`odd_disks`: whether some devices have disks that do not hold all names; None: one seed in three."""
        self.seed = seed
        self.operations = operations
        self.without = without
        self.texts = Texts()
        chance = random.Random(seed)
        machines = [_machine(chance) for _ in range(devices)]
        fancies = None
        disks = random.Random(f"{seed} disks")  # of its own: the lives with ordinary disks stay what they were
        if disks.random() < 1 / 3 if odd_disks is None else odd_disks:
            machines, fancies = _with_odd_disks(disks, machines), f"{seed} fancies"
        self.devices = [Device(number, seed, machine) for number, machine in enumerate(machines)]
        self.people = [Person(device, self.texts, fancies) for device in self.devices]
        self.links = {pair: Link(random.Random(f"{seed} {pair}")) for pair in combinations(range(devices), 2)}
        self.script: list[str] = []
        self._done = hashlib.blake2b(digest_size=8)
        self._nursery: trio.Nursery
        for device in self.devices:
            device.on_done = partial(self._sign, device.number)

    def _sign(self, number: int, name: str, path: str) -> None:
        self._done.update(f"{number} {trio.current_time()} {name} {path}\n".encode("utf-8", "surrogateescape"))

    @property
    def digest(self) -> str:
        """A sign of every system call that the engines made, and when."""
        return self._done.hexdigest()

    async def live(self) -> None:
        """Live; raises Failure."""
        async with trio.open_nursery() as self._nursery:
            for device in self.devices:
                self._nursery.start_soon(self._keep_up, device)
            for pair in self.links:
                self._nursery.start_soon(self._keep_talking, *pair)
            await trio.sleep(0.5)
            for number in range(self.operations):
                chance = random.Random(f"{self.seed} {number}")
                await trio.sleep(chance.choice([0, 0, 0.01, 0.05, 0.3, 1.0]))
                if number not in self.without:
                    self._happen(number, chance)
            await self._make_peace()
            check(self.people, self.texts)
            self._nursery.cancel_scope.cancel()

    # -- what happens ------------------------------------------------------------------------------------------------

    def _happen(self, number: int, chance: random.Random) -> None:
        dice = chance.random()
        person = chance.choice(self.people)
        device = person.device
        if dice < 0.70:
            if not device.store.dead:
                self._note(number, f"{device.number}: {person.act(chance, str(number))}")
        elif dice < 0.75:
            if not device.store.dead:
                self._act_hastily(number, chance, person)
        elif dice < 0.80:
            self._meddle(number, chance, person)
        elif dice < 0.86:
            self._change_link(number, chance)
        elif dice < 0.93:
            calls = chance.choice([0, 1, 2, 3, 10, 40, 150])
            after = chance.choice([frozenset[str](), PLACING])
            device.cut_power(calls, after)
            self._note(number, f"{device.number}: power cut after {calls} calls{' once it places' if after else ''}")
        elif dice < 0.96:
            full = device.fs.room == ROOM
            device.fs.room = device.fs.used + chance.choice([0, 15, 60]) if full else ROOM
            self._note(number, f"{device.number}: its disk {'is full' if full else 'has room again'}")
        else:
            skew = device.machine.skew_s + chance.choice([-1e8, -5.0, 3.0, 1e6])
            device.machine = replace(device.machine, skew_s=skew)
            self._note(number, f"{device.number}: its clock jumps")

    def _act_hastily(self, number: int, chance: random.Random, person: Person) -> None:
        """Write a file, and again within a moment: perhaps within the grain of its times."""
        files = person.files()
        if not files:
            return
        path, moments = chance.choice(files), [chance.choice([0, 0.0003, 0.003, 0.02, 0.2]) for _ in range(2)]

        async def go_on() -> None:
            for count, moment in enumerate(moments):
                await trio.sleep(moment)
                if not person.device.store.dead:
                    said = person.edit_again(chance, f"{number}+{count}", path)
                    self._note(number, f"{person.device.number}: {said}")

        self._nursery.start_soon(go_on)

    def _meddle(self, number: int, chance: random.Random, person: Person) -> None:
        """Do something to what the engine is about to change."""
        calls = chance.choice([0, 1, 2, 3, 5, 8, 13, 21, 34])

        def act(path: str) -> None:
            said = person.act(chance, str(number), path)
            self._note(number, f"{person.device.number}: at the moment of a change of {path}: {said}")

        person.device.meddle(calls, act)

    def _change_link(self, number: int, chance: random.Random) -> None:
        pair = chance.choice(list(self.links))
        link = self.links[pair]
        way = self.devices[chance.choice(pair)]
        if chance.random() < 0.3:
            link.deaf ^= {way.id}
            self._note(number, f"link {pair}: {way.number} {'is' if way.id in link.deaf else 'is not'} deaf")
        else:
            link.open = not link.open
            link.scope.cancel()
            self._note(number, f"link {pair} {'heals' if link.open else 'breaks'}")

    def _note(self, number: int | None, text: str) -> None:
        label = "" if number is None else str(number)
        self.script.append(f"{trio.current_time() % 1e5:9.3f} {label:>3} {text}")

    async def _keep_up(self, device: Device) -> None:
        while True:
            await device.run()
            if not device.store.dead:
                return
            self._note(None, f"{device.number}: no power")
            for pair, link in self.links.items():
                if device.number in pair:
                    link.scope.cancel()
            await trio.sleep(device.chance.choice([0.1, 2.0, 10.0]))

    async def _keep_talking(self, one: int, other: int) -> None:
        link, a, b = self.links[one, other], self.devices[one], self.devices[other]
        while True:
            await trio.sleep(link.chance.choice([0.05, 0.3]))
            if link.open and not link.deaf and a.up and b.up:
                link.scope = trio.CancelScope()
                try:
                    with link.scope:
                        await self._talk(a, b, link)
                except* PowerCut:
                    pass

    async def _talk(self, a: Device, b: Device, link: Link) -> None:
        lost = link.deaf.__contains__
        streams = stream_pair(a.id, b.id, link.delay, lost)
        async with trio.open_nursery() as nursery:

            async def converse(device: Device, stream: Any) -> None:
                session = Session(FrameStream(stream, MAX_FRAME), device, trio.current_time)  # type: ignore[arg-type]
                device.sessions[session.device] = session
                try:
                    await session.run()
                except* (StreamClosed, FrameTooLarge, Malformed):
                    pass
                finally:
                    device.sessions.pop(session.device, None)
                nursery.cancel_scope.cancel()

            async def hold(taker: Device, giver: Device) -> None:
                async def open_stream() -> FrameStream:
                    mine, theirs = stream_pair(taker.id, giver.id, link.delay, lost)
                    nursery.start_soon(serve, FrameStream(theirs, EXCHANGE_FRAME), giver)
                    return FrameStream(mine, EXCHANGE_FRAME)

                await taker.fetcher.hold(giver.id, open_stream)

            nursery.start_soon(converse, a, streams[0])
            nursery.start_soon(converse, b, streams[1])
            nursery.start_soon(hold, a, b)
            nursery.start_soon(hold, b, a)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _make_peace(self) -> None:
        self._note(None, "peace")
        for link in self.links.values():
            link.open = True
            link.deaf.clear()
        for device in self.devices:
            device.spare_power()
            device.fs.room = ROOM
        with trio.move_on_after(20):
            while not all(device.up for device in self.devices):  # noqa: ASYNC110 - simulated time costs nothing
                await trio.sleep(0.5)
        for device in self.devices:
            device.engine.scan_soon()
        quiet = 0
        with trio.move_on_after(PEACE):
            while quiet < 5:
                await trio.sleep(1)
                quiet = quiet + 1 if self._is_quiet() else 0
        if quiet < 5:
            raise Failure("it does not come to rest", "\n".join(map(describe, self.devices)))
        before = [dict(device.replica.frontier) for device in self.devices]
        await trio.sleep(60)
        if before != [dict(device.replica.frontier) for device in self.devices]:
            raise Failure("it goes on and on", "\n".join(map(describe, self.devices)))

    def _is_quiet(self) -> bool:
        if not all(device.up for device in self.devices):
            return False
        frontier = self.devices[0].replica.frontier
        return all(
            device.replica.frontier == frontier and device.engine.is_idle() and device.engine.state().status == "idle"
            for device in self.devices
        )


def _machine(chance: random.Random) -> Machine:
    return Machine(
        skew_s=chance.choice([0.0, 0.0, -3.2e8, 9.5e7]),
        grain_ns=chance.choice([1, 4_000_000, 1_000_000_000]),
        watches_badly=chance.random() < 0.3,
    )


def _with_odd_disks(chance: random.Random, machines: list[Machine]) -> list[Machine]:
    odd = chance.sample(range(len(machines)), chance.choice([1, 1, 2]))
    return [
        replace(machine, names=chance.choice(DISKS), renames_case=chance.random() < 0.5) if number in odd else machine
        for number, machine in enumerate(machines)
    ]


def run(
    seed: int,
    devices: int = 3,
    operations: int = 60,
    without: Collection[int] = (),
    *,
    odd_disks: bool | None = None,
) -> World:
    """Run one seed to its end, `without` the operations of these numbers; `odd_disks` as in `World`. Raises Failure,
    whose script tells what happened."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio._core._run._r.seed(seed)  # type: ignore[attr-defined]
    world = World(seed, devices, operations, without, odd_disks=odd_disks)
    try:
        trio.run(world.live, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, Exception):
            raise
        if not isinstance(error, Failure):
            raise Failure("it raised", repr(error), tuple(world.script)) from error
        raise Failure(error.kind, error.detail, tuple(world.script)) from None
    return world


__all__ = ["ROOT", "Failure", "World", "run"]
