"""Checkpoints: what was put in comes out, nothing else does, and no entry goes that someone needs."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt import log
from shoal.crdt.checkpoint import (
    MAX_PART,
    BadCheckpoint,
    Reader,
    adopted,
    build,
    decode_manifest,
    floors,
    is_worth_making,
    open_parts,
    settled,
)
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId

KEY, OTHER = DeviceKey(b"1" * 32), DeviceKey(b"2" * 32)
KEYS = FolderKeys.from_secret(b"s" * 32)
FOLDER = FolderId(b"f" * 16)
LOG, LOG2 = LogId(KEY.id, b"i" * 16), LogId(OTHER.id, b"j" * 16)
FRONTIER = {LOG: LogHead(7, b"h" * 32)}


def anyone(_: bytes) -> bool:
    return True


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 1000, MAX_PART - 45, MAX_PART])), max_size=5))
def test_what_was_put_in_comes_out(shapes: list[tuple[int, int]]) -> None:
    snapshots = [(shard, random.Random(size).randbytes(size)) for shard, size in shapes]
    encoded, parts = build(FOLDER, FRONTIER, snapshots, KEYS, KEY, b"c" * 16)
    manifest = decode_manifest(encoded, FOLDER, anyone)
    assert all(len(part) <= MAX_PART for part in parts)
    assert open_parts(manifest, parts, KEYS) == snapshots
    assert manifest.frontier == FRONTIER


def test_changed_missing_and_swapped_parts_are_refused() -> None:
    snapshots = [(n, random.Random(n).randbytes(MAX_PART)) for n in range(2)]
    encoded, parts = build(FOLDER, FRONTIER, snapshots, KEYS, KEY, b"c" * 16)
    manifest = decode_manifest(encoded, FOLDER, anyone)
    for wrong in (parts[:-1], parts[::-1], [*parts, parts[0]], [parts[0][:-1] + b"!", *parts[1:]], []):
        with pytest.raises(BadCheckpoint):
            open_parts(manifest, wrong, KEYS)
    with pytest.raises(BadCheckpoint):
        open_parts(manifest, parts, FolderKeys.from_secret(b"t" * 32))
    with pytest.raises(BadCheckpoint):
        Reader(manifest, FolderKeys.from_secret(b"s" * 32, epoch=1))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_of_a_manifest_goes_unnoticed(at: int, flip: int) -> None:
    encoded, _ = build(FOLDER, FRONTIER, [(1, b"x")], KEYS, KEY, b"c" * 16)
    changed = bytearray(encoded)
    changed[at % len(encoded)] ^= flip
    with pytest.raises(BadCheckpoint):
        decode_manifest(bytes(changed), FOLDER, anyone)


def test_a_manifest_of_a_stranger_or_of_another_folder_is_refused() -> None:
    encoded, _ = build(FOLDER, FRONTIER, [], KEYS, KEY, b"c" * 16)
    with pytest.raises(BadCheckpoint):
        decode_manifest(encoded, FOLDER, lambda device: device != KEY.id)
    with pytest.raises(BadCheckpoint):
        decode_manifest(encoded, FolderId(b"g" * 16), anyone)


def test_a_log_that_ends_inside_a_cut_update_counts_to_before_it() -> None:
    head, entries, hashes = LogHead(), [], [log.NO_HASH]
    for update in (b"small", bytes(2 * log.MAX_BODY + 1)):
        for encoded, after in log.write_entries(KEY, KEYS, FOLDER, LOG, head, {1: update}):
            head = after
            entries.append(encoded)
            hashes.append(head.hash)
    covered = [
        settled({LOG: LogHead(n, hashes[n])}, KEYS, lambda _, seq: entries[seq])[LOG] for n in range(len(hashes))
    ]
    assert [h.length for h in covered] == [0, 1, 1, 1, 4]
    assert all(h.hash == hashes[h.length] for h in covered)


def test_a_checkpoint_is_adopted_only_where_it_knows_more() -> None:
    checkpoint = {LOG: LogHead(7, b"h" * 32), LOG2: LogHead(2, b"k" * 32)}
    assert adopted({LOG2: LogHead(3)}, checkpoint) == {LOG: LogHead(7, b"h" * 32, 7)}


def test_a_checkpoint_is_worth_it_when_the_logs_outgrew_the_last() -> None:
    assert is_worth_making(10_000, 0, 0)
    assert is_worth_making(1, 9 << 20, 1 << 20)
    assert not is_worth_making(1, 9 << 20, 10 << 20)


NAMES = st.sampled_from([LOG, LOG2])
LENGTHS = st.dictionaries(NAMES, st.integers(0, 30).map(lambda n: LogHead(n, bytes(32))))


@given(
    LENGTHS, LENGTHS, st.dictionaries(st.sampled_from([DeviceId(b"a"), DeviceId(b"b")]), LENGTHS), st.integers(0, 40)
)
def test_an_entry_goes_only_when_a_checkpoint_has_it_and_no_device_waits_for_it(
    mine: dict[LogId, LogHead],
    checkpoint: dict[LogId, LogHead],
    acknowledged: dict[DeviceId, dict[LogId, LogHead]],
    kept: int,
) -> None:
    for name, floor in floors(mine, checkpoint, acknowledged, kept).items():
        assert floor <= checkpoint[name].length
        assert floor <= mine[name].length
        for theirs in acknowledged.values():
            assert floor <= max(theirs.get(name, LogHead()).length, mine[name].length - kept)


def test_entries_that_every_device_has_and_a_checkpoint_covers_go() -> None:
    mine, theirs = {LOG: LogHead(9)}, {DeviceId(b"a"): {LOG: LogHead(6)}}
    assert floors(mine, {LOG: LogHead(8)}, theirs) == {LOG: 6}
    assert floors(mine, {LOG: LogHead(8)}, {}) == {LOG: 8}
    assert floors(mine, {}, theirs) == {}
