"""Signed peer records: nobody can say where somebody else is."""

from __future__ import annotations

import contextlib

import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht.keyspace import PeerId
from shoal.dht.peer_records import MOST_ADDRESSES, PeerRecord, make, read
from shoal.dht.protobuf import Malformed

KEY = nacl.signing.SigningKey(bytes(32))
PEER = PeerId(bytes.fromhex("002408011220") + bytes(KEY.verify_key))
ADDRESS = bytes.fromhex("047f00000106562c")


def record(addresses: tuple[bytes, ...] = (ADDRESS,), seq: int = 7) -> PeerRecord:
    return make(PEER, seq, addresses, lambda data: KEY.sign(data).signature)


def test_what_a_peer_signed_is_read() -> None:
    assert read(record().envelope) == record()


def test_it_is_as_another_implementation_reads_it() -> None:
    envelope = pytest.importorskip("libp2p.peer.envelope", exc_type=ImportError)
    _, theirs = envelope.consume_envelope(record().envelope, "libp2p-peer-record")
    assert theirs.peer_id.to_bytes() == PEER
    assert theirs.seq == 7
    assert [address.to_bytes() for address in theirs.addrs] == [ADDRESS]


@given(st.data())
def test_nothing_of_it_can_be_changed(data: st.DataObject) -> None:
    good = record().envelope
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    with contextlib.suppress(Malformed):
        got = read(changed)
        assert (got.peer, got.seq, got.addresses) == (PEER, 7, (ADDRESS,))


def test_no_peer_signs_for_another() -> None:
    other = nacl.signing.SigningKey(b"o" * 32)
    forged = make(PEER, 9, (ADDRESS,), lambda data: other.sign(data).signature)
    with pytest.raises(Malformed):
        read(forged.envelope)


@given(st.binary(max_size=200))
def test_garbage_is_malformed(garbage: bytes) -> None:
    with pytest.raises(Malformed):
        read(garbage)


def test_only_so_many_addresses_are_said() -> None:
    assert len(record((ADDRESS,) * 40).addresses) == MOST_ADDRESSES
