"""Sealed chunks: the same on every device, opened by who has the key alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.sealing import OVERHEAD, BadSeal, open_sealed, seal, seal_into

SECRET, CHUNK = b"s" * 32, b"c" * 32
SEALED = "117c2e4119"


@given(st.binary(max_size=5000))
def test_what_is_sealed_opens(plain: bytes) -> None:
    sealed = seal(SECRET, CHUNK, plain)
    assert len(sealed) == len(plain) + OVERHEAD
    assert open_sealed(SECRET, CHUNK, sealed) == plain


def test_two_devices_seal_a_chunk_alike() -> None:
    assert seal(SECRET, CHUNK, b"plain") == seal(SECRET, CHUNK, b"plain")


def test_the_bytes_are_those_that_were_written_down() -> None:
    assert seal(SECRET, CHUNK, b"plain")[:5].hex() == SEALED


@pytest.mark.parametrize(("secret", "chunk"), [(b"x" * 32, CHUNK), (SECRET, b"x" * 32)])
def test_another_key_or_another_chunk_opens_nothing(secret: bytes, chunk: bytes) -> None:
    with pytest.raises(BadSeal):
        open_sealed(secret, chunk, seal(SECRET, CHUNK, b"plain"))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_changed_bit_is_noticed(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(SECRET, CHUNK, plain))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(BadSeal):
        open_sealed(SECRET, CHUNK, bytes(sealed))


@pytest.mark.parametrize("size", [0, 1, OVERHEAD - 1])
def test_what_is_too_short_is_no_sealed_chunk(size: int) -> None:
    with pytest.raises(BadSeal):
        open_sealed(SECRET, CHUNK, bytes(size))


def test_a_sealed_chunk_does_not_show_what_is_in_it() -> None:
    assert b"canary" not in seal(SECRET, CHUNK, b"canary " * 100)


def test_room_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="room"):
        seal_into(SECRET, CHUNK, b"plain", memoryview(bytearray(5)))


@pytest.mark.parametrize(("secret", "chunk"), [(SECRET[1:], CHUNK + b"c"), (SECRET, b""), (b"", CHUNK)])
def test_a_key_or_an_id_of_another_length_is_refused(secret: bytes, chunk: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal(secret, chunk, b"plain")
