"""A simulated device: the real engine, replica, sessions and fetcher on a simulated disk, store and network."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import trio
from tests.sim.filesystem import SimFileSystem
from trio_typing import TaskStatus

from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.folder.coming import Coming
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_kind import find_rules
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.engine import FolderEngine
from shoal.node.folder.marker import make_marker
from shoal.node.holdings import Held
from shoal.node.name_rules import PLAIN, NameRules
from shoal.node.replica import Replica
from shoal.node.session import Session
from shoal.node.store import MemoryStore
from shoal.node.store.port import Op
from shoal.node.swarm import Swarm
from shoal.transfer.client import Fetcher

T = TypeVar("T")
R = TypeVar("R")

FOLDER = FolderId(b"f" * 16)
ROOT = "/home"
EPOCH_S = 1_800_000_000
CHANGES = frozenset({"rename", "exchange", "link", "unlink", "mkdir", "rmdir", "chmod", "utime", "write", "sync"})


class PowerCut(BaseException):
    """The device lost its power at this very line."""


@dataclass(frozen=True)
class Machine:
    """What differs between devices. `skew_s`: how wrong its clock is; `grain_ns`: how coarse its file times are;
    `names`: which names its disk can hold; `renames_case`: see `SimFileSystem`."""

    skew_s: float
    grain_ns: int
    watches_badly: bool
    names: NameRules = PLAIN
    renames_case: bool = True


class SimStore(MemoryStore):
    """A store that has no power after the cut."""

    dead = False
    on_write: Callable[[], None] = staticmethod(lambda: None)

    def write(self, ops: Sequence[Op], *, sync: bool) -> None:
        if self.dead:
            raise PowerCut
        self.on_write()
        super().write(ops, sync=sync)


class InlineTurns(DiskTurns):
    """No threads: everything at once, with a chance for others in between."""

    async def apart(self, work: Callable[..., R], *arguments: object) -> R:
        await trio.sleep(0.0005)
        return work(*arguments)

    async def run(
        self, work: Callable[[Sequence[T]], list[R]], items: Sequence[T], size_of: Callable[[T], int] | None = None
    ) -> list[R]:
        results: list[R] = []
        for at in range(0, len(items), 3):
            results += work(items[at : at + 3])
            await trio.sleep(0.0005)
        return results


class Device:
    """`start` brings it up; `cut_power` ends it as a power cut does."""

    def __init__(self, number: int, seed: int, machine: Machine) -> None:
        self.number = number
        self.chance = random.Random(f"{seed} {number}")
        self.machine = machine
        self.key = DeviceKey(bytes([number + 1]) * 32)
        self.fs = SimFileSystem(
            self.now_ns, machine.grain_ns, 1 << 30, machine.names, renames_case=machine.renames_case
        )
        self.fs.on_call = self._on_call
        self.fs.on_change = self._on_change
        self.store = SimStore()
        self.store.on_write = lambda: self._on_call("store", "")
        self.sessions: dict[DeviceId, Session] = {}
        self.account = SimpleNamespace(
            invitation=lambda: SimpleNamespace(roster=(), catalog=()),
            merge=lambda roster, catalog: None,
            folders=lambda: {FOLDER: None},
            is_member=lambda device: True,
        )
        access = SimpleNamespace(may_sync=lambda *about: True, may_read=lambda *about: True)
        self.packs: Any = SimpleNamespace(greeting=lambda folder: None, on_board=lambda *said: None)
        self.mail: Any = SimpleNamespace(told_to=lambda device: ([], []), take=lambda *said: None)
        self.sharing: Any = SimpleNamespace(access=access, told_to=lambda device: [], take=lambda *told: None)
        self.trouble: list[str] = []
        self.up = False
        self.scope = trio.CancelScope()
        self.changed_paths: set[str] = set()
        self.by_hand = False  # a person is at the disk
        self.on_done: Callable[[str, str], None] = lambda name, path: None  # what the engine does, call by call
        self._cut_in: int | None = None
        self._cut_at: frozenset[str] = frozenset()
        self._meddling: tuple[int, Callable[[str], None]] | None = None
        self._news = trio.Event()
        self.fs.mkdir(ROOT, 0o755)
        make_marker(Disk(self.fs), ROOT, FOLDER)
        self.fs.settle()

    @property
    def id(self) -> DeviceId:
        return self.key.id

    def now_ns(self) -> int:
        """Return this machine's wall clock."""
        elapsed = trio.current_time() if _in_trio() else 0.0
        return int((EPOCH_S + self.machine.skew_s + elapsed) * 1e9)

    # -- power -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be up until the power is cut, or the scope cancelled."""
        self.scope = trio.CancelScope()
        self.store.dead = False
        self.fetcher = Fetcher()
        self.swarm = Swarm(self.key.id, self.fetcher, self.sessions, self.need)
        self.replica = Replica(
            self.store,
            FOLDER,
            FolderKeys.from_secret(b"s" * 32),
            self.key,
            lambda device: True,
            self._now_ms,
            self.chance.randbytes,
        )
        self.engine = FolderEngine(
            ROOT,
            self.store,
            self.replica,
            self._fetch,
            self._now_ms,
            fs=self.fs,
            turns=InlineTurns(),
            watch=self._watch,
            find_rules=self._find_rules,
        )
        self.replica.grown = self._wake
        self.engine.on_progress = self._wake
        self.engine.on_arrived = partial(self.swarm.on_arrived, FOLDER)
        self.engine.on_coming = partial(self.swarm.tell_coming, FOLDER)
        self.engine.on_event = self._on_event
        self.up = True
        try:
            with self.scope:
                await self.engine.run()
        except* PowerCut:
            pass
        finally:
            self.up = False

    def cut_power(self, calls: int, after: frozenset[str] = frozenset()) -> None:
        """Have the power cut at the `calls`-th system call or write of the store from now on; or, if any are named,
        from the next call of `after` on."""
        self._cut_in, self._cut_at = calls, after

    def spare_power(self) -> None:
        """Have no cut of the power, nor anybody meddle."""
        self._cut_in = self._meddling = None

    def meddle(self, calls: int, act: Callable[[str], None]) -> None:
        """Have a person act right before the `calls`-th call from now on that changes a name or a file; they are told
        its path."""
        self._meddling = calls, act

    def lose(self) -> None:
        """The power is gone: lose what was not synced."""
        self._cut_in = self._meddling = None
        self.store.dead = True
        self.store.crash()
        self.fs.crash(self.chance)
        self.scope.cancel()

    def _on_call(self, name: str, path: str) -> None:
        if self.store.dead:
            raise PowerCut
        if self.by_hand:
            return
        self.on_done(name, path)
        self._count_to_meddling(name, path)
        if self._cut_in is None:
            return
        if self._cut_at:
            if name in self._cut_at:
                self._cut_at = frozenset()
            return
        self._cut_in -= 1
        if self._cut_in < 0:
            self.lose()
            raise PowerCut

    def _count_to_meddling(self, name: str, path: str) -> None:
        if self._meddling is not None and name in CHANGES:
            left, act = self._meddling
            self._meddling = (left - 1, act) if left else None
            if not left:
                act(path)

    # -- what the engine has around it -------------------------------------------------------------------------------

    def _find_rules(self, disk: Disk, root: str) -> NameRules:
        if self.machine.names.plain:
            return PLAIN  # known without a call, so that the lives of such devices stay what they were
        found = find_rules(disk, root)
        assert found == self.machine.names, found
        return found

    def _now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def _on_event(self, kind: str, text: str) -> None:
        if "fault of Shoal" in text:
            self.trouble.append(text)

    def _wake(self) -> None:
        self.swarm.on_need(FOLDER)
        for session in self.sessions.values():
            session.wake()

    def _on_change(self, path: str) -> None:
        relative = path.removeprefix(ROOT + "/")
        if not relative.startswith(".shoal"):
            self.changed_paths.add(relative)
            self._news.set()

    async def _watch(
        self,
        root: str,
        saw: Callable[[set[str]], None],
        lost_track: Callable[[], None],
        task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self.changed_paths.clear()
        task_status.started()
        while True:
            self._news = trio.Event()
            await self._news.wait()
            await trio.sleep(self.chance.choice([0.02, 0.02, 0.1, 0.4]))
            paths, self.changed_paths = self.changed_paths, set()
            if self.machine.watches_badly and self.chance.random() < 0.1:
                lost_track()
            else:
                saw(paths)

    async def _fetch(
        self,
        wants: Sequence[tuple[bytes, int]],
        sink: Callable[[list[tuple[bytes, Any]]], Awaitable[None]],
        priority: int,
    ) -> list[bytes]:
        return await self.fetcher.fetch(FOLDER, self.replica.content_key, wants, sink, priority)

    # -- what a session asks of its node -----------------------------------------------------------------------------

    def replicas(self) -> Mapping[FolderId, Replica]:
        return {FOLDER: self.replica}

    def need(self, folder: FolderId) -> tuple[int, int]:
        if self.engine.is_idle():
            return 0, 0
        state = self.engine.state()
        return max(1, state.needed_files), state.needed_bytes

    @property
    def attesting(self) -> Device:
        return self

    def holds(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        return self.engine.leaver.holds(asked)

    async def prove(self, asker: DeviceId, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        return [b""] * len(asked)  # here nothing is left out

    def addresses(self, asker: DeviceId) -> list[str]:
        return []

    def on_hello(self, device: DeviceId, addresses: list[str]) -> None:
        pass

    def on_have(self, device: DeviceId, folder: FolderId, chunks: Sequence[bytes]) -> None:
        self.fetcher.on_have(device, folder, chunks)

    def on_coming(self, device: DeviceId, folder: FolderId, coming: Coming) -> None:
        self.engine.early.on_coming(device, coming)

    def on_peer_news(self, device: DeviceId, folder: FolderId) -> None:
        self.swarm.on_need(folder)
        if self.swarm.may_have_more(device, folder, trio.current_time()):
            self.fetcher.retry_missing(device)
        self.engine.retry_now()

    def on_log_restarted(self) -> None:
        for session in list(self.sessions.values()):
            session.end()

    def on_write_refused(self, device: DeviceId, folder: FolderId, author: DeviceId) -> None:
        self.trouble.append(f"{author.hex()[:8]} may not write")

    def on_misbehaved(self, device: DeviceId, reason: str) -> None:
        self.trouble.append(f"{device.hex()[:8]} misbehaved: {reason}")

    # -- what the exchange asks --------------------------------------------------------------------------------------

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        return True

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | None]:
        return await self.engine.read_chunks(ids)

    def on_sent(self, peer: bytes, size: int) -> None:
        self.fetcher.stats.sent += size


def _in_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
