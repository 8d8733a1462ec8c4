"""The exchange's frames: what is written is read, and nothing else is accepted."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.messages import (
    MAX_WANTED,
    BadMessage,
    Cancel,
    Chunks,
    Message,
    Missing,
    Want,
    decode,
    encode,
)

U32 = st.integers(0, 2**32 - 1)
IDS = st.binary(min_size=32, max_size=32)
MESSAGES = st.one_of(
    st.builds(Want, U32, st.binary(min_size=16, max_size=16), st.lists(IDS, min_size=1, max_size=9).map(tuple)),
    st.builds(Cancel, U32),
    st.builds(Chunks, U32, st.lists(st.tuples(U32, st.binary(max_size=50)), min_size=1, max_size=9)),
    st.builds(Missing, U32, st.lists(U32, min_size=1, max_size=9).map(tuple)),
)


@given(MESSAGES)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode(encode(message)) == message


@given(
    st.one_of(st.binary(max_size=100), st.sampled_from(b"WXCM").flatmap(lambda t: st.binary().map(bytes([t]).__add__)))
)
def test_garbage_is_refused_as_a_bad_message(frame: bytes) -> None:
    with contextlib.suppress(BadMessage):
        assert encode(decode(frame)) == frame


@given(MESSAGES, st.integers(1, 40))
def test_a_frame_that_was_cut_short_is_never_taken_for_the_whole(message: Message, cut: int) -> None:
    frame = encode(message)
    with contextlib.suppress(BadMessage):
        assert decode(frame[:-cut]) != message


@pytest.mark.parametrize(
    "message",
    [Want(1, bytes(16), ()), Want(1, bytes(16), (bytes(32),) * (MAX_WANTED + 1)), Chunks(1, []), Missing(1, ())],
)
def test_messages_of_a_wrong_size_are_refused(message: Message) -> None:
    with pytest.raises(BadMessage):
        decode(encode(message))


def test_ten_thousand_small_chunks_carry_eight_bytes_each_besides_their_own() -> None:
    frame = encode(Chunks(1, [(place, b"x" * 100) for place in range(10_000)]))
    assert len(frame) == 5 + 10_000 * 108
