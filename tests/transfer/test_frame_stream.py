"""Frames: whole whatever way the bytes come, bounded, and honest about an end in the middle."""

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from shoal.transfer.stream import FrameStream, FrameTooLarge, StreamClosed


class Pieces:
    """A stream that gives the pieces it was made of, then ends; None is a wait that never ends."""

    peer = bytes(32)

    def __init__(self, pieces: Sequence[bytes | None]) -> None:
        self.pieces = list(pieces)
        self.sent = b""

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if piece is None:
            await trio.sleep_forever()
        assert piece
        if len(piece) > max_bytes:
            self.pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def aclose(self) -> None: ...

    async def reset(self) -> None: ...


def cut(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    pieces, at = [], 0
    for length in lengths:
        pieces.append(data[at : at + length])
        at += length
    return [piece for piece in (*pieces, data[at:]) if piece]


@given(st.lists(st.binary(max_size=60), max_size=12), st.lists(st.integers(1, 40), max_size=30))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(frames: list[bytes], lengths: list[int]) -> None:
    async def both() -> None:
        sender = Pieces([])
        for frame in frames:
            await FrameStream(sender).send(frame)
        receiver = FrameStream(Pieces(cut(sender.sent, lengths)))
        assert [await receiver.receive() for _ in frames] == frames
        assert await receiver.receive() is None

    trio.run(both)


async def test_a_frame_larger_than_a_read_is_put_together() -> None:
    frame = bytes(range(256)) * 4000
    data = len(frame).to_bytes(4) + frame + b"\0\0\0\1x"
    stream = FrameStream(Pieces(cut(data, [10, 65_000, 300_000])))
    assert await stream.receive() == frame
    assert await stream.receive() == b"x"


async def test_an_announced_frame_over_the_limit_is_refused() -> None:
    with pytest.raises(FrameTooLarge):
        await FrameStream(Pieces([b"\0\0\0\x0b", b"x" * 11]), max_frame=10).receive()


async def test_sending_a_frame_over_the_limit_is_our_own_fault() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        await FrameStream(Pieces([]), max_frame=10).send(b"x" * 11)


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\5", b"\0\0\0\5abcd"])
async def test_an_end_inside_a_frame_is_a_broken_stream(data: bytes) -> None:
    with pytest.raises(StreamClosed):
        await FrameStream(Pieces([data])).receive()


async def test_a_cancelled_receive_loses_nothing(autojump_clock: MockClock) -> None:
    stream = FrameStream(Pieces([b"\0\0\0\5ab", None, b"cde"]))
    with trio.move_on_after(1):
        await stream.receive()
    assert await stream.receive() == b"abcde"
