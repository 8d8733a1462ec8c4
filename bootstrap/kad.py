"""The DHT's questions and answers over libp2p streams, `/shoal/kad/1.0.0`: each message is led by its length.

A stream that was used is kept for the next question to the same peer; a connection that nobody has used for a while,
and that is not wanted for something else, is closed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from shoal.bootstrap.host import Host, Unreachable
from shoal.bootstrap.peerid import device_from_bytes, peer_id_bytes
from shoal.crdt.model import DeviceId
from shoal.dht.addresses import ip_of
from shoal.dht.driver import Dht, Unanswered
from shoal.dht.keyspace import PeerId
from shoal.dht.messages import MAX_MESSAGE
from shoal.dht.protobuf import Malformed, with_length
from shoal.dht.server import TooMuch
from shoal.transfer.stream import ByteStream, StreamClosed

PROTOCOL = "/shoal/kad/1.0.0"
FRAME_WITHIN = 10.0  # seconds in which a message that has begun comes whole, and an answer is taken
QUIET = 60.0  # seconds after which a stream or connection that is not used is closed
LOOK_EVERY = 5.0
STREAMS = 512  # served at once; then the one that is silent for longest goes
STREAMS_OF_ONE = 64  # as js-libp2p opens at once
KEPT = 8.0  # seconds for which a stream is kept for the next question: js-libp2p ends it after 10
DIAL_WITHIN = 4.0
MOST_ADDRESSES = 3  # that are tried


class Framed:
    """A stream of messages, each led by its length as a varint. One task at a time."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.used = trio.current_time()
        self._held = bytearray()

    async def send(self, message: bytes) -> None:
        """Raises StreamClosed."""
        await self.stream.send_all(with_length(message))

    async def receive(self, first_within: float = FRAME_WITHIN) -> bytes | None:
        """Return the next message, None at the end, or where nothing of it came in time. Raises StreamClosed, and
        Malformed for a message that is too large, or too slow."""
        if not self._held:
            with trio.move_on_after(first_within) as silence:
                if not await self._more():
                    return None
            if silence.cancelled_caught:
                return None
        with trio.move_on_after(FRAME_WITHIN):
            while (size := self._size()) is None:
                if not await self._more():
                    raise StreamClosed("the stream ended inside a message")
            begin, end = size
            while len(self._held) < end:
                if not await self._more():
                    raise StreamClosed("the stream ended inside a message")
            message = bytes(self._held[begin:end])
            del self._held[:end]
            self.used = trio.current_time()
            return message
        raise Malformed("a message that did not come whole in time")

    async def _more(self) -> bool:
        data = await self.stream.receive_some(65536)
        self._held += data
        return bool(data)

    def _size(self) -> tuple[int, int] | None:
        """Return where the message begins and ends, None while that is not known. Raises Malformed."""
        number = 0
        for at, byte in enumerate(self._held[:4]):
            number |= (byte & 0x7F) << (7 * at)
            if byte < 0x80:
                if number > MAX_MESSAGE:
                    raise Malformed("a message that is too large")
                return at + 1, at + 1 + number
        if len(self._held) >= 4:
            raise Malformed("a length that does not end")
        return None


@dataclass(slots=True, eq=False)
class _Served:
    framed: Framed
    scope: trio.CancelScope


