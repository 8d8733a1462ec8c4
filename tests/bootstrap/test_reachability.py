"""What others see of this device, and whether they reach it: with real hosts on loopback."""

from __future__ import annotations

import gc
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from shoal.bootstrap.host import Host, run_host
from shoal.bootstrap.observing import OBSERVE, Observations
from shoal.bootstrap.reachability import (
    DIALBACK,
    Allowance,
    DialBack,
    DialBackLimits,
    Reachability,
    verdict,
)
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, StreamClosed

pytestmark = pytest.mark.filterwarnings("ignore")  # py-libp2p leaks sockets and generators as it closes
A, B, C = (DeviceId(bytes([n]) * 32) for n in range(3))


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Have what py-libp2p leaves behind collected here, where its warnings are ignored, not in another's test."""
    yield
    gc.collect()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"


@asynccontextmanager
async def pair(limits: DialBackLimits | None = None) -> AsyncIterator[tuple[Host, Host, DialBack]]:
    """A node that is connected to a seed."""
    address = free_address()
    async with (
        run_host(secrets.token_bytes(32), [address]) as seed,
        run_host(secrets.token_bytes(32), [free_address()]) as node,
    ):
        back = DialBack(seed, limits)
        await node.connect(seed.device, [address])
        yield node, seed, back


async def test_a_port_that_answers_is_public() -> None:
    async with pair() as (node, seed, _):
        changes: list[str] = []
        reachability = Reachability(node, lambda: [seed.device])
        reachability.on_change = changes.append
        await reachability.look()
        assert node.reachable == "public"
        assert changes == ["public"]
        assert node.device in seed.connected()  # the trial did not disturb the connection that it was asked over


async def test_a_port_that_is_closed_is_private() -> None:
    async with pair() as (node, seed, _):
        closed = int(free_address().rsplit("/", 1)[1])
        await Reachability(node, lambda: [seed.device], lambda: [closed]).look()
        assert node.reachable == "private"


async def test_a_port_of_somebody_else_is_private() -> None:
    async with pair() as (node, seed, _), run_host(secrets.token_bytes(32), [free_address()]) as other:
        port = other.sources()[0][1]
        await Reachability(node, lambda: [seed.device], lambda: [port]).look()
        assert node.reachable == "private"


async def test_a_port_that_takes_and_says_nothing_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.bootstrap.reachability.DIAL_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with pair() as (node, seed, back):
            await Reachability(node, lambda: [seed.device], lambda: [silent.getsockname()[1]]).look()
            assert node.reachable == "private"
            assert back._dialling == 0


async def test_who_asks_too_often_is_not_answered() -> None:
    async with pair() as (node, seed, _):
        reachability = Reachability(node, lambda: [seed.device])
        port = node.sources()[0][1]
        assert await reachability.ask(seed.device, port) is True
        assert await reachability.ask(seed.device, port) is None


async def test_nobody_to_ask_leaves_it_unknown() -> None:
    async with pair() as (node, _, _):
        await Reachability(node, lambda: [A]).look()
        assert node.reachable == "unknown"


async def test_a_seed_that_does_not_serve_it_leaves_it_unknown() -> None:
    async with pair() as (node, _, _), run_host(secrets.token_bytes(32), [free_address()]) as plain:
        await node.connect(plain.device, plain.addresses())
        assert await Reachability(node, list).ask(plain.device, 1) is None


@pytest.mark.parametrize("said", [b"", b"\x01"])
async def test_who_stalls_takes_a_place_for_seconds_only(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.bootstrap.reachability.READ_SECONDS", 0.3)
    async with pair() as (node, seed, back):
        stream = await node.open(seed.device, DIALBACK)
        await stream.send_all(said or b"")
        with trio.fail_after(3), suppress(StreamClosed):
            assert await stream.receive_some(10) == b""
        assert back._dialling == 0


async def test_a_peer_says_where_it_sees_this_device() -> None:
    async with pair() as (node, seed, _):
        await node.ask_observed(seed.device)
        port = node.sources()[0][1]
        assert f"/ip4/127.0.0.1/tcp/{port}" in node.observed()
        assert node.observations.keeps_ports() is None


@pytest.mark.parametrize("answer", [b"", b"x" * 1000, b"/ip4/1.2.3.4/udp/1", b"\xff\xff", b"/dns/a.b/tcp/1"])
async def test_nonsense_about_the_address_is_refused(answer: bytes) -> None:
    async def lie(stream: ByteStream) -> None:
        await stream.send_all(answer)
        await stream.aclose()

    async with pair() as (node, seed, _):
        seed.handle(OBSERVE, lie)
        with pytest.raises((StreamClosed, ValueError)):
            await node.ask_observed(seed.device)
        assert node.observed() == []


def test_two_who_see_one_port_mean_that_the_nat_keeps_it() -> None:
    seen = Observations()
    seen.add(A, ("1.2.3.4", 5000), from_listening=True)
    assert seen.keeps_ports() is None
    seen.add(B, ("1.2.3.4", 5000), from_listening=True)
    assert seen.keeps_ports() is True
    assert seen.addresses({22000}) == ["/ip4/1.2.3.4/tcp/5000", "/ip4/1.2.3.4/tcp/22000"]


def test_two_who_see_two_ports_mean_that_it_does_not() -> None:
    seen = Observations()
    seen.add(A, ("1.2.3.4", 5000), from_listening=True)
    seen.add(B, ("1.2.3.4", 5001), from_listening=True)
    assert seen.keeps_ports() is False


def test_what_is_seen_of_any_other_port_tells_the_host_only() -> None:
    seen = Observations()
    seen.add(A, ("1.2.3.4", 61000), from_listening=False)
    assert seen.addresses({22000}) == ["/ip4/1.2.3.4/tcp/22000"]


def test_a_later_word_on_any_other_port_does_not_replace_what_is_known() -> None:
    seen = Observations()
    seen.add(A, ("1.2.3.4", 5000), from_listening=True)
    seen.add(A, ("1.2.3.4", 61000), from_listening=False)
    assert seen.addresses(set()) == ["/ip4/1.2.3.4/tcp/5000"]
    seen.add(A, ("5.6.7.8", 61000), from_listening=False)  # another network
    assert seen.addresses({22000}) == ["/ip4/5.6.7.8/tcp/22000"]


def test_only_the_last_few_observers_count() -> None:
    seen = Observations()
    for n in range(20):
        seen.add(DeviceId(bytes([n]) * 32), (f"2001:db8::{n + 1}", 5000), from_listening=True)
    assert len(seen.addresses(set())) == 6
    assert seen.addresses(set())[0] == "/ip6/2001:db8::20/tcp/5000"


def test_each_peer_and_all_together_may_ask_so_often_only() -> None:
    allowance = Allowance(DialBackLimits(interval=10, rate=1, burst=2))
    assert [allowance.take(A, 0), allowance.take(A, 5), allowance.take(B, 5), allowance.take(C, 5)] == [
        True,
        False,
        True,
        True,
    ]
    assert not allowance.take(DeviceId(b"d" * 32), 5.5)
    assert allowance.take(A, 12)


def test_most_answers_decide() -> None:
    assert verdict([]) == "unknown"
    assert verdict([True]) == "public"
    assert verdict([False]) == "private"
    assert verdict([True, False]) == "private"
    assert verdict([True, True, False]) == "public"
