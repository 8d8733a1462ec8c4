"""Peers of the DHT, run on trio over a network in memory: they find each other, and what was announced."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from tests.dht.network import Network

from shoal.dht.driver import Dht
from shoal.dht.keyspace import Key, point, shared_bits
from shoal.dht.routing import K
from shoal.dht.table import MemoryTable

pytestmark = pytest.mark.trio


def key(number: int) -> Key:
    return Key(b"\x12\x20" + hashlib.sha256(b"%d" % number).digest())


@asynccontextmanager
async def running(network: Network, count: int) -> AsyncIterator[list[Dht]]:
    """Peers that all begin by knowing the first."""
    async with trio.open_nursery() as nursery:
        first = network.add()
        peers = [first] + [network.add(seeds={first.own: ("/ip4/10.0.0.1/tcp/22000",)}) for _ in range(count - 1)]
        for peer in peers:
            nursery.start_soon(peer.run)
        await trio.sleep(120)
        yield peers
        nursery.cancel_scope.cancel()


async def test_peers_that_know_one_come_to_know_many(autojump_clock: trio.testing.MockClock) -> None:
    async with running(Network(), 40) as peers:
        assert all(len(peer.routing) >= 20 for peer in peers)


async def test_what_one_announced_another_finds(autojump_clock: trio.testing.MockClock) -> None:
    async with running(Network(), 30) as peers:
        peers[3].announcing.add([key(1)])
        await trio.sleep(5)
        found = await peers[20].find_providers(key(1))
        assert [each.peer for each in found] == [peers[3].own]
        assert found[0].addresses == ("/ip4/10.0.0.4/tcp/22000",)


async def test_a_client_finds_and_is_found_and_is_in_no_table(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with running(network, 25) as peers, trio.open_nursery() as nursery:
        client = network.add(serves=False, seeds={peers[0].own: ()})
        nursery.start_soon(client.run)
        client.announcing.add([key(5)])
        await trio.sleep(60)
        assert [each.peer for each in await peers[9].find_providers(key(5))] == [client.own]
        assert all(peer.routing.get(client.own) is None for peer in peers)
        nursery.cancel_scope.cancel()


async def test_very_many_keys_cost_messages_by_peers_and_not_by_keys(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with running(network, 40) as peers:
        before = network.messages
        assert await peers[0].announcing.sweep(key(number) for number in range(5000))
        assert network.messages - before < 1500
        for number in range(0, 5000, 500):
            assert await peers[30].find_providers(key(number))


async def test_keys_are_found_when_a_third_of_the_peers_are_gone_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = Network()
    async with running(network, 60) as peers:
        peers[1].announcing.add(key(number) for number in range(50))
        await trio.sleep(30)
        network.dead = {peer.own for peer in peers[2::3]}
        found = [bool(await peers[3].find_providers(key(number))) for number in range(50)]
        assert all(found)


async def test_what_is_announced_is_announced_again_before_it_is_over(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with running(network, 5) as peers:
        peers[1].announcing.add([key(1)])
        for _ in range(4):
            await trio.sleep(120)
            assert await peers[4].find_providers(key(1))
            network.wall += 23 * 3600
        await trio.sleep(120)
        peers[1].announcing.remove([key(1)])
        network.wall += 49 * 3600
        await trio.sleep(120)
        assert not await peers[4].find_providers(key(1))
        assert all(peer.providers.size == 0 for peer in peers), "what is over takes no room"


async def test_announcing_goes_on_after_a_restart(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with running(network, 5) as peers:
        table, secret = MemoryTable(), bytes(32)
        async with trio.open_nursery() as nursery:
            one = network.add(table=table, key=secret, seeds={peers[0].own: ()})
            nursery.start_soon(one.run)
            one.announcing.add([key(1), key(2)])
            await trio.sleep(60)
            one.save()
            nursery.cancel_scope.cancel()
        again = network.add(table=table, key=secret)
        assert set(again.announcing.keys()) == {key(1), key(2)}
        assert len(again.routing) == 5, "who was known is known yet"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.announcing.run)
            await trio.sleep(300)
            assert not again.stats.sent.get("ADD_PROVIDER"), "what was announced lately is not announced again"
            network.wall += 23 * 3600
            await trio.sleep(120)
            assert again.stats.sent["ADD_PROVIDER"]
            nursery.cancel_scope.cancel()


async def test_without_anybody_to_tell_it_is_tried_again_until_somebody_is_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = Network()
    async with trio.open_nursery() as nursery:
        alone = network.add()
        nursery.start_soon(alone.run)
        alone.announcing.add([key(1)])
        await trio.sleep(600)
        other = network.add(seeds={alone.own: ()})
        nursery.start_soon(other.run)
        await trio.sleep(1900)
        assert [each.peer for each in await other.find_providers(key(1))] == [alone.own]
        nursery.cancel_scope.cancel()


async def test_a_peer_that_serves_is_found_by_its_id(autojump_clock: trio.testing.MockClock) -> None:
    async with running(Network(), 60) as peers:
        for peer in peers[::7]:
            assert await peers[11].find_peer(peer.own) == tuple(peer._own_addresses()) or peer is peers[11]


async def test_a_peer_that_is_cut_off_after_a_restart_knows_yet_whom_it_knew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = Network()
    async with running(network, 40) as peers:
        peers[1].announcing.add([key(1)])
        table, secret = MemoryTable(), bytes(32)
        async with trio.open_nursery() as nursery:
            one = network.add(table=table, key=secret, seeds={peers[0].own: ()})
            nursery.start_soon(one.run)
            await trio.sleep(120)
            one.save()
            nursery.cancel_scope.cancel()
        network.dead = {one.own, *(peer.own for peer in peers)}
        for _ in range(2):  # its network is away, and it is started once more meanwhile
            async with trio.open_nursery() as nursery:
                again = network.add(table=table, key=secret)
                nursery.start_soon(again.run)
                await trio.sleep(1200)
                nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run)
            network.dead = set()
            await trio.sleep(60)
            assert [each.peer for each in await again.find_providers(key(1))] == [peers[1].own]
            nursery.cancel_scope.cancel()


async def test_who_is_checked_names_others(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with running(network, 60) as peers:
        before = sum(peer.stats.lookups for peer in peers)
        await trio.sleep(3000)
        looked = (sum(peer.stats.lookups for peer in peers) - before) / len(peers)
        assert looked <= 3, "look-ups are the costly way to keep a table full"
        for peer in peers:
            places = Counter(shared_bits(point(peer.own), point(other.own)) for other in peers if other is not peer)
            assert len(peer.routing) >= 0.85 * sum(min(K, count) for count in places.values())
