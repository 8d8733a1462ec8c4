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
from shoal.node.folder.coming import Coming
from shoal.node.holdings import AT_ONCE, MOST, Held
from shoal.node.replica import Replica
from shoal.node.session import MAX_FRAME, Session
from shoal.transfer.stream import FrameStream, StreamClosed

FOLDER = FolderId(b"f" * 16)


class Quiet:
    """A node with no folders, that answers what it is asked."""

    def __init__(self) -> None:
        known = SimpleNamespace(roster=[], catalog=[])
        self.account: Any = SimpleNamespace(
            invitation=lambda: known, merge=lambda *said: None, folders=dict, is_member=lambda device: True
        )
        access = SimpleNamespace(may_sync=lambda *about: True, may_read=lambda *about: True)
        self.sharing: Any = SimpleNamespace(access=access, told_to=lambda device: [])
        self.mail: Any = SimpleNamespace(told_to=lambda device: ([], []), take=lambda *said: None)
        self.packs: Any = SimpleNamespace(greeting=lambda folder: None, on_board=lambda *said: None)
        self.questions = 0

    def replicas(self) -> Mapping[FolderId, Replica]:
        return {}

    def need(self, folder: FolderId) -> tuple[int, int]:
        return 0, 0

    @property
    def attesting(self) -> Quiet:
        return self

    def holds(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        self.questions += 1
        return [False] * len(asked)

    async def prove(self, asker: DeviceId, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        await trio.sleep(1)
        return [nonce + asker] * len(asked)

    def addresses(self, asker: DeviceId) -> list[str]:
        return []

    def on_hello(self, device: DeviceId, addresses: list[str]) -> None: ...

    def on_have(self, device: DeviceId, folder: FolderId, chunks: Sequence[bytes]) -> None: ...

    def on_coming(self, device: DeviceId, folder: FolderId, coming: Coming) -> None: ...

    def on_peer_news(self, device: DeviceId, folder: FolderId) -> None: ...

    def on_log_restarted(self) -> None: ...

    def on_write_refused(self, device: DeviceId, folder: FolderId, author: DeviceId) -> None: ...

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


async def converse(autojump_clock: trio.testing.MockClock, said: Sequence[list[Any]], seconds: float) -> list[Any]:
    """Say something to a session; return what it says of proofs within some seconds."""
    here, there = ends(100)
    session, peer = Session(FrameStream(here, MAX_FRAME), Quiet(), trio.current_time), FrameStream(there)
    found: list[Any] = []

    async def listen() -> None:
        while (frame := await peer.receive()) is not None:
            message = cast("list[Any]", codec.decode(frame, MAX_FRAME, 6))
            found.extend([message] if message[0] == "proof" else [])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        nursery.start_soon(listen)
        for message in said:
            await peer.send(codec.encode(message))
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return found


NONCE = b"n" * 32


async def test_who_asks_for_proof_gets_one_for_itself(autojump_clock: trio.testing.MockClock) -> None:
    (answer,) = await converse(autojump_clock, [["prove?", FOLDER, 7, NONCE, [bytes(28)] * 2]], 3)
    assert answer == ["proof", FOLDER, 7, [NONCE + bytes(32)] * 2]


async def test_no_more_proofs_are_made_than_a_few_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    many = [["prove?", FOLDER, number, NONCE, [bytes(28)]] for number in range(50)]
    answers = await converse(autojump_clock, many, 10)
    assert [answer[2] for answer in answers] == list(range(AT_ONCE))


@pytest.mark.parametrize("nonce", [b"", b"short", bytes(33)])
async def test_a_nonce_of_another_length_is_no_message(autojump_clock: trio.testing.MockClock, nonce: bytes) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await converse(autojump_clock, [["prove?", FOLDER, 1, nonce, [bytes(28)]]], 3)
    assert caught.group_contains(codec.Malformed)
