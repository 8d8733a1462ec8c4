"""Packs: sealed chunks one after the other, with a name that anyone can check."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer import merkle
from shoal.transfer.packs import PACK_SIZE, build, cid, multihash
from shoal.transfer.sealing import open_sealed

SECRET = b"s" * 32
CHUNKS = st.lists(st.binary(max_size=300), min_size=1, max_size=20)


def named(plain: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(blake3(data).digest(), data) for data in plain]


@given(CHUNKS)
def test_each_chunk_is_where_the_pack_says(plain: list[bytes]) -> None:
    pack, data = build(SECRET, named(plain))
    opened = [open_sealed(SECRET, each.id, bytes(data[each.offset : each.offset + each.size])) for each in pack.chunks]
    assert opened == plain
    assert sum(each.size for each in pack.chunks) == pack.size == len(data)


@given(CHUNKS)
def test_two_devices_make_the_same_pack_of_the_same_chunks(plain: list[bytes]) -> None:
    assert build(SECRET, named(plain)) == build(SECRET, named(plain))


def test_the_name_is_the_hash_of_what_is_in_it() -> None:
    pack, data = build(SECRET, named([b"one", b"two"]))
    assert pack.id == blake3(data).digest()
    assert pack.root == merkle.root_of(data)


def test_the_name_is_a_cid_of_version_1() -> None:
    assert multihash(bytes(32)) == b"\x1e\x20" + bytes(32)
    assert cid(bytes(32)).startswith("bafkr4i")


@pytest.mark.parametrize("sizes", [[], [PACK_SIZE], [PACK_SIZE // 2, PACK_SIZE // 2]])
def test_no_chunks_and_too_many_make_no_pack(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="make no pack"):
        build(SECRET, named([bytes(size) for size in sizes]))
