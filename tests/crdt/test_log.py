"""The log: only its device writes it, in one history, and every refusal says whose fault it is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt import codec, log
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import FolderId

KEY, OTHER = DeviceKey(b"1" * 32), DeviceKey(b"2" * 32)
KEYS = FolderKeys.from_secret(b"s" * 32)
FOLDER = FolderId(b"f" * 16)
LOG = LogId(KEY.id, b"i" * 16)


def anyone(_: bytes) -> bool:
    return True


def written(*bodies: dict[int, bytes]) -> tuple[list[bytes], LogHead]:
    entries, head = [], LogHead()
    for body in bodies:
        for encoded, after in log.write_entries(KEY, KEYS, FOLDER, LOG, head, body):
            entries.append(encoded)
            head = after
    return entries, head


@given(st.lists(st.dictionaries(st.integers(0, 255), st.binary(max_size=40), min_size=1, max_size=4), max_size=5))
def test_a_reader_gets_what_was_written(bodies: list[dict[int, bytes]]) -> None:
    entries, end = written(*bodies)
    head = LogHead()
    for encoded, body in zip(entries, bodies, strict=True):
        entry = log.verify(encoded, FOLDER, head, anyone)
        assert log.open_body(entry, KEYS) == body
        head = LogHead(entry.seq + 1, entry.hash)
    assert head == end


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(at: int, flip: int) -> None:
    (encoded,), _ = written({3: b"update"})
    changed = bytearray(encoded)
    changed[at % len(encoded)] ^= flip
    with pytest.raises((log.Malformed, log.Forged)):
        log.decode_entry(bytes(changed))


@given(st.binary(max_size=300))
def test_garbage_is_malformed(garbage: bytes) -> None:
    with pytest.raises(log.Malformed):
        log.decode_entry(garbage)


def test_an_entry_cannot_be_encoded_another_way_under_the_same_signature() -> None:
    # Else whoever forwards it could change the hash that the next entry names, and the log would end there for others.
    (encoded,), _ = written({3: b"update"})
    for other in (encoded + b"\x00", b"\x9f" + encoded[1:] + b"\xff", b"\x98\x08" + encoded[1:]):
        with pytest.raises(log.Malformed):
            log.decode_entry(other)


def test_each_refusal_says_why_and_whether_the_sender_is_to_blame() -> None:
    (first, second), _ = written({1: b"a"}, {2: b"b"})
    (fork,), _ = written({1: b"another first"})
    one = log.decode_entry(first)
    after = LogHead(1, one.hash)
    with pytest.raises(log.OutOfPlace) as refused:
        log.verify(second, FOLDER, LogHead(), anyone)
    assert not refused.value.blames_sender
    with pytest.raises(log.OutOfPlace):
        log.verify(first, FOLDER, after, anyone)
    with pytest.raises(log.Forked) as forked:
        log.verify(second, FOLDER, LogHead(1, log.entry_hash(fork)), anyone)
    assert not forked.value.blames_sender
    with pytest.raises(log.NotAMember) as stranger:
        log.verify(first, FOLDER, LogHead(), lambda device: device != KEY.id)
    assert not stranger.value.blames_sender
    with pytest.raises(log.Malformed) as malformed:
        log.verify(first, FolderId(b"g" * 16), LogHead(), anyone)
    assert malformed.value.blames_sender
    with pytest.raises(log.Unreadable) as unreadable:
        log.open_body(one, FolderKeys.from_secret(b"t" * 32))
    assert not unreadable.value.blames_sender
    with pytest.raises(log.OtherEpoch):
        log.open_body(one, FolderKeys.from_secret(b"s" * 32, epoch=1))


def test_nobody_writes_in_the_name_of_another_device() -> None:
    encoded, _ = log.write_entry(OTHER, KEYS, FOLDER, LOG, LogHead(), {1: b"a"})
    with pytest.raises(log.Forged):
        log.decode_entry(encoded)


@pytest.mark.parametrize("body", [[1, 2], {256: b""}, {1: "text"}, {-1: b""}, 5, [1, 2, 2, b""], [1, 0, 1, b""]])
def test_a_member_that_seals_nonsense_is_malformed(body: object) -> None:
    encoded, _ = log._write(KEY, KEYS, FOLDER, LOG, LogHead(), body)
    with pytest.raises(log.Malformed):
        log.open_body(log.decode_entry(encoded), KEYS)


def test_an_update_too_large_for_an_entry_is_cut_and_counts_when_its_last_part_is_there() -> None:
    large = random.Random(1).randbytes(3 * log.MAX_BODY + 5)
    bodies: list[dict[int, bytes]] = [{1: b"before"}, {7: large, 8: b"small"}, {1: b"after"}]
    entries, _ = written(*bodies)
    assert all(len(encoded) < log.MAX_ENTRY for encoded in entries)
    opened = [log.open_body(log.decode_entry(encoded), KEYS, entries.__getitem__) for encoded in entries]
    assert opened == [{1: b"before"}, {}, {}, {}, {7: large}, {8: b"small"}, {1: b"after"}]
    unfinished = [log.is_unfinished(log.decode_entry(encoded), KEYS) for encoded in entries]
    assert unfinished == [False, True, True, True, False, False, False]
    with pytest.raises(log.Malformed):
        log.open_body(log.decode_entry(entries[4]), KEYS)
    with pytest.raises(log.Malformed):
        log.open_body(log.decode_entry(entries[4]), KEYS, lambda seq: entries[seq - 1])


def test_an_update_beyond_all_limits_is_refused_before_anything_is_written() -> None:
    with pytest.raises(log.TooLarge):
        log.write_entry(KEY, KEYS, FOLDER, LOG, LogHead(), {1: bytes(log.MAX_ENTRY)})
    with pytest.raises(log.TooLarge):
        log.write_entries(KEY, KEYS, FOLDER, LOG, LogHead(), {1: bytes(log.MAX_PARTS * log.MAX_BODY + 1)})


@given(st.dictionaries(st.integers(0, 255), st.binary(max_size=50)), st.integers(20, 100))
def test_groups_of_updates_keep_to_the_limit_and_lose_nothing(updates: dict[int, bytes], limit: int) -> None:
    groups = log.split_updates(updates, limit)
    assert {shard: update for group in groups for shard, update in group.items()} == updates
    assert all(len(group) == 1 or sum(len(u) + 8 for u in group.values()) <= limit for group in groups)


def test_entries_are_canonical() -> None:
    (encoded,), _ = written({200: b"b", 3: b"a"})
    assert codec.encode(codec.decode(encoded, len(encoded))) == encoded
