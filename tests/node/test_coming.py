"""What is said of a file that is still being read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt import codec
from shoal.crdt.model import NodeId
from shoal.node.folder.coming import FURTHEST, MOST, PIECE, Coming, decode, upload_of
from shoal.node.folder.signature import Signature
from shoal.transfer.chunking import MAX_CHUNK

pieces = st.tuples(st.integers(0, FURTHEST), st.binary(min_size=32, max_size=32), st.integers(1, MAX_CHUNK))


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.lists(pieces, max_size=20))
def test_what_is_said_is_what_is_heard(upload: bytes, near: bytes, found: list[tuple[int, bytes, int]]) -> None:
    coming = Coming(upload, NodeId(near), tuple(found))
    assert decode(*coming.encode()) == coming


@pytest.mark.parametrize(
    ("upload", "near", "packed"),
    [
        (b"short", bytes(16), b""),
        (bytes(16), b"short", b""),
        (bytes(16), bytes(16), bytes(PIECE - 1)),
        (bytes(16), bytes(16), bytes(PIECE)),  # a chunk without bytes
        (bytes(16), bytes(16), bytes(40) + (MAX_CHUNK + 1).to_bytes(4)),
        (bytes(16), bytes(16), b"\xff" * 8 + bytes(32) + (1).to_bytes(4)),
        (bytes(16), bytes(16), (bytes(40) + (1).to_bytes(4)) * (MOST + 1)),
    ],
)
def test_what_no_device_says_is_refused(upload: bytes, near: bytes, packed: bytes) -> None:
    with pytest.raises(codec.Malformed):
        decode(upload, near, packed)


def test_a_file_that_changed_is_another_upload() -> None:
    before = Signature(1, 2, 0o100644, 100, 5, 5)
    names = {upload_of(bytes(32), "a", before), upload_of(bytes(32), "a", before._replace(size=101))}
    names |= {upload_of(bytes(32), "b", before), upload_of(b"k" * 32, "a", before)}
    assert len(names) == 4
