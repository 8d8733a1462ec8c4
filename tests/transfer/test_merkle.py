"""Hash trees: one block is proven to be where it is, and nothing else is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.merkle import BLOCK, leaves, proof, root_of, verify

SIZES = st.one_of(st.integers(0, 3), st.integers(1, 9 * BLOCK), st.integers(1, 9).map(lambda count: count * BLOCK))


def piece(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@given(SIZES, st.data())
def test_each_block_is_proven_by_its_proof(size: int, data: st.DataObject) -> None:
    bytes_ = piece(size)
    hashes = leaves(bytes_)
    index = data.draw(st.integers(0, len(hashes) - 1))
    block = bytes_[index * BLOCK : (index + 1) * BLOCK]
    assert verify(root_of(bytes_), size, index, block, proof(hashes, index))


@given(st.integers(BLOCK + 1, 9 * BLOCK), st.data())
def test_another_block_or_another_place_is_refused(size: int, data: st.DataObject) -> None:
    bytes_ = piece(size)
    hashes = leaves(bytes_)
    index = data.draw(st.integers(0, len(hashes) - 1))
    other = data.draw(st.integers(0, len(hashes) - 1).filter(lambda each: each != index))
    block = bytes_[index * BLOCK : (index + 1) * BLOCK]
    top = root_of(bytes_)
    assert not verify(top, size, other, block, proof(hashes, index))
    assert not verify(top, size, index, bytes(len(block)), proof(hashes, index))
    assert not verify(top, size, index, block, proof(hashes, other))


@given(st.integers(BLOCK + 1, 6 * BLOCK), st.data())
def test_a_proof_of_another_length_is_refused(size: int, data: st.DataObject) -> None:
    bytes_ = piece(size)
    hashes = leaves(bytes_)
    index = data.draw(st.integers(0, len(hashes) - 1))
    block = bytes_[index * BLOCK : (index + 1) * BLOCK]
    way = proof(hashes, index)
    assert not verify(root_of(bytes_), size, index, block, (*way, bytes(32)))
    assert not verify(root_of(bytes_), size, index, block, way[:-1])


@pytest.mark.parametrize("index", [-1, 4, 1 << 60])
def test_a_block_beyond_the_piece_is_refused(index: int) -> None:
    bytes_ = piece(4 * BLOCK)
    assert not verify(root_of(bytes_), len(bytes_), index, bytes_[:BLOCK], proof(leaves(bytes_), 0))


def test_the_size_is_part_of_the_root() -> None:
    bytes_ = piece(3 * BLOCK)
    hashes = leaves(bytes_)
    assert not verify(root_of(bytes_), 4 * BLOCK, 0, bytes_[:BLOCK], proof(hashes, 0))


def test_a_node_of_the_tree_does_not_pass_for_a_block() -> None:
    bytes_ = piece(4 * BLOCK)
    hashes = leaves(bytes_)
    assert root_of(b"".join(hashes)) != root_of(bytes_)


def test_pieces_of_different_bytes_have_different_roots() -> None:
    assert len({root_of(bytes(size)) for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK)}) == 6
