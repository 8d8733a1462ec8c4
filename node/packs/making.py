"""Making packs of a folder's chunks, on devices that have them as files; and making packs anew, of the files, for who
asks for one.

Who packs what: what a device wrote itself it packs at once. Others come after it, `TURN` seconds each, in an order by
rendezvous hashing, and find it packed. So two devices seldom pack a chunk twice, and a pack has whole files. While
nobody offers space nothing is looked at, and nothing kept.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import trio
import trio.lowlevel
from blake3 import blake3

from shoal.crdt.model import DeviceId, Fact, FileContent, NodeId, Version
from shoal.node.packs.forming import MOST_CHUNKS, split
from shoal.node.packs.sheet import Declared
from shoal.node.packs.tidying import Tidier
from shoal.node.packs.waiting import Waiting
from shoal.transfer import packs, sealing

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder

TURN = 120.0
SHARDS = 256
NODES = 200  # looked at between two turns of others
KEPT = 2  # packs that are kept as they were made, for who fetches them next
KEPT_FOR = 60.0  # seconds without anybody asking for them
LOOK_EVERY = 5.0


class Packer:
    """Of one folder that is kept here."""

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder
        self._waiting = Waiting(packs.PACK_SIZE)
        self._is_active = False  # whether what is said of files is noted
        self._made: OrderedDict[bytes, bytes | bytearray] = OrderedDict()
        self._made_at = -math.inf
        self._news = trio.Event()
        self._tidier = Tidier(folder, self)

    @property
    def waiting(self) -> int:
        """How many chunks wait to be packed."""
        return len(self._waiting)

    # -- what is to be packed ----------------------------------------------------------------------------------------

    def saw(self, facts: Iterable[tuple[NodeId, Fact]]) -> None:
        """There are new versions."""
        if self._is_active:
            for node, fact in facts:
                if isinstance(fact, Version):
                    self._want(node, fact)
            self._news.set()

    def unpacked(self, chunks: Iterable[bytes]) -> None:
        """Chunks are in a pack less: have those packed that this device has, and that are in no other."""
        runtime = self._folder.runtime
        if self._is_active and runtime is not None:
            now = trio.current_time()
            for chunk in chunks:
                source = next(iter(runtime.engine.index.sources(chunk)), None)
                if source is not None:
                    self._waiting.add(chunk, source[2] + sealing.OVERHEAD, now + TURN, now)

    async def _look_at_all(self) -> None:
        runtime = self._folder.runtime
        if runtime is None:
            return
        replica = runtime.replica
        for shard in range(SHARDS):
            for number, node in enumerate(replica.facts_by_node(shard)):
                for version in replica.heads(node):
                    self._want(node, version)
                if number % NODES == NODES - 1:
                    await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    def _want(self, node: NodeId, version: Version) -> None:
        if not isinstance(version.content, FileContent):
            return
        now = trio.current_time()
        due = now + TURN * self._turn(node, version.device)
        for chunk, length in version.content.refs():
            self._waiting.add(chunk, length + sealing.OVERHEAD, due, now)

    def _turn(self, node: NodeId, author: DeviceId) -> int:
        """Return how many devices are to pack a node's chunks before this one."""
        own = self._folder.node.key.id
        among = {device for device in self._folder.ledger.plain() if self._folder.says(device)} | {own}
        return sorted(among, key=lambda device: (device != author, blake3(node + device).digest(8))).index(own)

    # -- making packs ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make packs as they are due, while somebody offers space for them, until cancelled."""
        folder = self._folder
        while True:
            self._news = trio.Event()
            if not folder.may_declare or not folder.ledger.holders():
                self._is_active, self._waiting = False, Waiting(packs.PACK_SIZE)
            elif not self._is_active:
                self._is_active = True
                await self._look_at_all()
            now = trio.current_time()
            taken = self._waiting.take(now, MOST_CHUNKS) if self._is_active else []
            if taken:
                await self._pack_waiting(taken)
                continue
            if self._is_active and not self._waiting:
                await self._tidier.look()
            if now - self._made_at > KEPT_FOR:
                self._made.clear()
            with trio.move_on_after(min(LOOK_EVERY, self._waiting.rest(now))):
                await self._news.wait()

    async def _pack_waiting(self, taken: Sequence[tuple[bytes, int]]) -> None:
        lacking = {chunk: size for chunk, size in taken if not self._folder.is_packed(chunk)}
        if lacking:
            await self.pack(list(lacking))
        now = trio.current_time()
        for chunk, size in taken:
            if chunk in lacking and not self._folder.is_packed(chunk):
                self._waiting.missed(chunk, size, now)  # it is on its way here, or gone
            else:
                self._waiting.packed(chunk)

    async def pack(self, chunks: Sequence[bytes]) -> bytes | None:
        """Make a pack of chunks, as far as they are here, and say that there is one; return its id."""
        folder, keys = self._folder, self._folder.keys
        secret = keys.pack_of(keys.epoch) if keys is not None else None
        if keys is None or secret is None:
            return None
        async with folder.packs.heavy:
            read = await self._read(chunks)
            if not read:
                return None
            made, data = await trio.to_thread.run_sync(packs.build, secret, read)
            form = await split(made.size, made.root, data, folder.ledger.policy())
        sealed = folder.seal_chunks(made.id, [(each.id, each.size) for each in made.chunks], keys)
        self._keep(made.id, data)
        folder.declare(made.id, Declared(form, keys.epoch, sealed))
        folder.publish()
        folder.packs.count("packed", made.size)
        return made.id

    async def _read(self, chunks: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        runtime = self._folder.runtime
        found: list[tuple[bytes, bytes]] = []
        at = 0
        while runtime is not None and at < len(chunks):
            lent = await runtime.engine.lend_chunks(chunks[at : at + 64])
            found += [(c, bytes(data)) for c, data in zip(chunks[at:], lent, strict=False) if data is not None]
            at += max(1, len(lent))
        return found

    def _keep(self, pack: bytes, data: bytes | bytearray) -> None:
        self._made[pack] = data
        self._made.move_to_end(pack)
        self._made_at = trio.current_time()
        while len(self._made) > KEPT:
            self._made.popitem(last=False)

    async def rebuilt(self, pack: bytes) -> bytes | bytearray | None:
        """Return a pack, made anew of this device's files; None where they do not have all of it any more."""
        folder = self._folder
        async with folder.packs.heavy:
            if pack in self._made:
                self._keep(pack, self._made[pack])
                return self._made[pack]
            declared, keys = folder.ledger.declared(pack), folder.keys
            listed = folder.chunks_of(pack)
            secret = keys.pack_of(declared.epoch) if keys is not None and declared is not None else None
            if listed is None or secret is None:
                return None
            read = await self._read([chunk for chunk, _ in listed])
            if len(read) != len(listed):
                return None
            made, data = await trio.to_thread.run_sync(packs.build, secret, read)
            if made.id != pack:
                return None
            self._keep(pack, data)
            return data
