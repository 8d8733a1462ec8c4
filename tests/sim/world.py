"""One life of a few devices: people at work, power cuts, partitions and wrong clocks, all from one seed; then peace, in
which everything must become the same everywhere, with nothing lost."""

from __future__ import annotations

import random
import stat
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import trio
import trio.testing
from tests.sim.device import ROOT, Device, Machine, PowerCut
from tests.sim.network import stream_pair
from tests.sim.person import Person, Texts

from shoal.crdt.codec import Malformed
from shoal.crdt.model import Version
from shoal.node.session import MAX_FRAME, Session
from shoal.transfer.messages import MAX_FRAME as EXCHANGE_FRAME
from shoal.transfer.server import serve
from shoal.transfer.stream import FrameStream, FrameTooLarge, StreamClosed

PEACE = 900.0  # virtual seconds within which all must be the same


class Failure(AssertionError):
    """What must not happen, happened."""


@dataclass
class Link:
    """Whether two devices can talk, and the conversation's end."""

    open: bool = True
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class World:
    """Runs one seed."""

    def __init__(self, seed: int, devices: int = 3, operations: int = 60) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.operations = operations
        self.texts = Texts()
        self.devices = [Device(number, seed, self._machine()) for number in range(devices)]
        self.people = [Person(device, self.texts, seed) for device in self.devices]
        self.links = {pair: Link() for pair in combinations(range(devices), 2)}
        self.script: list[str] = []
        self._stopping = False

    def _machine(self) -> Machine:
        return Machine(
            skew_s=self.chance.choice([0.0, 0.0, -3.2e8, 9.5e7]),
            grain_ns=self.chance.choice([1, 4_000_000, 1_000_000_000]),
            watches_badly=self.chance.random() < 0.3,
        )

    async def live(self) -> None:
        """Live; raises Failure."""
        async with trio.open_nursery() as nursery:
            for device in self.devices:
                nursery.start_soon(self._keep_up, device)
            for pair in self.links:
                nursery.start_soon(self._keep_talking, *pair)
            await trio.sleep(0.5)
            for _ in range(self.operations):
                await trio.sleep(self.chance.choice([0, 0, 0.01, 0.05, 0.3, 1.0]))
                self._happen()
            await self._make_peace()
            self._check()
            self._stopping = True
            nursery.cancel_scope.cancel()

    # -- what happens ------------------------------------------------------------------------------------------------

    def _happen(self) -> None:
        dice = self.chance.random()
        if dice < 0.80:
            person = self.chance.choice(self.people)
            if not person.device.store.dead:
                self._note(f"{person.device.number}: {person.act()}")
        elif dice < 0.87:
            pair = self.chance.choice(list(self.links))
            link = self.links[pair]
            link.open = not link.open
            link.scope.cancel()
            self._note(f"link {pair} {'heals' if link.open else 'breaks'}")
        elif dice < 0.94:
            device = self.chance.choice(self.devices)
            calls = self.chance.choice([0, 3, 10, 40, 150])
            device.cut_power(calls)
            self._note(f"{device.number}: power cut after {calls} calls")
        else:
            device = self.chance.choice(self.devices)
            device.machine = Machine(
                device.machine.skew_s + self.chance.choice([-1e8, -5.0, 3.0, 1e6]),
                device.machine.grain_ns,
                device.machine.watches_badly,
            )
            self._note(f"{device.number}: its clock jumps")

    def _note(self, text: str) -> None:
        self.script.append(f"{trio.current_time() % 1e5:9.3f} {text}")

    async def _keep_up(self, device: Device) -> None:
        while True:
            await device.run()
            if not device.store.dead:
                return
            self._note(f"{device.number}: no power")
            for pair, link in self.links.items():
                if device.number in pair:
                    link.scope.cancel()
            await trio.sleep(self.chance.choice([0.1, 2.0, 10.0]))

    async def _keep_talking(self, one: int, other: int) -> None:
        link, a, b = self.links[one, other], self.devices[one], self.devices[other]
        while True:
            await trio.sleep(self.chance.choice([0.05, 0.3]))
            if link.open and a.up and b.up:
                link.scope = trio.CancelScope()
                try:
                    with link.scope:
                        await self._talk(a, b)
                except* PowerCut:
                    pass

    async def _talk(self, a: Device, b: Device) -> None:
        delay = lambda: self.chance.choice([0.001, 0.001, 0.02, 0.3])  # noqa: E731
        streams = stream_pair(a.id, b.id, delay)
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
                    mine, theirs = stream_pair(taker.id, giver.id, delay)
                    nursery.start_soon(serve, FrameStream(theirs, EXCHANGE_FRAME), giver)
                    return FrameStream(mine, EXCHANGE_FRAME)

                await taker.fetcher.hold(giver.id, open_stream)

            nursery.start_soon(converse, a, streams[0])
            nursery.start_soon(converse, b, streams[1])
            nursery.start_soon(hold, a, b)
            nursery.start_soon(hold, b, a)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _make_peace(self) -> None:
        self._note("peace")
        for link in self.links.values():
            link.open = True
        for device in self.devices:
            device.cut_power(1 << 60)
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
            raise Failure("it does not come to rest:\n" + "\n".join(map(_state, self.devices)))
        before = [dict(device.replica.frontier) for device in self.devices]
        await trio.sleep(60)
        if before != [dict(device.replica.frontier) for device in self.devices]:
            raise Failure("it goes on and on")

    def _is_quiet(self) -> bool:
        if not all(device.up for device in self.devices):
            return False
        frontier = self.devices[0].replica.frontier
        return all(
            device.replica.frontier == frontier and device.engine.is_idle() and device.engine.state().status == "idle"
            for device in self.devices
        )

    def _check(self) -> None:
        for device in self.devices:
            if device.trouble:
                raise Failure(f"device {device.number}: {device.trouble[0]}")
        trees = [self._tree(person) for person in self.people]
        for device, tree in zip(self.devices[1:], trees[1:], strict=True):
            if tree != trees[0]:
                mine, theirs = set(trees[0].items()), set(tree.items())
                raise Failure(f"0 and {device.number} differ: {sorted(mine - theirs)} against {sorted(theirs - mine)}")
        live = {content for _, content in trees[0].values() if isinstance(content, bytes)}
        lost = self.texts.written - live - self.texts.destroyed - self._kept()
        if lost:
            raise Failure(f"lost: {sorted(lost)}")
        for person in self.people:
            left = [name for name, _ in person.fs.scan(f"{ROOT}/.shoal/tmp")]
            if left:
                raise Failure(f"device {person.device.number} leaves {left}")

    def _tree(self, person: Person) -> dict[str, tuple[int, bytes | str]]:
        tree: dict[str, tuple[int, bytes | str]] = {}
        for path in person.paths():
            found = person.fs.lstat(path)
            content: bytes | str = person.text(path) if stat.S_ISREG(found.mode) else "folder"
            tree[path] = found.mode, content
        return tree

    def _kept(self) -> set[bytes]:
        kept = set()
        for person in self.people:
            versions = f"{ROOT}/.shoal/versions"
            kept |= {person.text(f"{versions}/{name}") for name, _ in person.fs.scan(versions)}
        return kept


