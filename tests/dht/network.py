"""Peers of a DHT in one process, whose messages are carried at once, by calling."""

from __future__ import annotations

import random
from collections.abc import Mapping

import nacl.signing
import trio

from shoal.dht.driver import Dht, Unanswered
from shoal.dht.keyspace import PeerId
from shoal.dht.table import MemoryTable, Table

PREFIX = bytes.fromhex("002408011220")


class Network:
    """`dead`: who does not answer; `messages`: how many were carried."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.peers: dict[PeerId, Dht] = {}
        self.dead: set[PeerId] = set()
        self.messages = 0
        self.wall = 1_700_000_000.0

    def add(
        self,
        *,
        serves: bool = True,
        seeds: Mapping[PeerId, tuple[str, ...]] | None = None,
        table: Table | None = None,
        key: bytes | None = None,
    ) -> Dht:
        signing = nacl.signing.SigningKey(key or self.rng.randbytes(32))
        own = PeerId(PREFIX + bytes(signing.verify_key))
        where = f"/ip4/10.0.{len(self.peers) // 250}.{len(self.peers) % 250 + 1}/tcp/22000"
        dht = Dht(
            own,
            _Carrier(self, own),
            table if table is not None else MemoryTable(),
            own_addresses=lambda: [where],
            sign=lambda data: signing.sign(data).signature,
            wall=lambda: self.wall + trio.current_time(),
            rng=random.Random(self.rng.random()),
            seeds=lambda: seeds or {},
        )
        dht.serves = serves
        self.peers[own] = dht
        return dht


class _Carrier:
    def __init__(self, network: Network, own: PeerId) -> None:
        self._network = network
        self._own = own

    async def ask(self, peer: PeerId, addresses: tuple[str, ...], question: bytes) -> bytes:
        answer = await self._carry(peer, question)
        if answer is None:
            raise Unanswered("no answer")
        return answer

    async def tell(self, peer: PeerId, addresses: tuple[str, ...], message: bytes) -> None:
        await self._carry(peer, message)

    async def _carry(self, peer: PeerId, message: bytes) -> bytes | None:
        self._network.messages += 1
        await trio.sleep(0.02)
        there = self._network.peers.get(peer)
        if there is None or peer in self._network.dead or not there.serves:
            await trio.sleep(1)
            raise Unanswered("not there")
        return there.answer(self._own, message)
