"""Two or more folder engines on real folders, joined by function calls instead of a network."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
import trio.lowlevel

from shoal.crdt.frontier import missing
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.model import FolderId
from shoal.node.folder.disk import Disk
from shoal.node.folder.engine import FolderEngine
from shoal.node.folder.linux import Linux
from shoal.node.folder.marker import make_marker
from shoal.node.holdings import Held
from shoal.node.possession import Challenge, Verifier
from shoal.node.replica import Replica
from shoal.node.store import MemoryStore, Store

FOLDER = FolderId(b"f" * 16)
Landed = list[tuple[bytes, bytes | memoryview]]


class _Asked:
    """One device's questions to another, answered by its engine."""

    def __init__(self, asker: Device, answerer: Device) -> None:
        self._asker = asker
        self._answerer = answerer

    async def ask(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        await trio.lowlevel.checkpoint()
        return self._answerer.engine.leaver.holds(asked)

    async def challenge(self, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        challenge = Challenge(nonce, folder, self._asker.id, self._answerer.id)
        return await self._answerer.engine.leaver.proofs(challenge, asked, wanted=True)


class Device:
    """A device with one folder. `run` keeps it going; a new `Device` on the same store and root is a restart."""

    def __init__(self, number: int, root: Path, store: Store | None = None) -> None:
        self.root = root
        self.store = store or MemoryStore()
        self.others: list[Device] = []
        self.fetched = 0
        self.now_ms = 1000  # the wall clock
        key = DeviceKey(bytes([number]) * 32)
        self.id = key.id
        self._verifier = Verifier(self.id)
        entropy = random.Random(os.urandom(8)).randbytes
        self.replica = Replica(
            self.store,
            FOLDER,
            FolderKeys.from_secret(b"s" * 32),
            key,
            lambda device: True,
            lambda: self.now_ms,
            entropy,
        )
        root.mkdir(exist_ok=True)
        make_marker(Disk(Linux()), str(root), FOLDER)
        self.engine = FolderEngine(str(root), self.store, self.replica, self._fetch, lambda: 0)
        self.replica.grown = self.push
        self.engine.leaver.held_elsewhere = self._held_elsewhere

    def push(self) -> None:
        for other in self.others:
            for span in missing(self.replica.frontier, other.replica.frontier):
                refusal = other.replica.receive_entries(self.replica.read_entries(span))
                assert refusal is None, refusal

    async def _held_elsewhere(self, asked: Sequence[Held]) -> list[bool]:
        settled: set[Held] = set()
        for other in self.others:
            prove = partial(self.engine.leaver.proofs, wanted=False)
            settled.update((await self._verifier.ask(other.id, _Asked(self, other), FOLDER, asked, prove))[0])
        return [held in settled for held in asked]

    async def _fetch(
        self, wants: Sequence[tuple[bytes, int]], sink: Callable[[Landed], Awaitable[None]], priority: int
    ) -> list[bytes]:
        lacking = []
        for chunk, length in wants:
            for other in self.others:
                (data,) = await other.engine.read_chunks([chunk])
                if data is not None:
                    assert len(data) == length
                    self.fetched += length
                    await sink([(chunk, data)])
                    break
            else:
                lacking.append(chunk)
        return lacking


def join(*devices: Device) -> None:
    """Connect the devices with each other, and let them catch up."""
    for device in devices:
        device.others = [other for other in devices if other is not device]
    for device in devices:
        device.push()


@asynccontextmanager
async def running(*devices: Device) -> AsyncIterator[None]:
    """Let the engines work in the block."""
    async with trio.open_nursery() as nursery:
        for device in devices:
            nursery.start_soon(device.engine.run)
        yield
        nursery.cancel_scope.cancel()


def part(*devices: Device) -> None:
    """Disconnect the devices."""
    for device in devices:
        device.others = []


async def conflict(one: Device, other: Device) -> None:
    """Have both running devices change `f` while apart, then meet: there is a copy of it from then on."""
    (one.root / "f").write_text("base")
    await settle(one, other)
    part(one, other)
    (one.root / "f").write_text("from one")
    (other.root / "f").write_text("from the other")
    await trio.sleep(0.6)
    join(one, other)
    await settle(one, other)


async def settle(*devices: Device, seconds: float = 60) -> None:
    """Wait until all are idle and agree. Raises AssertionError that says who is not, and why."""
    with trio.move_on_after(seconds):
        quiet = 0
        while quiet < 5:
            frontiers = [device.replica.frontier for device in devices]
            same = all(frontier == frontiers[0] for frontier in frontiers)
            quiet = quiet + 1 if same and all(device.engine.is_idle() for device in devices) else 0
            await trio.sleep(0.05)
        return
    raise AssertionError("\n".join(_state(device) for device in devices if not device.engine.is_idle()))


def _state(device: Device) -> str:
    lines = [f"{device.root.name}: {device.engine.state()}"]
    for node in device.replica.dirty.first(10):
        view, record = device.replica.view(node), device.engine.index.get(node)
        there = (
            f"{device.engine.index.path(node)} {record.kind} {record.version!r}" if record is not None else "nothing"
        )
        lines.append(f"  {node.hex()[:8]} wanted: {view}\n    there: {there}")
    return "\n".join(lines)


def listing(root: Path) -> str:
    """Return what find and sha256sum say of a folder: an opinion that is not Shoal's."""
    script = (
        "find . -path ./.shoal -prune -o -type d -printf '%y %m %P\\n' -o -printf '%y %m %s %T@ %P -> %l\\n' | sort;"
        "find . -path ./.shoal -prune -o -type f -print0 | sort -z | xargs -0r sha256sum"
    )
    return subprocess.run(["sh", "-c", script], cwd=root, check=True, capture_output=True).stdout.decode(
        "utf-8", "surrogateescape"
    )
