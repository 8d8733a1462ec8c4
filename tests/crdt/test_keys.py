"""Keys: sealing binds to key and context, and a folder's keys are all different."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.keys import DeviceKey, FolderKeys, Unsealable, later_epoch, open_sealed, seal, verify_signature


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_what_was_sealed_opens_with_its_key_and_context_alone(plain: bytes, context: bytes) -> None:
    sealed = seal(bytes(32), plain, context)
    assert len(sealed) == len(plain) + 40
    assert open_sealed(bytes(32), sealed, context) == plain
    for key, changed, said in (
        (b"k" * 32, sealed, context),
        (bytes(32), sealed, context + b"!"),
        (bytes(32), sealed[:-1] + bytes([sealed[-1] ^ 1]), context),
        (bytes(32), sealed[:39], context),
    ):
        with pytest.raises(Unsealable):
            open_sealed(key, changed, said)


def test_a_signature_holds_for_its_device_and_its_bytes_alone() -> None:
    key = DeviceKey(b"s" * 32)
    signature = key.sign(b"said")
    assert verify_signature(key.id, b"said", signature)
    assert not verify_signature(key.id, b"not said", signature)
    assert not verify_signature(DeviceKey(b"t" * 32).id, b"said", signature)
    assert not verify_signature(b"short", b"said", signature)
    assert not verify_signature(key.id, b"said", b"")


def test_the_keys_of_a_folder_differ_by_use_and_epoch_but_chunk_ids_outlive_epochs() -> None:
    epoch = later_epoch(0, b"t" * 32)
    first, second = FolderKeys.from_secret(b"s" * 32), FolderKeys({0: b"s" * 32, epoch: b"t" * 32})
    assert len({first.log, first.content, first.discovery, second.log, second.discovery}) == 5
    assert first.content == second.content
    assert second.epoch == epoch > first.epoch
    assert second.log_of(0) == first.log
    assert first.log_of(epoch) is None


def test_epochs_that_begin_at_once_have_different_numbers_and_follow_those_before() -> None:
    one, other = later_epoch(5 << 32 | 7, b"a" * 32), later_epoch(5 << 32 | 7, b"b" * 32)
    assert one != other
    assert min(one, other) > (5 << 32 | 7)
    assert max(one, other) < later_epoch(min(one, other), b"c" * 32) < 1 << 62
