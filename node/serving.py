"""What other devices get of this one's chunks: over the exchange, and over bulk channels."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import trio

from shoal.bootstrap.bulk import give_bulk
from shoal.crdt.model import DeviceId, FolderId
from shoal.transfer.bulk import BadBulk
from shoal.transfer.messages import MAX_FRAME
from shoal.transfer.server import serve
from shoal.transfer.stream import ByteStream, Frames, FrameStream, FrameTooLarge, StreamClosed

if TYPE_CHECKING:
    from shoal.node.daemon import Node

F = TypeVar("F", bound=Frames)


class Serving:
    """The giving side of one node; itself the `ChunkSource` of each exchange."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def limited(self, stream: F) -> F:
        """Have what goes over a stream keep to this device's limits."""
        stream.up, stream.down = self._node.limits.ways(self._node.peering.remote_host(DeviceId(stream.peer)))
        return stream

    async def exchange(self, stream: ByteStream) -> None:
        """Serve a stream that a device opened."""
        if not self._node.sharing.access.is_partner(DeviceId(stream.peer)):
            await stream.reset()
            return
        await serve(self.limited(FrameStream(stream, MAX_FRAME)), self)

    async def bulk(self, stream: ByteStream) -> None:
        """Agree on a bulk channel over a stream that a device opened, and serve that."""
        node, device = self._node, DeviceId(stream.peer)
        admitted = node.sharing.access.is_partner(device) and node.bulk.admit(device)
        try:
            if admitted:
                with contextlib.suppress(StreamClosed, BadBulk, FrameTooLarge):
                    channel = await give_bulk(stream, node.peering.remote_host(device), node.bulk)
                    if channel is not None:
                        await serve(self.limited(channel), self)
        finally:
            if admitted:
                node.bulk.release(device)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.reset()

    # -- what an exchange asks ---------------------------------------------------------------------------------------

    def may_read(self, peer: bytes, folder: bytes) -> bool:
        """Return whether the peer may have the folder's chunks."""
        known = FolderId(folder) in self._node.folders
        return known and self._node.sharing.access.may_read(DeviceId(peer), FolderId(folder))

    async def read(self, folder: bytes, ids: Sequence[bytes]) -> Sequence[bytes | memoryview | None]:
        """Return chunks from this disk."""
        runtime = self._node.folders.get(FolderId(folder))
        return await runtime.engine.lend_chunks(ids) if runtime is not None else [None] * len(ids)

    def on_sent(self, peer: bytes, size: int) -> None:
        """Chunk bytes went out."""
        stats = self._node.fetcher.stats
        stats.sent += size
        stats.sent_to[peer] += size
