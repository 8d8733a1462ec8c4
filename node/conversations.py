"""The conversations with connected devices: one stream each, opened by the device with the smaller id.

A peer's fault ends that peer's conversation alone, which `Peering` begins anew later.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from shoal.bootstrap.bulk import lanes_for, open_bulk
from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt.codec import Malformed
from shoal.crdt.model import DeviceId
from shoal.node.bulkhead import bulkhead
from shoal.node.session import MAX_FRAME, PROTOCOL, Session
from shoal.transfer.bulk import PROTOCOL as BULK
from shoal.transfer.lanes import Lanes
from shoal.transfer.messages import MAX_FRAME as EXCHANGE_FRAME
from shoal.transfer.messages import PROTOCOL as EXCHANGE
from shoal.transfer.stream import ByteStream, FrameStream, FrameTooLarge, StreamClosed

if TYPE_CHECKING:
    from shoal.node.daemon import Node


OPENS_WITHIN = 2.0  # seconds in which the other opens the stream, if it converses at all
BACK_AFTER_LOSS = 5.0  # seconds in which a device that was lost most often is back, if it will be
BACK_AFTER_FAULT = 120.0  # the same for one whose conversation a fault ended, here or there


class Conversations:
    """Begins and ends the sessions of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._incoming: dict[DeviceId, trio.MemorySendChannel[ByteStream]] = {}
        self._early: dict[DeviceId, ByteStream] = {}  # came before the conversation that it is for
        self._back_by: dict[DeviceId, float] = {}

    def may_resume(self, device: DeviceId) -> bool:
        """Return whether a conversation that ended is likely to go on in a moment."""
        return trio.current_time() < self._back_by.get(device, 0.0)

    async def serve(self, stream: ByteStream) -> None:
        """Take a stream that a device opened to converse."""
        device = DeviceId(stream.peer)
        if not self._node.sharing.access.is_partner(device):
            await stream.reset()
            return
        with trio.move_on_after(5):
            while device not in self._incoming:  # its stream may be quicker than the news of its connection
                await self._node.peering.up.wait()
            await self._incoming[device].send(stream)
            return
        await stream.reset()

    async def while_up(self, device: DeviceId) -> None:
        """Talk to a connected device until the conversation ends."""
        name = self._node.sharing.access.name_of(device)
        with bulkhead(f"the meeting with {name}", lambda reason: self._session_failed(device, reason)):
            await self._node.sharing.meet(device)
        arrived, streams = trio.open_memory_channel[ByteStream](4)
        introduced = False
        self._incoming[device] = arrived
        if device in self._early:
            arrived.send_nowait(self._early.pop(device))
        self._node.peering.announce_up()
        try:
            with trio.fail_after(20):
                if self._node.key.id < device:
                    stream = await self._open_patiently(device, PROTOCOL)
                else:
                    stream = await self._awaited(device, streams)
            self._node.events.add("connected", f"connected to {name}", device=peer_id_text(device))
            with bulkhead(f"the session with {name}", lambda reason: self._session_failed(device, reason)):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hold, device)
                    introduced = await self._converse(device, stream)
                    nursery.cancel_scope.cancel()
            self._node.events.add("disconnected", f"lost the connection to {name}", device=peer_id_text(device))
        except (trio.TooSlowError, StreamClosed):
            introduced = False
        finally:
            self._incoming.pop(device, None)
            with contextlib.suppress(trio.WouldBlock):
                while True:  # opened for the conversation after this one
                    await self._keep(streams.receive_nowait())
        if not introduced and device in self._node.host.connected() and self._node.account.is_known(device):
            await self._node.membership.ask(device)  # why it does not converse

    async def _keep(self, stream: ByteStream) -> None:
        device = DeviceId(stream.peer)
        if device in self._early:
            await _reset(self._early.pop(device))
        self._early[device] = stream

    async def _awaited(self, device: DeviceId, streams: trio.MemoryReceiveChannel[ByteStream]) -> ByteStream:
        """Return the stream that the other opens; where it does not, ask why."""
        with trio.move_on_after(OPENS_WITHIN):
            return await streams.receive()
        if self._node.account.is_known(device):
            await self._node.membership.ask(device)
        return await streams.receive()

    async def _converse(self, device: DeviceId, stream: ByteStream) -> bool:
        """Talk until the stream ends; return whether the other said all that it had to say at the beginning."""
        conversation = Session(FrameStream(stream, MAX_FRAME), self._node, trio.current_time)
        self._node.sessions[device] = conversation
        try:
            await conversation.run()
        except* (StreamClosed, FrameTooLarge, Malformed):
            pass
        finally:
            self._node.sessions.pop(device, None)
            self._node.on_left(device)
            self._back_by[device] = trio.current_time() + BACK_AFTER_LOSS
            await _reset(stream)
        return conversation.introduced

    def _session_failed(self, device: DeviceId, reason: str) -> None:
        self._back_by[device] = trio.current_time() + BACK_AFTER_FAULT
        name = self._node.sharing.access.name_of(device)
        self._node.events.add("session-failed", f"the conversation with {name} ended: {reason}")

    async def _hold(self, device: DeviceId) -> None:
        async def open_stream() -> FrameStream:
            return self._node.serving.limited(FrameStream(await self._node.host.open(device, EXCHANGE), EXCHANGE_FRAME))

        async def open_channel() -> Lanes:
            began = trio.current_time()
            control = await self._node.host.open(device, BULK)
            lanes = lanes_for(trio.current_time() - began)
            host = self._node.peering.remote_host(device)
            return self._node.serving.limited(await open_bulk(control, host, self._node.bulk, lanes))

        await self._node.fetcher.hold(device, open_stream, open_channel)

    async def _open_patiently(self, device: DeviceId, protocol: str) -> ByteStream:
        while True:
            try:
                return await self._node.host.open(device, protocol)
            except StreamClosed:
                if device not in self._node.host.connected():
                    raise
                await trio.sleep(0.2)


async def _reset(stream: ByteStream) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
        await stream.reset()
