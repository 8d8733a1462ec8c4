"""The DHT's messages: what is written is read again, as protobuf says, and nothing beyond the limits."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht.messages import (
    MAX_ADDRESSES,
    MAX_KEY,
    MAX_KEYS,
    MAX_PEERS,
    MAX_RECORD,
    Message,
    Peer,
    Record,
    Type,
)
from shoal.dht.protobuf import Malformed, read_varint, varint, with_length

peers = st.builds(
    Peer,
    st.binary(min_size=1, max_size=64),
    st.lists(st.binary(max_size=64), max_size=MAX_ADDRESSES).map(tuple),
    st.integers(0, 3),
    st.binary(max_size=300),
)
messages = st.builds(
    Message,
    st.sampled_from(Type),
    st.binary(max_size=MAX_KEY),
    st.none() | st.builds(Record, st.binary(max_size=64), st.binary(max_size=200), st.text("0123TZ:-.", max_size=20)),
    st.lists(peers, max_size=5).map(tuple),
    st.lists(peers, max_size=5).map(tuple),
    st.binary(max_size=300),
    st.lists(st.binary(min_size=1, max_size=MAX_KEY), max_size=20).map(tuple),
)


@given(messages)
def test_what_is_written_is_read_again(message: Message) -> None:
    assert Message.decode(message.encode()) == message


@given(st.binary(max_size=300))
def test_garbage_is_a_message_or_malformed_and_nothing_else(garbage: bytes) -> None:
    with contextlib.suppress(Malformed):
        Message.decode(garbage)


@given(st.integers(0, 2**63 - 1))
def test_numbers_are_read_again(number: int) -> None:
    assert read_varint(varint(number) + b"more", 0) == (number, len(varint(number)))


def test_the_bytes_are_those_of_the_specification() -> None:
    asks = Message(Type.FIND_NODE, b"key")
    assert asks.encode() == b"\x08\x04\x12\x03key"
    tells = Message(Type.ADD_PROVIDER, b"k", providers=(Peer(b"id", (b"a1", b"a2"), 1),))
    assert tells.encode() == b"\x08\x02\x12\x01k\x4a\x0e\x0a\x02id\x12\x02a1\x12\x02a2\x18\x01"
    assert with_length(asks.encode())[0] == 7


def test_a_batch_names_its_keys_and_who_sends_it_in_fields_that_others_skip() -> None:
    batch = Message(Type.ADD_PROVIDER, sender=b"me", keys=(b"k1", b"k2"))
    assert batch.encode() == b"\x08\x02\x5a\x02me\x82\x01\x02k1\x82\x01\x02k2"


def test_fields_that_are_not_known_are_skipped() -> None:
    known = Message(Type.PING).encode()
    assert (
        Message.decode(known + b"\x50\x01" + b"\x7a\x03abc" + b"\x61" + bytes(8) + b"\x65" + bytes(4)).type == Type.PING
    )


def test_of_more_peers_or_addresses_than_anybody_needs_the_first_are_taken() -> None:
    many = Message(Type.FIND_NODE, closer=(Peer(b"p", (b"a",) * (MAX_ADDRESSES + 1)),) * (MAX_PEERS + 1))
    read = Message.decode(many.encode())
    assert len(read.closer) == MAX_PEERS
    assert len(read.closer[0].addresses) == MAX_ADDRESSES


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x09",  # no such type
        b"\x12\x05abc",  # a field that does not end
        b"\x08" + b"\xff" * 10,  # a number that does not end
        b"\x10\x01",  # a key that is a number
        b"\x42\x00",  # a peer without an id
        bytes(70_000),
        Message(Type.PING, bytes(MAX_KEY + 1)).encode(),
        Message(Type.ADD_PROVIDER, keys=(b"k",) * (MAX_KEYS + 1)).encode(),
        Message(Type.ADD_PROVIDER, keys=(b"",)).encode(),
        Message(Type.FIND_NODE, sender=bytes(MAX_RECORD + 1)).encode(),
    ],
)
def test_what_is_over_a_limit_or_broken_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        Message.decode(data)
