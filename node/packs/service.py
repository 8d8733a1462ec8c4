"""The packs of one node: what it offers, what it holds for which folder, and who works on that."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cbor2
import trio

from shoal.bootstrap.peerid import device_from_bytes, peer_id_text
from shoal.crdt.model import DeviceId, FolderId
from shoal.dht.keyspace import Key
from shoal.node.bulkhead import bulkhead
from shoal.node.packs.auditing import Auditor
from shoal.node.packs.backend import BackendFailed
from shoal.node.packs.budget import Budget
from shoal.node.packs.folder import PackFolder
from shoal.node.packs.gathering import Gatherer
from shoal.node.packs.giving import Giver
from shoal.node.packs.heat import Heat
from shoal.node.packs.loop import Loop
from shoal.node.packs.making import Packer
from shoal.node.packs.online import Online
from shoal.node.packs.reading import PackReader
from shoal.node.packs.sheet import HOLDS, PART
from shoal.node.packs.shelf import Shelf
from shoal.node.packs.sourcing import Source
from shoal.node.packs.use import Use
from shoal.node.packs.wire import MAX_FRAME, PROTOCOL, PieceClient
from shoal.node.packs.wire import serve as serve_pieces
from shoal.node.store import Store, StoreFull
from shoal.transfer.packs import multihash
from shoal.transfer.server import serve as serve_chunks
from shoal.transfer.stream import ByteStream, Frames, FrameStream

if TYPE_CHECKING:
    from shoal.node.daemon import Node

OFFER = b"offer"
RESERVE = 1 << 30  # bytes of the disk that are left free
LOGS_SHARE = 10  # of a quota, one part for logs alone
LOOK_EVERY = 1.0
RECONCILE_AGAIN = 10.0
REMOVE_AGAIN = 600.0
MOST_PUBLISHED = 50  # folders looked at for news in that time
SCRUB_RATE = 8 * 1024 * 1024  # bytes a second
LIES = 3  # wrong answers after which a device is not believed any more
FETCHING = 4  # parts that are fetched at the same time, in memory, of all folders
SEEK_AGAIN = 60.0  # seconds between two looks into the DHT for the holders of one folder's packs


@dataclass(frozen=True, slots=True)
class Offer:
    """What this node offers to hold of others' packs. `zone`: where it is, for people to say; `repair`: bytes a second
    that fetching pieces may take, 0 for as many as come."""

    size: int = 0
    zone: str = ""
    repair: int = 0


class _Working:
    """What works on one folder."""

    def __init__(self, folder: PackFolder) -> None:
        self.folder = folder
        self.gatherer = Gatherer(folder)
        self.auditor = Auditor(folder)
        self.packer: Packer | None = None
        self.reader = PackReader(folder)
        self.source = Source(folder)
        self.heat = Heat()


class Packs:
    """Of one node; what a session asks of boards. `working`: what works on each folder."""

    def __init__(self, node: Node, store: Store, shelf: Shelf) -> None:
        self.node = node
        self.store = store
        self.shelf = shelf
        self.budget = Budget()
        self.giver = Giver(self)
        self._is_ready = False  # whether it is known what is held
        self.heavy = trio.CapacityLimiter(2)  # packs that are made at the same time, in memory
        self.fetching = trio.CapacityLimiter(FETCHING)
        self.use = Use(self)
        self.counts: Counter[str] = Counter()  # bytes since the start
        self.client = PieceClient(self._open)
        self.working: dict[FolderId, _Working] = {}
        self._lies: Counter[DeviceId] = Counter()
        self._troubled: dict[FolderId, str] = {}
        self._sought_at: dict[FolderId, float] = {}
        saved = store.get("meta", OFFER)
        self.offer = Offer(*cbor2.loads(saved)) if saved is not None else Offer()
        self.budget.rate = self.offer.repair
        self._online = Online(store)
        self._nursery: trio.Nursery

    # -- what people say ---------------------------------------------------------------------------------------------

    def set_offer(self, offer: Offer) -> None:
        """Offer this much from now on. Raises StoreFull."""
        self.store.write([("meta", OFFER, cbor2.dumps([offer.size, offer.zone, offer.repair]))], sync=True)
        self.offer = offer
        self.budget.rate = offer.repair
        self._hold_own()
        for working in self.working.values():
            working.folder.publish()
            working.folder.wake()

    def folder(self, folder: FolderId) -> PackFolder | None:
        """Return a folder's packs; None where it is not here, or it is not known yet what is held."""
        is_here = folder in self.node.folders or folder in self.node.holding.all
        if self._is_ready and is_here and folder not in self.working:
            self._follow()
        working = self.working.get(folder)
        return working.folder if working is not None else None

    def all(self) -> list[PackFolder]:
        """Return all folders' packs."""
        return [working.folder for working in self.working.values()]

    def auditor(self, folder: FolderId) -> Auditor:
        """Return who challenges the holders of a folder's packs."""
        return self.working[folder].auditor

    def unpacked(self, folder: FolderId) -> int:
        """Return how many chunks of a folder are waiting to be packed here."""
        packer = self.working[folder].packer
        return packer.waiting if packer is not None else 0

    def source(self, folder: PackFolder) -> Source:
        """Return where whole pieces of a folder's packs come from."""
        return self.working[folder.id].source

    # -- running -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work on the packs of all folders that are here, until cancelled."""
        self._is_ready = False
        self.working.clear()  # of a run before, that failed
        async with trio.open_nursery() as self._nursery:
            await self._reconcile()
            self._nursery.start_soon(self._scrub)
            self._nursery.start_soon(self.use.run)
            shared = self.node.sharing.changed
            while True:
                self._follow()
                if shared is not self.node.sharing.changed:  # who may do what may be another
                    shared = self.node.sharing.changed
                    for working in self.working.values():
                        working.folder.ledger.changes += 1
                self._publish_some()
                self._online.count(time.time())
                await trio.sleep(LOOK_EVERY)

    async def _reconcile(self) -> None:
        """See what is held, as soon as the place where it is can be reached; nothing is fetched or dropped before."""
        told = ""
        while True:
            try:
                lost = await self.shelf.reconcile()
                break
            except BackendFailed as error:
                if str(error) != told:
                    told = str(error)
                    self.node.events.add("packs-failed", f"pieces of packs cannot be kept or given: {told}")
            await trio.sleep(RECONCILE_AGAIN)
        if lost:
            self.node.events.add("packs-lost", f"{lost} pieces that were held here are gone: they are fetched anew")
        self.announce({pack for folder in self.shelf.folders() for pack, _ in self.shelf.held(folder)})
        self._is_ready = True

    def _publish_some(self) -> None:
        """Say what is new of each folder in its turn: of many, some at a time, as a seed may have thousands."""
        for _ in range(min(len(self.working), MOST_PUBLISHED)):
            folder, working = next(iter(self.working.items()))
            self.working[folder] = self.working.pop(folder)  # it is the last in the next round
            working.folder.publish()

    async def _scrub(self) -> None:
        await self.shelf.scrub(SCRUB_RATE)

    def damaged(self, folder: FolderId, pack: bytes, part: int) -> None:
        """A piece that was held here is not what it was, and is held no more."""
        self.node.events.add("piece-damaged", f"a piece of pack {pack.hex()[:12]} is damaged, and is fetched anew")
        found = self.folder(folder)
        if found is not None:
            found.claim(pack, part, held=False)
            found.publish()
            found.wake()

    def _follow(self) -> None:
        """Begin and end work as folders come and go."""
        node = self.node
        self._hold_own()
        here = {*node.folders, *node.holding.all}
        for folder in here - self.working.keys():
            working = self.working[folder] = _Working(PackFolder(self, folder))
            self._nursery.start_soon(self._work, working)
            for session in node.sessions.values():
                session.tell_board(folder, working.folder.board.greet())
        for folder in self.working.keys() - here:
            self.working.pop(folder).folder.erase()
            self._nursery.start_soon(self._remove_all, folder)
        for working in self.working.values():
            runtime = working.folder.runtime
            if runtime is None:
                working.packer = None
            elif working.packer is None:
                working.packer = Packer(working.folder)
                runtime.replica.told = working.packer.saw
                self._nursery.start_soon(self._read_and_pack, working, runtime.scope)
            working.folder.list_late()

    async def _remove_all(self, folder: FolderId) -> None:
        """Hold nothing of a folder any more that this node has no part in."""
        while folder not in self.working:
            try:
                await self.shelf.remove_all(folder)
                return
            except (BackendFailed, StoreFull) as error:
                self.node.events.add("packs-failed", f"pieces of packs cannot be removed: {error}")
            await trio.sleep(REMOVE_AGAIN)

    def _hold_own(self) -> None:
        """Where this device offers space, hold those of the account's folders that are not kept here, too."""
        node = self.node
        if self.offer.size and node.service is None:
            for entry in node.account.folders().values():
                if entry.id not in node.folders and entry.id not in node.holding.all:
                    node.holding.begin(entry.id)

    async def _work(self, working: _Working) -> None:
        with working.folder.scope:
            async with trio.open_nursery() as nursery:
                for work in (working.gatherer.run, working.auditor.run):
                    nursery.start_soon(self._again, work)

    async def _read_and_pack(self, working: _Working, scope: trio.CancelScope) -> None:
        packer = working.packer
        with trio.CancelScope() as both:
            async with trio.open_nursery() as nursery:
                assert packer is not None
                nursery.start_soon(self._again, packer.run)
                nursery.start_soon(self._hold_packs, working)
                while working.packer is packer and not scope.cancel_called:  # noqa: ASYNC110  nobody tells
                    await trio.sleep(LOOK_EVERY)
                both.cancel()

    async def _hold_packs(self, working: _Working) -> None:
        """Be one more holder of the folder's chunks, once there are packs of them."""
        folder = working.folder
        while not folder.ledger.packs():
            await folder.news.wait()
        here = peer_of(folder.id)

        async def open_stream() -> Frames:
            taking, giving = Loop.pair(bytes(self.node.key.id), here)
            self._nursery.start_soon(serve_chunks, giving, working.reader)
            return taking

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_again, working)
            while True:
                await self.node.fetcher.hold(here, open_stream)
                await trio.sleep(5)

    async def _ask_again(self, working: _Working) -> None:
        """Whenever there may be more to be had from packs, have it asked for."""
        folder = working.folder
        while True:
            before = folder.ledger.changes, frozenset(self.node.sessions)
            with trio.move_on_after(2):
                await folder.news.wait()
            await trio.sleep(0.3)
            runtime = folder.runtime
            if runtime is None or runtime.engine.is_idle():
                continue
            if before != (folder.ledger.changes, frozenset(self.node.sessions)):
                self.node.fetcher.retry_missing(peer_of(folder.id))
                runtime.engine.retry_now()

    async def _again(self, work: Callable[[], Any]) -> None:
        while True:
            with bulkhead(str(work), lambda reason: self.node.events.add("failed", reason)):
                await work()
            await trio.sleep(5)

    # -- what sessions ask -------------------------------------------------------------------------------------------

    def greeting(self, folder: FolderId) -> list[Any] | None:
        found = self.folder(folder)
        return found.board.greet() if found is not None else None

    def on_board(self, device: DeviceId, folder: FolderId, message: list[Any]) -> None:
        found = self.folder(folder)
        if found is not None:
            found.receive(device, message)

    def left(self, device: DeviceId) -> None:
        """A conversation ended."""
        self.client.forget(device)
        for working in self.working.values():
            working.folder.board.left(device)

    # -- what others ask of pieces -----------------------------------------------------------------------------------

    async def serve(self, stream: ByteStream) -> None:
        """Serve a stream that a device opened."""
        if not self.node.sharing.access.is_partner(DeviceId(stream.peer)):
            await stream.reset()
            return
        await serve_pieces(self.node.serving.limited(FrameStream(stream, MAX_FRAME)), self.giver)

    # -- what is offered, and held -----------------------------------------------------------------------------------

    def offer_for(self, folder: FolderId) -> int:
        """Return how many bytes of a folder's packs this node holds at most."""
        node = self.node
        if node.service is not None:
            roster = node.sharing.shares.of(folder)
            if roster is None or not node.service.serves(roster.founder):
                return 0
            return node.service.policy.quota
        return self.offer.size

    def room(self, folder: FolderId) -> int:
        """Return how many bytes more of a folder's packs may be held."""
        node = self.node
        free = self.shelf.free()
        left = math.inf if free is None else free - RESERVE
        if node.service is not None:
            roster = node.sharing.shares.of(folder)
            kept_free = node.service.policy.quota // LOGS_SHARE  # packs never keep an account's changes away
            return int(min(left, node.service.room(roster.founder) - kept_free)) if roster is not None else 0
        return int(min(left, self.offer.size - self.shelf.used_all()))

    def online(self) -> int:
        """Return per mille of the time that this node runs."""
        return self._online.per_mille

    def announce(self, packs: Iterable[bytes]) -> None:
        """Have the DHT know that this node holds pieces of packs."""
        if self.node.finding.mode != "off":
            self.node.finding.dht.announcing.add([Key(multihash(pack)) for pack in packs])

    def announce_no_more(self, folder: FolderId, pack: bytes) -> None:
        """A piece of a pack went: have the DHT forget it, if no other is held."""
        if self.node.finding.mode != "off" and not self.shelf.holds_any(folder, pack):
            self.node.finding.dht.announcing.remove([Key(multihash(pack))])

    async def seek(self, folder: PackFolder, pack: bytes) -> None:
        """Look into the DHT for who holds a pack, and have those connected that may be."""
        now = trio.current_time()
        if self.node.finding.mode == "off" or now - self._sought_at.get(folder.id, -math.inf) < SEEK_AGAIN:
            return
        self._sought_at[folder.id] = now
        for found in await self.node.finding.dht.find_providers(Key(multihash(pack)), 8):
            with contextlib.suppress(ValueError):
                device = device_from_bytes(found.peer)
                if self.node.sharing.access.is_partner(device) and found.addresses:
                    self.node.peering.suggest(device, found.addresses)

    # -- what went wrong ---------------------------------------------------------------------------------------------

    def suspect(self, folder: FolderId, device: DeviceId) -> None:
        """Somebody says that a device failed an audit."""
        working = self.working.get(folder)
        if working is not None and working.folder.is_believed(device):
            working.auditor.suspect(device)

    def withheld(self, folder: PackFolder, device: DeviceId, pack: bytes, part: int) -> None:
        """A device did not give what it says to hold."""
        if folder.board.has(device, HOLDS + pack + part.to_bytes(PART)):
            self.suspect(folder.id, device)

    def dropped(self, folder: FolderId, pack: bytes) -> None:
        """Another device said that a pack is none any more: what is in no other is packed anew."""
        working = self.working.get(folder)
        if working is not None and working.packer is not None:
            working.packer.unpacked(working.folder.gone(pack))

    def lied(self, folder: PackFolder, device: DeviceId, pack: bytes, what: str) -> None:
        """A device sent wrong bytes of a pack."""
        name = self.node.sharing.access.name_of(device)
        self._lies[device] += 1
        self.node.events.add("holder-lied", f"{name}: {what} ({pack.hex()[:12]})", device=peer_id_text(device))
        if self._lies[device] >= LIES:
            self.failed_audit(folder, device, self._lies.pop(device))
        else:
            self.suspect(folder.id, device)

    def failed_audit(self, folder: PackFolder, device: DeviceId, times: int) -> None:
        """A device does not have what it says to hold."""
        name = self.node.sharing.access.name_of(device)
        self.node.events.add(
            "holder-failed",
            f"{name} failed {times} challenges: it lacks what it says to hold, and is replaced",
            device=peer_id_text(device),
        )
        folder.fail(device)

    def trouble(self, folder: PackFolder, reason: str) -> None:
        """A piece could not be kept."""
        if self._troubled.get(folder.id) != reason:
            self._troubled[folder.id] = reason
            self.node.events.add("packs-failed", f"pieces of packs cannot be kept: {reason}")

    def kept_well(self, folder: PackFolder) -> None:
        """A piece was kept."""
        self._troubled.pop(folder.id, None)

    def count(self, what: str, size: int) -> None:
        """Count bytes."""
        self.counts[what] += size

    async def _open(self, device: bytes) -> Frames:
        stream = await self.node.host.open(DeviceId(device), PROTOCOL)
        return self.node.serving.limited(FrameStream(stream, MAX_FRAME))


def peer_of(folder: FolderId) -> bytes:
    """Return what the packs of a folder are called as a holder of its chunks: no device has that name."""
    return b"shoal packs     " + folder
