"""Making packs of a folder's chunks, on devices that have them as files; and making packs anew, from read chunks, for
who asks for one.

Who packs what: a node's chunks belong to the device that comes first for it by rendezvous hashing, of those that have
all of the folder and may write; the next one does it `TURN` seconds later, if the chunks are in no pack then. So two
devices seldom pack a chunk twice, and a pack has whole files.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import trio
import trio.lowlevel
from blake3 import blake3

from shoal.crdt.model import DeviceId, Fact, FileContent, NodeId, Version
from shoal.node.packs.sheet import Declared
from shoal.transfer import erasure, merkle, packs, sealing
from shoal.transfer.placement import Policy

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder

QUIET = 3.0  # seconds without new chunks after which a pack is made that is not full
LONGEST = 30.0  # seconds after which it is made in any case
TURN = 120.0
MOST_CHUNKS = 8192  # in a pack
SMALL = packs.PACK_SIZE // 2
MANY_SMALL = 16  # small packs that are made one
RETIRE_EVERY = 3600.0  # seconds between two looks for packs that are of little use
KEPT = 2  # packs that are kept as they were made, for who fetches them next
SHARDS = 256


class Packer:
    """Of one folder that is kept here."""

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder
        self._waiting: dict[bytes, tuple[float, int]] = {}  # chunk -> when it is due, size
        self._due: list[tuple[float, bytes]] = []
        self._fresh_at = 0.0
        self._first_at = 0.0
        self._made: OrderedDict[bytes, bytes | bytearray] = OrderedDict()
        self._news = trio.Event()
        self._retired: dict[bytes, bytes] = {}  # packs that are mostly of no use -> what takes their place
        self._retired_at = trio.current_time()

    @property
    def waiting(self) -> int:
        """How many chunks wait to be packed."""
        return len(self._waiting)

    # -- what is to be packed ----------------------------------------------------------------------------------------

    async def look_at_all(self) -> None:
        """Have all chunks packed that are in no pack."""
        runtime = self._folder.runtime
        if runtime is None:
            return
        replica = runtime.replica
        for shard in range(SHARDS):
            for node in replica.facts_by_node(shard):
                self._want(node, replica.heads(node))
            await trio.lowlevel.checkpoint()

    def saw(self, facts: Iterable[tuple[NodeId, Fact]]) -> None:
        """There are new versions."""
        for node, fact in facts:
            if isinstance(fact, Version):
                self._want(node, (fact,))

    def _want(self, node: NodeId, versions: Sequence[Version]) -> None:
        for version in versions:
            if not isinstance(version.content, FileContent):
                continue
            due = None
            for chunk, length in version.content.refs():
                if chunk in self._waiting or self._folder.chunks.has(chunk):
                    continue
                due = self._turn(node) if due is None else due
                self._waiting[chunk] = due, length
                heapq.heappush(self._due, (due, chunk))
                self._fresh_at = trio.current_time()
                self._first_at = self._first_at or self._fresh_at
        self._news.set()

    def _turn(self, node: NodeId) -> float:
        """Return when this device is to pack a node's chunks."""
        own = self._folder.node.key.id
        among = {DeviceId(d) for d in self._folder.ledger.plain() if self._folder.says(d)} | {own}
        order = sorted(among, key=lambda device: blake3(node + device).digest(8))
        return trio.current_time() + TURN * order.index(own)

    # -- making packs ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make packs as they are due, while somebody offers space for them, until cancelled."""
        await self.look_at_all()
        while True:
            self._news = trio.Event()
            with trio.move_on_after(self._rest()):
                await self._news.wait()
                continue
            if self._folder.may_declare and self._folder.ledger.holders():
                await self._make_some()
                await self._tidy()
            else:
                await trio.sleep(1)

    def _rest(self) -> float:
        """Return for how many seconds there is nothing to do."""
        if not self._due:
            return 5.0
        now = trio.current_time()
        due = [chunk for at, chunk in self._due if at <= now and chunk in self._waiting]
        if not due:
            return min(5.0, max(0.1, self._due[0][0] - now))
        if sum(self._waiting[chunk][1] for chunk in due) >= packs.PACK_SIZE:
            return 0
        return max(0.0, min(self._fresh_at + QUIET, self._first_at + LONGEST) - now)

    async def _make_some(self) -> None:
        now = trio.current_time()
        chunks: list[bytes] = []
        size = 0
        while self._due and self._due[0][0] <= now:
            chunk = self._due[0][1]
            length = self._waiting.get(chunk, (0.0, 0))[1] + sealing.OVERHEAD
            if chunk in self._waiting and not self._folder.chunks.has(chunk):
                if chunks and (size + length > packs.PACK_SIZE or len(chunks) >= MOST_CHUNKS):
                    break
                chunks.append(chunk)
                size += length
            heapq.heappop(self._due)
            if not chunks or chunks[-1] != chunk:
                self._waiting.pop(chunk, None)
        if not self._due:
            self._first_at = 0.0
        if chunks:
            await self.pack(chunks)
            for chunk in chunks:
                self._waiting.pop(chunk, None)

    async def pack(self, chunks: Sequence[bytes]) -> bytes | None:
        """Make a pack of chunks, as far as they are here, and say that there is one; return its id."""
        folder, keys = self._folder, self._folder.keys
        secret = keys.pack_of(keys.epoch) if keys is not None else None
        read = await self._read(chunks)
        if keys is None or secret is None or not read:
            return None
        policy = folder.ledger.policy().policy
        made, data = await trio.to_thread.run_sync(packs.build, secret, read)
        listed = [(each.id, each.size) for each in made.chunks]
        k, m, roots = await self._split(data, policy)
        sealed = folder.seal_chunks(made.id, listed, keys)
        self._keep(made.id, data)
        folder.declare(made.id, Declared(made.size, made.root, k, m, roots, keys.epoch, sealed))
        folder.publish()
        folder.packs.count("packed", made.size)
        return made.id

    async def _split(self, data: bytes | bytearray, policy: Policy) -> tuple[int, int, tuple[bytes, ...]]:
        if not policy.is_erasure:
            return 0, 0, ()
        coding = erasure.Coding(policy.k, policy.m)

        def roots() -> tuple[bytes, ...]:
            return tuple(merkle.root_of(piece) for piece in erasure.encode(data, coding))

        return policy.k, policy.m, await trio.to_thread.run_sync(roots)

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
        while len(self._made) > KEPT:
            self._made.popitem(last=False)

    async def rebuilt(self, pack: bytes) -> bytes | bytearray | None:
        """Return a pack, made anew of this device's files; None where they do not have all of it any more."""
        if pack in self._made:
            self._made.move_to_end(pack)
            return self._made[pack]
        folder = self._folder
        declared = folder.ledger.declared(pack)
        listed = folder.chunks_of(pack, declared) if declared is not None else None
        keys = folder.keys
        secret = keys.pack_of(declared.epoch) if keys is not None and declared is not None else None
        if declared is None or listed is None or secret is None:
            return None
        read = await self._read([chunk for chunk, _ in listed])
        if len(read) != len(listed):
            return None
        made, data = await trio.to_thread.run_sync(packs.build, secret, read)
        if made.id != pack:
            return None
        self._keep(pack, data)
        return data

    # -- keeping them few --------------------------------------------------------------------------------------------

    async def _tidy(self) -> None:
        """Say again what a device said that has no part any more; make one of many small packs, and of packs of which
        less than half is of use; say anew how packs are split that are not as the policy is."""
        folder, own = self._folder, self._folder.node.key.id
        if self._due or not self._is_first():
            return
        policy = folder.ledger.policy().policy
        small: list[tuple[int, bytes]] = []
        for number, pack in enumerate(folder.ledger.packs()):
            if number % 256 == 255:
                await trio.lowlevel.checkpoint()
            declared = folder.ledger.declared(pack)
            if declared is None:
                continue
            access = folder.node.sharing.access
            if all(access.role_of_device(d, folder.id) == "none" for d in folder.ledger.declarers(pack)):
                folder.declare(pack, declared)
            if (declared.k, declared.m) != (policy.k, policy.m):
                await self._split_anew(pack, declared, policy)
            if declared.size < SMALL:
                small.append((declared.size, pack))
        if len(small) >= MANY_SMALL or sum(size for size, _ in small) >= 2 * packs.PACK_SIZE:
            await self._merge([pack for _, pack in sorted(small)])
        await self._retire(policy_grace=folder.ledger.policy().grace)
        folder.publish()  # what was just dropped is no place for chunks of others
        for pack in list(self._superseded()):
            if folder.board.has(own, b"d" + pack) or not folder.ledger.is_dropped(pack):
                folder.drop(pack)
        folder.publish()

    async def _retire(self, policy_grace: int) -> None:
        """Pack anew what is of use of packs of which less than half is: of the rest no file, and no version that is
        kept, has anything any more. The old pack is dropped once the new one is held."""
        folder, runtime, now = self._folder, self._folder.runtime, trio.current_time()
        if runtime is None or now - self._retired_at < min(RETIRE_EVERY, policy_grace):
            return
        if not folder.is_plain() or not runtime.engine.is_idle():
            return  # what is yet to come to this disk is of use, and not on it
        self._retired_at = now
        sources = runtime.engine.index.sources
        for number, pack in enumerate(folder.ledger.packs()):
            declared = folder.ledger.declared(pack)
            listed = folder.chunks_of(pack, declared) if declared is not None else None
            if declared is None or listed is None or pack in self._retired:
                continue
            used = [(chunk, size) for chunk, size in listed if next(iter(sources(chunk)), None) is not None]
            if 2 * sum(size for _, size in used) < declared.size:
                fresh = await self.pack([chunk for chunk, _ in used]) if used else pack
                if fresh is not None:
                    self._retired[pack] = fresh
            if number % 16 == 15:
                await trio.sleep(0.01)
        claims = folder.ledger.claims()
        for pack, fresh in list(self._retired.items()):
            old, new = folder.ledger.declared(pack), folder.ledger.declared(fresh)
            listed = folder.chunks_of(pack, old) if old is not None else None
            if listed is None or new is None or not runtime.engine.is_idle():
                del self._retired[pack]
            elif fresh == pack or folder.packs.is_held(folder, fresh, new, claims):
                del self._retired[pack]
                kept = [chunk for chunk, _ in listed if next(iter(sources(chunk)), None) is not None]
                if all(fresh != pack and any(p.pack == fresh for p in folder.chunks.places(c)) for c in kept):
                    folder.drop(pack)

    def _is_first(self) -> bool:
        """Return whether it is this device that tidies: one at a time does."""
        own = self._folder.node.key.id
        there = [d for d in self._folder.ledger.plain() if d in self._folder.node.sessions and self._folder.says(d)]
        return own <= min(there, default=own)

    async def _split_anew(self, pack: bytes, declared: Declared, policy: Policy) -> None:
        data = await self.rebuilt(pack)
        if data is not None:
            k, m, roots = await self._split(data, policy)
            self._folder.declare(
                pack, Declared(declared.size, declared.root, k, m, roots, declared.epoch, declared.sealed)
            )

    async def _merge(self, small: Sequence[bytes]) -> None:
        """Pack the chunks of small packs anew; these are dropped once the new one is held."""
        folder = self._folder
        chunks: dict[bytes, None] = {}
        size = 0
        for pack in small:
            declared = folder.ledger.declared(pack)
            listed = folder.chunks_of(pack, declared) if declared is not None else None
            if declared is None or listed is None:
                continue
            if size + declared.size > packs.PACK_SIZE or len(chunks) + len(listed) > MOST_CHUNKS:
                break
            chunks |= dict.fromkeys(chunk for chunk, _ in listed)
            size += declared.size
        await self.pack(list(chunks))

    def _superseded(self) -> Iterable[bytes]:
        """Yield the packs of which each chunk is in another pack, larger, that is held as the policy says."""
        folder = self._folder
        claims = folder.ledger.claims()
        for pack in folder.ledger.packs():
            declared = folder.ledger.declared(pack)
            if declared is None or declared.size >= SMALL or pack in self._retired.values():
                continue
            listed = folder.chunks_of(pack, declared)
            if listed is not None and all(
                self._is_elsewhere(chunk, pack, declared.size, claims) for chunk, _ in listed
            ):
                yield pack

    def _is_elsewhere(self, chunk: bytes, pack: bytes, size: int, claims: dict[bytes, dict[bytes, set[int]]]) -> bool:
        folder = self._folder
        for place in folder.chunks.places(chunk):
            other = folder.ledger.declared(place.pack) if place.pack != pack else None
            if other is None or folder.ledger.is_dropped(place.pack) or (other.size, place.pack) <= (size, pack):
                continue
            if folder.packs.is_held(folder, place.pack, other, claims):
                return True
        return False
