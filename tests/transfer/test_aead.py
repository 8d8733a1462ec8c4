"""Boxes: what libsodium's own interface makes of them, and what does not open."""

from __future__ import annotations

import nacl.bindings as sodium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.aead import BadBox, BoxKey, Cipher, choose, own_ciphers

KEY = bytes(range(32))
BINDINGS = {
    Cipher.AEGIS_256: (sodium.crypto_aead_aegis256_encrypt, 32),
    Cipher.CHACHA20_POLY1305: (sodium.crypto_aead_chacha20poly1305_ietf_encrypt, 12),
}
ciphers = st.sampled_from(Cipher)
numbers = st.integers(0, 2**64 - 1)


def sealed(cipher: Cipher, data: bytes, number: int, key: bytes = KEY) -> bytearray:
    box = bytearray(data + bytes(cipher.tag_size))
    BoxKey(cipher, key).seal(memoryview(box), number)
    return box


@given(ciphers, st.binary(max_size=3000), numbers)
def test_a_box_is_what_libsodium_says_with_the_number_as_nonce_and_opens_again(
    cipher: Cipher, data: bytes, number: int
) -> None:
    encrypt, nonce_size = BINDINGS[cipher]
    box = sealed(cipher, data, number)
    assert bytes(box) == encrypt(data, None, number.to_bytes(nonce_size), KEY)
    assert bytes(BoxKey(cipher, KEY).open(memoryview(box), number)) == data


@given(ciphers, st.binary(max_size=300), numbers, st.data())
def test_a_box_with_any_bit_changed_does_not_open(
    cipher: Cipher, data: bytes, number: int, chance: st.DataObject
) -> None:
    box = sealed(cipher, data, number)
    bit = chance.draw(st.integers(0, 8 * len(box) - 1))
    box[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadBox):
        BoxKey(cipher, KEY).open(memoryview(box), number)


@given(ciphers, numbers, numbers)
def test_a_box_does_not_open_under_another_number_or_key(cipher: Cipher, number: int, other: int) -> None:
    if number != other:
        with pytest.raises(BadBox):
            BoxKey(cipher, KEY).open(memoryview(sealed(cipher, b"data", number)), other)
    with pytest.raises(BadBox):
        BoxKey(cipher, KEY[::-1]).open(memoryview(sealed(cipher, b"data", number)), number)


@pytest.mark.parametrize("cipher", Cipher)
def test_a_box_shorter_than_its_tag_does_not_open(cipher: Cipher) -> None:
    with pytest.raises(BadBox):
        BoxKey(cipher, KEY).open(memoryview(bytearray(cipher.tag_size - 1)), 0)


@pytest.mark.parametrize("cipher", Cipher)
def test_a_wiped_key_is_zeros_and_neither_seals_nor_opens(cipher: Cipher) -> None:
    key = BoxKey(cipher, KEY)
    key.wipe()
    assert key._key == bytes(32)
    with pytest.raises(ValueError, match="no key"):
        key.seal(memoryview(bytearray(100)), 0)
    with pytest.raises(ValueError, match="no key"):
        key.open(memoryview(bytearray(100)), 0)


AEGIS, CHACHA = Cipher.AEGIS_256, Cipher.CHACHA20_POLY1305


@pytest.mark.parametrize(
    ("theirs", "ours", "chosen"),
    [
        ((1, 2), (AEGIS, CHACHA), AEGIS),
        ((2, 1), (AEGIS, CHACHA), CHACHA),
        ((1, 2), (CHACHA, AEGIS), CHACHA),
        ((2, 1), (CHACHA, AEGIS), CHACHA),
        ((1,), (AEGIS, CHACHA), AEGIS),
        ((1,), (CHACHA, AEGIS), AEGIS),
        ((77, 2), (AEGIS, CHACHA), CHACHA),
        ((77,), (AEGIS, CHACHA), None),
        ((), (AEGIS, CHACHA), None),
    ],
)
def test_aegis_is_taken_where_both_have_instructions_for_it(
    theirs: tuple[int, ...], ours: tuple[Cipher, ...], chosen: Cipher | None
) -> None:
    assert choose(theirs, ours) == chosen


def test_both_ciphers_are_offered() -> None:
    assert set(own_ciphers()) == set(Cipher)