class KadStreams:
    """Carries the messages of one peer's DHT. `wanted`: connections that others keep open; `barred`: peers that are
    not talked to."""

    def __init__(
        self, host: Host, wanted: Callable[[], set[DeviceId]], barred: Callable[[DeviceId], bool] = lambda device: False
    ) -> None:
        self._host = host
        self._wanted = wanted
        self._barred = barred
        self._idle: dict[DeviceId, list[Framed]] = {}
        self._dialling: dict[DeviceId, trio.Lock] = {}
        self._used: dict[DeviceId, float] = {}
        self._serving: dict[_Served, None] = {}  # the one that is silent for longest first
        self._by_peer: Counter[DeviceId] = Counter()
        self.dht: Dht

    def serve_others(self, serves: bool) -> None:
        """Answer who asks, or be known as one who does not."""
        self.dht.serves = serves
        if serves:
            self._host.handle(PROTOCOL, self.serve)
        else:
            self._host.unhandle(PROTOCOL)

    async def run(self) -> None:
        """Close what is not used, until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY)
            await self._tidy(trio.current_time())

    # -- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, peer: PeerId, addresses: tuple[str, ...], question: bytes) -> bytes:
        """Send a message and return the answer. Raises Unanswered."""
        kept = self._has_kept(peer)
        try:
            return await self._ask(peer, addresses, question)
        except Unanswered:
            if not kept:
                raise
        return await self._ask(peer, addresses, question)  # the other side may just have ended what was kept

    async def _ask(self, peer: PeerId, addresses: tuple[str, ...], question: bytes) -> bytes:
        async with self._stream(peer, addresses) as framed:
            await framed.send(question)
            answer = await framed.receive()
            if answer is None:
                await framed.stream.reset()
                raise Unanswered("it did not answer")
            return answer

    def _has_kept(self, peer: PeerId) -> bool:
        with contextlib.suppress(ValueError):
            return bool(self._idle.get(device_from_bytes(peer)))
        return False

    async def tell(self, peer: PeerId, addresses: tuple[str, ...], message: bytes) -> None:
        """Send a message that is not answered. Raises Unanswered."""
        async with self._stream(peer, addresses) as framed:
            await framed.send(message)

    @asynccontextmanager
    async def _stream(self, peer: PeerId, addresses: tuple[str, ...]) -> AsyncIterator[Framed]:
        """Lend a stream: it is kept for the next where all went well, and reset else."""
        try:
            device = device_from_bytes(peer)
        except ValueError as error:
            raise Unanswered("not a peer that can be reached") from error
        if self._barred(device):
            raise Unanswered("it is banned")
        self._used[device] = trio.current_time()
        try:
            framed = self._kept(device) or Framed(await self._open(device, addresses))
        except (StreamClosed, Unreachable) as error:
            raise Unanswered(str(error)) from error
        try:
            yield framed
        except (StreamClosed, Malformed) as error:
            await framed.stream.reset()
            raise Unanswered(str(error)) from error
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await framed.stream.reset()
            raise
        framed.used = self._used[device] = trio.current_time()
        self._idle.setdefault(device, []).append(framed)

    def _kept(self, device: DeviceId) -> Framed | None:
        kept = self._idle.get(device)
        if not kept or device not in self._host.connected():
            self._idle.pop(device, None)
            return None
        framed = kept.pop()
        return framed if trio.current_time() - framed.used < KEPT else None

    async def _open(self, device: DeviceId, addresses: tuple[str, ...]) -> ByteStream:
        if device not in self._host.connected():
            lock = self._dialling.setdefault(device, trio.Lock())
            try:
                async with lock:
                    if device not in self._host.connected():
                        await self._host.connect(device, self._fit(addresses), DIAL_WITHIN)
            finally:
                if not lock.locked():
                    self._dialling.pop(device, None)
        return await self._host.open(device, PROTOCOL)

    def _fit(self, addresses: tuple[str, ...]) -> list[str]:
        """Return what to dial: loopback only where this peer is on nothing else."""
        own = [ip_of(address) for address in self._host.addresses()]
        only_here = all(ip is not None and ip.is_loopback for ip in own)
        fit = [address for address in addresses if only_here or not _is_of_this_machine(address)]
        return fit[:MOST_ADDRESSES]

    # -- serving -----------------------------------------------------------------------------------------------------

    async def serve(self, stream: ByteStream) -> None:
        """Answer what a peer asks on a stream, until it is silent for long."""
        device = DeviceId(stream.peer)
        if self._barred(device) or self._by_peer[device] >= STREAMS_OF_ONE or not self.dht.serves:
            await stream.reset()
            return
        while len(self._serving) >= STREAMS:
            oldest = next(iter(self._serving))
            del self._serving[oldest]
            oldest.scope.cancel()
        with trio.CancelScope() as scope:
            served = _Served(Framed(stream), scope)
            self._by_peer[device] += 1
            self._serving[served] = None
            try:
                await self._converse(device, served)
            except (StreamClosed, Malformed, TooMuch, trio.TooSlowError):
                await stream.reset()
            else:
                await stream.aclose()
            finally:
                self._serving.pop(served, None)
                self._by_peer[device] -= 1
                if not self._by_peer[device]:
                    del self._by_peer[device]
        if scope.cancelled_caught:
            await stream.reset()

    async def _converse(self, device: DeviceId, served: _Served) -> None:
        peer = PeerId(peer_id_bytes(device))
        while (question := await served.framed.receive(QUIET)) is not None:
            self._used[device] = trio.current_time()
            if served in self._serving:
                self._serving[served] = self._serving.pop(served)
            answer = self.dht.answer(peer, question)
            if answer is not None:
                with trio.fail_after(FRAME_WITHIN):
                    await served.framed.send(answer)

    def _is_used(self, device: DeviceId) -> bool:
        """Return whether a peer has streams open beside those that are kept for the next question."""
        return self._host.is_used(device) and not self._idle.get(device)

    # -- tidying -----------------------------------------------------------------------------------------------------

    async def _tidy(self, now: float) -> None:
        connected = self._host.connected()
        self._used = {device: used for device, used in self._used.items() if device in connected}
        for device in connected:
            self._used.setdefault(device, now)
        busy = self._wanted() | set(self._by_peer)
        for device, used in list(self._used.items()):
            if device not in busy and now - used > QUIET and not self._is_used(device):
                for framed in self._idle.pop(device, []):
                    await framed.stream.reset()
                await self._host.disconnect(device)
        for device, kept in list(self._idle.items()):
            stale = [framed for framed in kept if now - framed.used > KEPT]
            self._idle[device] = [framed for framed in kept if framed not in stale]
            for framed in stale:
                with contextlib.suppress(StreamClosed):
                    await framed.stream.aclose()
            if not self._idle[device]:
                del self._idle[device]


def _is_of_this_machine(address: str) -> bool:
    ip = ip_of(address)
    if ip is None:
        return "/localhost" in address.lower() or ".local/" in address.lower()
    return ip.is_loopback or ip.is_unspecified