def _state(device: Device) -> str:
    """Return what a device waits for."""
    if not device.up:
        return f"{device.number}: down"
    state = device.engine.state()
    lines = [f"{device.number}: {state.status} {state.reason} {[(p.path, p.reason) for p in state.problems]}"]
    for node in device.replica.dirty.first(6):
        view, record = device.replica.view(node), device.engine.index.get(node)
        wanted = f"{view.name!r} {_version(view.version)}" if view is not None else "gone"
        if view is not None:
            wanted += "".join(f", copy {_version(each)}" for each in view.conflicts)
        there = (
            f"{device.engine.index.path(node)!r} {record.version.hex()[:4]}" if record and record.version else "nothing"
        )
        lines.append(f"    {node.hex()[:6]} wanted {wanted}; there {there}")
    return "\n".join(lines)


def _version(version: Version) -> str:
    return f"{version.id.hex()[:4]} by {version.device.hex()[:4]} {type(version.content).__name__} at {version.lamport}"


def run(seed: int, devices: int = 3, operations: int = 60) -> World:
    """Run one seed to its end. Raises Failure, whose world's script tells what happened."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio._core._run._r.seed(seed)  # type: ignore[attr-defined]
    world = World(seed, devices, operations)
    try:
        trio.run(world.live, clock=trio.testing.MockClock(autojump_threshold=0))
    except* Failure as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise Failure(f"seed {seed}: {error}\n" + "\n".join(world.script)) from None
    return world
