"""Real hosts on loopback. The first five tests are py-libp2p 0.8.1's blockers: each fails without our wrapper."""

from __future__ import annotations

import contextlib
import gc
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as x25519_key
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from shoal.bootstrap.host import Host, ListenError, Unreachable, run_host
from shoal.bootstrap.peerid import peer_id_bytes
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, StreamClosed

ECHO = "/test/echo/1"
pytestmark = pytest.mark.filterwarnings("ignore")  # py-libp2p leaks sockets and generators as it closes


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Have what py-libp2p leaves behind collected here, where its warnings are ignored, not in another's test."""
    yield
    gc.collect()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"


def endpoint(address: str) -> tuple[str, int]:
    return address.split("/")[2], int(address.split("/")[4])


async def echo(stream: ByteStream) -> None:
    while data := await stream.receive_some(1 << 20):
        await stream.send_all(data)
    await stream.aclose()


async def says_back(host: Host, device: DeviceId, address: str, text: bytes) -> bytes:
    """Return what the device echoes on a stream of its own."""
    if device not in host.connected():
        await host.connect(device, [address])
    stream = await host.open(device, ECHO)
    await stream.send_all(text)
    data = b""
    while len(data) < len(text) and (more := await stream.receive_some(1 << 20)):
        data += more
    await stream.aclose()
    return data


@asynccontextmanager
async def victim() -> AsyncIterator[tuple[Host, str]]:
    address = free_address()
    async with run_host(secrets.token_bytes(32), [address]) as host:
        host.handle(ECHO, echo)
        yield host, address


async def answers_a_stranger(host: Host, address: str) -> bool:
    async with run_host(secrets.token_bytes(32), [free_address()]) as stranger:
        with trio.move_on_after(10):
            return await says_back(stranger, host.device, address, b"still there?") == b"still there?"
    return False


@asynccontextmanager
async def plain_libp2p(**options: Any) -> AsyncIterator[Any]:
    """A host as py-libp2p makes it: an attacker's."""
    host = new_host(**options)
    async with host.run(listen_addrs=[Multiaddr(free_address())]):
        yield host


def noise(key: Any) -> dict[Any, Any]:
    return {NOISE_ID: NoiseTransport(key, noise_privkey=x25519_key().private_key)}


async def test_a_negotiation_in_bad_utf8_does_not_end_the_host() -> None:
    key = create_new_key_pair(secrets.token_bytes(32))
    async with victim() as (host, address):
        async with plain_libp2p(key_pair=key, sec_opt=noise(key)) as attacker:
            peer = ID(peer_id_bytes(host.device))
            connection = await attacker.get_network().dial_addr(Multiaddr(address), peer)
            connection = connection[0] if isinstance(connection, list) else connection
            stream = await connection.muxed_conn.open_stream()
            await stream.write(b"\x14/multistream/1.0.0\n")
            await stream.write(b"\x05\xff\xfe\xfd\xfc\n")
            await trio.sleep(0.5)
        assert await answers_a_stranger(host, address)


async def test_nobody_is_believed_over_plaintext() -> None:
    key = create_new_key_pair(secrets.token_bytes(32))
    async with victim() as (host, address):
        met: list[DeviceId] = []
        host.on_connected = lambda device, _: met.append(device)
        transport = {PLAINTEXT_PROTOCOL_ID: InsecureTransport(key)}
        async with plain_libp2p(key_pair=key, sec_opt=transport) as attacker:
            with pytest.raises(Exception, match=r".*"), trio.fail_after(5):
                await attacker.get_network().dial_addr(Multiaddr(address), ID(peer_id_bytes(host.device)))
        assert met == []


async def test_connections_past_the_250th_are_taken() -> None:
    async with victim() as (host, address):
        for _ in range(270):
            with socket.create_connection(endpoint(address), timeout=5):
                await trio.lowlevel.checkpoint()
        await trio.sleep(0.5)
        assert await answers_a_stranger(host, address)


async def test_the_dht_of_py_libp2p_is_not_there() -> None:
    async with victim() as (host, address), run_host(secrets.token_bytes(32), [free_address()]) as other:
        await other.connect(host.device, [address])
        with pytest.raises(StreamClosed):
            await other.open(host.device, "/ipfs/kad/1.0.0")


