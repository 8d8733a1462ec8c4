"""The bulk channel's sockets: its port, dialling, and agreeing on a channel over libp2p (see `transfer.bulk`).

A channel lives as long as the libp2p stream that it was agreed on over: so it ends with the connection that proves who
is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import trio
from trio_typing import TaskStatus

from shoal.bootstrap.host import ListenError
from shoal.transfer.aead import KEY_SIZE, choose, own_ciphers, wipe
from shoal.transfer.bulk import (
    MAGIC,
    MAX_OFFER,
    TOKEN_SIZE,
    Ask,
    BadBulk,
    DialMe,
    Grant,
    LaneKeys,
    Offer,
    Refusal,
    check_empty_box,
    decode_offer,
    empty_box,
    encode_offer,
    lane_keys,
    prelude,
    token_of,
)
from shoal.transfer.door import PROOF_SECONDS, Door
from shoal.transfer.lanes import Connection, Lanes
from shoal.transfer.messages import MAX_FRAME, MAX_WANT
from shoal.transfer.stream import ByteStream, FrameStream, FrameTooLarge, StreamClosed

USUAL_PORT = 22410
DIAL_SECONDS = 3.0  # a port that is blocked does not answer at all
GATHER_SECONDS = 10.0
AT_ONCE = 64  # channels that are given
OF_ONE_DEVICE = 3
STALL = 30  # seconds in which nothing comes of a frame that has begun, or nothing is taken of one

Lane = tuple[Connection, LaneKeys]


class TcpConnection:
    """A TCP socket as a `Connection`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        patience = struct.pack("@ll", STALL, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        sock.setblocking(True)

    async def readable(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._socket.fileno())
        except (OSError, trio.ClosedResourceError) as error:
            raise StreamClosed(str(error)) from error

    def receive_now(self, view: memoryview) -> int | None:
        try:
            return self._socket.recv_into(view, len(view), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise StreamClosed(str(error)) from error

    def receive_much(self, view: memoryview) -> int:
        try:
            return self._socket.recv_into(view, len(view), socket.MSG_WAITALL)
        except OSError as error:
            raise StreamClosed(str(error)) from error

    def send_now(self, view: memoryview) -> int:
        try:
            return self._socket.send(view, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamClosed(str(error)) from error

    def send_all(self, view: memoryview) -> None:
        at = 0
        try:
            while at < len(view):
                at += self._socket.send(view[at:])
        except OSError as error:
            raise StreamClosed(str(error)) from error

    async def receive_exactly(self, size: int) -> bytes:
        """Return that many bytes. Raises StreamClosed."""
        data = bytearray(size)
        at = 0
        while at < size:
            got = self.receive_now(memoryview(data)[at:])
            if got == 0:
                raise StreamClosed("it ended too early")
            if got is None:
                await self.readable()
            else:
                at += got
        return bytes(data)

    def send_few(self, data: bytes) -> None:
        """Send what a fresh connection has room for. Raises StreamClosed."""
        if self.send_now(memoryview(data)) < len(data):
            raise StreamClosed("it takes nothing")

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._socket.fileno() >= 0:
                trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.close()


class BulkPort:
    """Where others may open bulk channels to this device. `port` is 0 while there is none."""

    def __init__(self, hosts: Sequence[str], port: int, *, fixed: bool = False) -> None:
        """Bind on each of `hosts`, on that port; where it is taken and not `fixed`, on any. Raises OSError."""
        self.port = 0
        self._door = Door()
        self._waiting: dict[bytes, trio.MemorySendChannel[tuple[bytes, TcpConnection]]] = {}
        self._given: Counter[bytes] = Counter()
        self._sockets: list[socket.socket] = []
        for host in hosts:
            self._bind(host, self.port or port, fixed=fixed or bool(self.port))

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let in who is expected, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for bound in self._sockets:
                    bound.listen(128)
                    nursery.start_soon(self._accept, trio.socket.from_stdlib_socket(bound), nursery)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self.close()

    def close(self) -> None:
        """Listen no more."""
        for bound in self._sockets:
            bound.close()
        self.port = 0

    @asynccontextmanager
    async def expecting(
        self, keys: Mapping[bytes, LaneKeys]
    ) -> AsyncIterator[trio.MemoryReceiveChannel[tuple[bytes, TcpConnection]]]:
        """Let in the connections with these tokens while the block runs."""
        send, arrived = trio.open_memory_channel[tuple[bytes, TcpConnection]](len(keys))
        self._door.expect(keys, trio.current_time())
        self._waiting |= dict.fromkeys(keys, send)
        try:
            yield arrived
        finally:
            self._door.forget(keys)
            for token in keys:
                self._waiting.pop(token, None)
            with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
                while True:
                    arrived.receive_nowait()[1].close()

    def admit(self, device: bytes) -> bool:
        """Count a channel that is given to a device in, or return False when there is no room."""
        if self._given.total() >= AT_ONCE or self._given[device] >= OF_ONE_DEVICE:
            return False
        self._given[device] += 1
        return True

    def release(self, device: bytes) -> None:
        """Count it out."""
        self._given[device] -= 1
        if self._given[device] <= 0:
            del self._given[device]

    def _bind(self, host: str, port: int, *, fixed: bool) -> None:
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ":" in host:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                bound.bind((host, port))
            except OSError as error:
                if fixed or error.errno != errno.EADDRINUSE:
                    raise
                bound.bind((host, 0))
        except BaseException:
            bound.close()
            raise
        bound.setblocking(False)
        self._sockets.append(bound)
        self.port = bound.getsockname()[1]

    async def _accept(self, bound: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                connected, remote = await bound.accept()
            except OSError:  # it went away again, or there is no room for a socket now
                await trio.sleep(0.1)
                continue
            address = str(remote[0])
            if self._door.knock(address):
                nursery.start_soon(self._hear, TcpConnection(_plain(connected)), address)
            else:
                connected.close()

    async def _hear(self, connection: TcpConnection, address: str) -> None:
        let_in = False
        try:
            with trio.move_on_after(PROOF_SECONDS), contextlib.suppress(StreamClosed, BadBulk):
                let_in = await self._check(connection)
        finally:
            self._door.heard(address)
            if not let_in:
                connection.close()

    async def _check(self, connection: TcpConnection) -> bool:
        token = token_of(await connection.receive_exactly(len(MAGIC) + TOKEN_SIZE))
        keys = self._door.keys_for(token, trio.current_time())
        if keys is None:
            return False
        proof = await connection.receive_exactly(keys.receiving.cipher.tag_size)
        if self._door.keys_for(token, trio.current_time()) is None:
            return False  # another came with it meanwhile, and its keys may be gone
        check_empty_box(keys, proof)
        if not self._door.spend(token):
            return False
        waiting = self._waiting[token]
        connection.send_few(empty_box(keys))
        try:
            waiting.send_nowait((token, connection))
        except (trio.BrokenResourceError, trio.WouldBlock):
            return False
        return True


async def dial(host: str, port: int, keys: Mapping[bytes, LaneKeys]) -> list[Lane]:
    """Open a connection for each token. Raises StreamClosed when any of them fails."""
    if not host:
        raise StreamClosed("it is not known where the peer is")
    made: dict[bytes, TcpConnection] = {}

    async def open_one(token: bytes, lane: LaneKeys) -> None:
        with contextlib.suppress(StreamClosed, BadBulk, OSError):
            connection = TcpConnection(_plain((await trio.open_tcp_stream(host, port)).socket))
            try:
                connection.send_few(prelude(lane, token))
                check_empty_box(lane, await connection.receive_exactly(lane.receiving.cipher.tag_size))
                made[token] = connection
            finally:
                if token not in made:
                    connection.close()

    try:
        with trio.move_on_after(DIAL_SECONDS):
            async with trio.open_nursery() as nursery:
                for token, lane in keys.items():
                    nursery.start_soon(open_one, token, lane)
    finally:
        if len(made) < len(keys):
            for connection in made.values():
                connection.close()
    if len(made) < len(keys):
        raise StreamClosed(f"{host}, port {port}, cannot be dialled")
    return [(made[token], keys[token]) for token in keys]


def listen_for_bulk(listen: Sequence[str], port: int | None) -> BulkPort:
    """Return a port on the hosts that libp2p listens on (multiaddrs): `port`, 0 for any; None for the usual one, or any
    where that is taken. Raises ListenError."""
    hosts = list(dict.fromkeys(address.split("/")[2] for address in listen))
    try:
        return BulkPort(hosts, USUAL_PORT if port is None else port, fixed=bool(port))
    except (OSError, OverflowError) as error:
        reason = "the port is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
        raise ListenError(f"cannot listen for bulk channels on port {port or USUAL_PORT}: {reason}") from error


def lanes_for(delay: float) -> int:
    """Return how many connections fill the way to a peer to which opening a stream took so many seconds. Two keep both
    sides' threads at work; on a long way one that lost a packet is slow for long."""
    return 2 if delay < 0.06 else 4


async def open_bulk(control: ByteStream, host: str, port: BulkPort, lanes: int) -> Lanes:
    """Agree on a bulk channel over a fresh stream of `transfer.bulk.PROTOCOL`, as the taker, and open it. `host`: where
    the giver's connection comes from. Raises StreamClosed."""
    frames = FrameStream(control, MAX_OFFER)
    try:
        await frames.send(encode_offer(Ask(lanes, own_ciphers())))
        grant = await _receive(frames)
        if not isinstance(grant, Grant):
            raise StreamClosed("the peer gives no bulk channel now")
        try:
            opened = await _open_lanes(frames, host, port, grant)
        finally:
            wipe(grant.secret)
        return Lanes(control.peer, opened, MAX_FRAME, control)
    except BaseException as error:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await control.reset()
        if isinstance(error, BadBulk | FrameTooLarge):
            raise StreamClosed(str(error)) from error
        raise


async def _open_lanes(frames: FrameStream, host: str, port: BulkPort, grant: Grant) -> list[Lane]:
    if grant.port:
        try:
            return await dial(host, grant.port, lane_keys(grant, "taker"))
        except StreamClosed:
            if not port.port:
                raise
    elif not port.port:
        raise StreamClosed("neither side can be dialled")
    keys = lane_keys(grant, "taker", reverse=True)
    async with port.expecting(keys) as arrived:
        await frames.send(encode_offer(DialMe(port.port)))
        with trio.move_on_after(DIAL_SECONDS):
            return await _gather(arrived, keys)
    raise StreamClosed("the peer did not come")


async def give_bulk(control: ByteStream, host: str, port: BulkPort) -> Lanes | None:
    """Agree on a bulk channel as the giver; return it, None when it came to nothing. Raises StreamClosed, BadBulk,
    FrameTooLarge."""
    frames = FrameStream(control, MAX_OFFER)
    ask = await _receive(frames)
    if not isinstance(ask, Ask):
        raise BadBulk("not what an exchange begins with")
    cipher = choose(ask.ciphers, own_ciphers())
    if cipher is None:
        await frames.send(encode_offer(Refusal()))
        return None
    tokens = tuple(os.urandom(TOKEN_SIZE) for _ in range(ask.lanes))
    grant = Grant(cipher, port.port, os.urandom(KEY_SIZE), tokens)
    try:
        keys = lane_keys(grant, "giver")
        async with port.expecting(keys) as arrived:
            await frames.send(encode_offer(grant))
            lanes = await _gather_or_hear(frames, arrived, keys)
        if lanes is None:
            return None
        if isinstance(lanes, DialMe):
            lanes = await dial(host, lanes.port, lane_keys(grant, "giver", reverse=True))
        return Lanes(control.peer, lanes, MAX_WANT, control)
    finally:
        wipe(grant.secret)


async def _gather_or_hear(
    frames: FrameStream, arrived: trio.MemoryReceiveChannel[tuple[bytes, TcpConnection]], keys: Mapping[bytes, LaneKeys]
) -> list[Lane] | DialMe | None:
    """Wait for all lanes, or for the taker's word that it cannot come."""
    gathered: list[Lane] = []
    said: list[Offer | Exception] = []
    with trio.move_on_after(GATHER_SECONDS):
        async with trio.open_nursery() as nursery:

            async def hear() -> None:
                try:
                    said.append(await _receive(frames))
                except (StreamClosed, FrameTooLarge, BadBulk) as error:
                    said.append(error)
                nursery.cancel_scope.cancel()

            nursery.start_soon(hear)
            gathered += await _gather(arrived, keys)
            nursery.cancel_scope.cancel()
    if gathered:
        return gathered
    if said and isinstance(said[0], Exception):
        raise said[0]
    return said[0] if said and isinstance(said[0], DialMe) else None


async def _gather(
    arrived: trio.MemoryReceiveChannel[tuple[bytes, TcpConnection]], keys: Mapping[bytes, LaneKeys]
) -> list[Lane]:
    came: dict[bytes, TcpConnection] = {}
    try:
        while len(came) < len(keys):
            token, connection = await arrived.receive()
            came[token] = connection
        return [(came[token], keys[token]) for token in keys]
    finally:
        if len(came) < len(keys):
            for connection in came.values():
                connection.close()


async def _receive(frames: FrameStream) -> Offer:
    with trio.move_on_after(GATHER_SECONDS):
        frame = await frames.receive()
        if frame is None:
            raise StreamClosed("the peer ended it")
        return decode_offer(frame)
    raise StreamClosed("the peer says nothing")


def _plain(connected: trio.socket.SocketType) -> socket.socket:
    """Return trio's socket as a plain one, which is the caller's from now on."""
    return socket.socket(fileno=connected.detach())
