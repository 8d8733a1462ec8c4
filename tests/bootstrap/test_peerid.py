from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from shoal.bootstrap.peerid import device_from_bytes, device_from_text, peer_id_bytes, peer_id_text
from shoal.crdt.model import DeviceId


@given(st.binary(min_size=32, max_size=32))
def test_ids_are_those_of_libp2p(seed: bytes) -> None:
    public = create_new_key_pair(seed).public_key
    device, theirs = DeviceId(public.to_bytes()), ID.from_pubkey(public)
    assert peer_id_bytes(device) == theirs.to_bytes()
    assert peer_id_text(device) == str(theirs)
    assert device_from_text(str(theirs)) == device


@given(st.text(max_size=80))
def test_text_that_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="peer id"):
        device_from_text(text)


@given(st.binary(max_size=60))
def test_bytes_of_another_kind_of_key_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="Ed25519"):
        device_from_bytes(b"\x12\x20" + data)