async def test_idle_streams_keep_nobody_out() -> None:
    async with victim() as (host, address), run_host(secrets.token_bytes(32), [free_address()]) as idler:
        await idler.connect(host.device, [address])
        streams = [await idler.open(host.device, ECHO) for _ in range(40)]
        assert len(streams) == 40
        assert await answers_a_stranger(host, address)


async def test_what_a_handler_raises_ends_its_stream_alone() -> None:
    async def broken(stream: ByteStream) -> None:
        await stream.receive_some(1)
        raise RuntimeError("a bug")

    async with victim() as (host, address), run_host(secrets.token_bytes(32), [free_address()]) as other:
        host.handle("/test/broken/1", broken)
        await other.connect(host.device, [address])
        stream = await other.open(host.device, "/test/broken/1")
        await stream.send_all(b"x")
        with trio.fail_after(5), contextlib.suppress(StreamClosed):
            assert await stream.receive_some(10) == b""
        assert await says_back(other, host.device, address, b"next") == b"next"


async def test_garbage_on_the_port_does_not_end_the_host() -> None:
    async with victim() as (host, address):
        for garbage in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff" * 5000,
            b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\x00" * 99,
        ):
            with raw(address) as sock:
                sock.sendall(garbage)
                await trio.sleep(0.1)
        assert await answers_a_stranger(host, address)


@contextmanager
def raw(address: str) -> Iterator[socket.socket]:
    with socket.create_connection(endpoint(address), timeout=5) as sock:
        yield sock


async def test_someone_else_at_the_address_is_not_the_peer() -> None:
    async with victim() as (_, address), run_host(secrets.token_bytes(32), [free_address()]) as other:
        with pytest.raises(Unreachable):
            await other.connect(DeviceId(create_new_key_pair(b"x" * 32).public_key.to_bytes()), [address])
        assert other.connected() == set()


async def test_a_dead_address_does_not_hide_a_living_one() -> None:
    with socket.socket() as silent:  # takes connections, says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dead = [free_address(), f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"]
        async with victim() as (host, address), run_host(secrets.token_bytes(32), [free_address()]) as other:
            with trio.fail_after(5):
                assert await other.connect(host.device, [*dead, address]) == address


async def test_nobody_there_is_told_in_time() -> None:
    async with victim() as (host, _), run_host(secrets.token_bytes(32), [free_address()]) as other:
        with pytest.raises(Unreachable), trio.fail_after(5):
            await other.connect(host.device, [free_address()])


async def test_bytes_arrive_as_they_were_sent() -> None:
    sent = secrets.token_bytes(9_000_000)
    got = bytearray()

    async def take(stream: ByteStream) -> None:
        while data := await stream.receive_some(70_000):
            got.extend(data)
        await stream.send_all(b"done")

    async with victim() as (host, address), run_host(secrets.token_bytes(32), [free_address()]) as other:
        host.handle("/test/take/1", take)
        await other.connect(host.device, [address])
        stream = await other.open(host.device, "/test/take/1")
        for at in range(0, len(sent), 333_333):
            await stream.send_all(sent[at : at + 333_333])
        await stream.aclose()
        with trio.fail_after(10):
            assert await stream.receive_some(10) == b"done"
    assert bytes(got) == sent


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    async with victim() as (_, address):
        with pytest.raises(ListenError, match="in use"):
            async with run_host(secrets.token_bytes(32), [address]):
                pass


@pytest.mark.parametrize("address", ["", "127.0.0.1:22000", "/ip4/127.0.0.1/udp/1", "/ip4/x/tcp/y"])
async def test_an_address_of_another_form_is_an_error_with_an_example(address: str) -> None:
    with pytest.raises(ListenError, match=r"/ip4/0\.0\.0\.0/tcp/22000"):
        async with run_host(secrets.token_bytes(32), [address]):
            pass


async def test_a_host_that_ended_leaves_its_port_to_the_next() -> None:
    address = free_address()
    with trio.fail_after(20):
        for _ in range(2):
            async with run_host(secrets.token_bytes(32), [address]):
                pass
