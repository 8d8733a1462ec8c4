"""A conversation between two devices, as far as the engines' and the simulator's tests do not show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from streams import MemoryStream

from shoal.crdt import codec
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.holdings import MOST, Held
from shoal.node.replica import Replica
from shoal.node.session import MAX_FRAME, Session
from shoal.transfer.stream import FrameStream, StreamClosed

FOLDER = FolderId(b"f" * 16)


class Quiet:
    """A node with no folders, that answers what it is asked."""

    def __init__(self) -> None:
        known = SimpleNamespace(roster=[], catalog=[])
        self.account: Any = SimpleNamespace(invitation=lambda: known, merge=lambda *said: None, folders=dict)
        self.questions = 0

    def replicas(self) -> Mapping[FolderId, Replica]:
        return {}

    def need(self, folder: FolderId) -> tuple[int, int]:
        return 0, 0

    def holds(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        self.questions += 1
        return [False] * len(asked)

    async def prove(self, asker: DeviceId, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        return [b""] * len(asked)

    def addresses(self) -> list[str]:
        return []

    def on_hello(self, device: DeviceId, addresses: list[str]) -> None: ...

    def on_peer_news(self, device: DeviceId, folder: FolderId) -> None: ...

    def on_log_restarted(self) -> None: ...

    def on_misbehaved(self, device: DeviceId, reason: str) -> None: ...


def ends(room: float) -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a stream; the first can send `room` frames that the other has not read."""
    ours, from_us = trio.open_memory_channel[bytes](room)
    theirs, from_them = trio.open_memory_channel[bytes](0)
    return MemoryStream(bytes(32), ours, from_them), MemoryStream(bytes(32), theirs, from_us)


QUESTION = codec.encode(["held?", FOLDER, 1, [bytes(28)] * MOST])


async def test_a_peer_that_asks_and_does_not_read_is_left(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.node.session.OUTBOX", 100_000, raising=False)
    node = Quiet()
    here, there = ends(3)
    session, peer = Session(FrameStream(here, MAX_FRAME), node, trio.current_time), FrameStream(there)
    most = 400_000 // MOST

    async def ask() -> None:
        with trio.CancelScope() as scope:
            asking.append(scope)
            for _ in range(most):
                await peer.send(QUESTION)

    asking: list[trio.CancelScope] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with pytest.raises(StreamClosed, match="does not read"):
            await session.run()
        asking[0].cancel()
    assert 100 < node.questions < most
    assert not session._outbox


async def test_a_peer_that_reads_is_answered_whatever_it_asks(autojump_clock: trio.testing.MockClock) -> None:
    node = Quiet()
    here, there = ends(3)
    session, peer = Session(FrameStream(here, MAX_FRAME), node, trio.current_time), FrameStream(there)
    answers = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        for _ in range(50):
            await peer.send(QUESTION)
            while answers <= _ and (frame := await peer.receive()) is not None:
                answers += cast("list[Any]", codec.decode(frame, MAX_FRAME, 6))[0] == "held"
        nursery.cancel_scope.cancel()
    assert answers == node.questions == 50
