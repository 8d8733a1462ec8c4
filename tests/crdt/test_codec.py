"""One value, one encoding."""

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt import codec

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.binary(), st.text())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 999) | st.binary(), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_what_was_encoded_is_read_again(value: Any) -> None:
    encoded = codec.encode(value)
    assert codec.decode(encoded, len(encoded), max_depth=64) == value


@given(st.binary(max_size=60))
def test_bytes_are_refused_or_are_the_one_encoding_of_what_they_say(data: bytes) -> None:
    try:
        value = codec.decode(data, 60)
    except codec.Malformed:
        return
    assert codec.encode(value) == data
    assert cbor2.loads(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",  # something follows
        b"\x18\x17",  # 23 in two bytes
        b"\x19\x00\xff",
        b"\x9f\x00\xff",  # indefinite
        b"\x5f\x41a\xff",
        b"\xc0\x00",  # a tag
        b"\xf9\x00\x00",  # a float
        b"\xf7",  # undefined
        b"\x82\x00",  # too short
        b"\x9b\x00\x00\x00\x7f\xff\xff\xff\xff",  # an enormous array
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\xa2\x01\x00\x00\x00",  # keys out of order
        b"\xa2\x01\x00\x01\x00",  # a key twice
        b"\xa1\x80\x00",  # a key that is an array
        b"\x62\xff\xff",  # not UTF-8
    ],
)
def test_other_forms_are_refused(data: bytes) -> None:
    with pytest.raises(codec.Malformed):
        codec.decode(data, 100)


def test_depth_and_size_are_bounded() -> None:
    with pytest.raises(codec.Malformed):
        codec.decode(b"\x81" * 100_000 + b"\x00", 1 << 20)
    with pytest.raises(codec.Malformed):
        codec.decode(codec.encode(b"12345"), 5)


def test_field_readers_tell_types_apart() -> None:
    assert codec.as_int(5, most=5) == 5
    assert codec.as_bool(True)
    for reader, value in (
        (codec.as_int, True),
        (codec.as_int, -1),
        (codec.as_bytes, "x"),
        (codec.as_bool, 1),
        (codec.as_list, {}),
    ):
        with pytest.raises(codec.Malformed):
            reader(value)
    with pytest.raises(codec.Malformed):
        codec.as_bytes(b"x", 2)
    with pytest.raises(codec.Malformed):
        codec.as_text("xyz", 2)
    with pytest.raises(codec.Malformed):
        codec.as_list([1, 2], length=3)
