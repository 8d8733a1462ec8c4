"""One suite that every store passes, and what only the one on disk must do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shoal.node.scrub import Scrub
from shoal.node.store import MemoryStore, Staging, Store, StoreDamaged
from shoal.node.store.rocks import RocksStore, open_store


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else RocksStore(tmp_path / "store")
    yield made
    made.close()


def test_a_batch_is_read_back_whole(store: Store) -> None:
    store.write([("index", b"a", b"1"), ("log", b"a", b"2"), ("index", b"b", None)], sync=True)
    assert store.get("index", b"a") == b"1"
    assert store.get("log", b"a") == b"2"
    assert store.get("index", b"b") is None


def test_a_scan_yields_only_its_prefix_in_order(store: Store) -> None:
    store.write([("doc", k, k) for k in (b"b2", b"a1", b"b1", b"c")], sync=False)
    assert list(store.scan("doc", b"b")) == [(b"b1", b"b1"), (b"b2", b"b2")]


def test_staged_changes_are_seen_before_the_commit_and_not_by_others(store: Store) -> None:
    store.write([("doc", b"a", b"old"), ("doc", b"b", b"old")], sync=True)
    staging = Staging(store)
    staging.put("doc", b"aa", b"new")
    staging.put("doc", b"a", b"new")
    staging.delete("doc", b"b")
    assert list(staging.scan("doc", b"")) == [(b"a", b"new"), (b"aa", b"new")]
    assert staging.get("doc", b"b") is None
    assert store.get("doc", b"b") == b"old"
    staging.commit()
    assert list(store.scan("doc", b"")) == [(b"a", b"new"), (b"aa", b"new")]


def test_discarded_changes_are_never_written(store: Store) -> None:
    staging = Staging(store)
    staging.put("meta", b"k", b"v")
    staging.discard()
    staging.commit()
    assert store.get("meta", b"k") is None


def test_a_crash_takes_back_what_was_not_synced() -> None:
    store = MemoryStore()
    store.write([("meta", b"k", b"1")], sync=True)
    store.write([("meta", b"k", b"2"), ("meta", b"l", b"2")], sync=False)
    store.crash()
    assert store.get("meta", b"k") == b"1"
    assert store.get("meta", b"l") is None


def test_a_store_on_disk_keeps_its_data_when_opened_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.write([("log", b"k", b"v")], sync=True)
    store.close()
    again = open_store(tmp_path / "store")
    assert again.get("log", b"k") == b"v"
    again.close()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def _truncate_manifest(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("pattern", "harm"), [("*.sst", _flip), ("MANIFEST-*", _truncate_manifest), ("CURRENT", _truncate_manifest)]
)
def test_a_damaged_store_says_so(tmp_path: Path, pattern: str, harm: Callable[[Path], None]) -> None:
    store = RocksStore(tmp_path / "store")
    for at in range(40):
        store.write([("log", b"%06d" % (at * 1000 + i), bytes([i % 256]) * 300) for i in range(1000)], sync=True)
    store.close()
    for path in (tmp_path / "store").glob(pattern):
        harm(path)
    with pytest.raises(StoreDamaged):
        list(RocksStore(tmp_path / "store").scan("log", b""))


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.write([("meta", b"schema", b"99")], sync=True)
    store.close()
    with pytest.raises(StoreDamaged, match="newer version"):
        open_store(tmp_path / "store")


def test_a_store_of_an_older_version_is_one_of_this_version_from_then_on(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    newest = store.get("meta", b"schema")
    store.write([("meta", b"schema", b"1")], sync=True)
    store.close()
    store = open_store(tmp_path / "store")
    assert store.get("meta", b"schema") == newest
    store.close()


def test_a_check_reads_every_row_a_few_at_a_time(store: Store) -> None:
    store.write([("doc", b"k%02d" % number, b"v") for number in range(10)], sync=True)
    after: bytes | None = b""
    seen = []
    while after is not None:
        seen.append(after)
        after = store.check("doc", after, 4)
    assert seen == [b"", b"k04", b"k08"]


def test_a_check_finds_damage_that_opening_does_not(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = open_store(path)
    store.write([("doc", b"k%05d" % number, bytes(100)) for number in range(5000)], sync=True)
    store.close()
    largest = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 3] ^= 0xFF
    largest.write_bytes(data)
    store = open_store(path)
    with pytest.raises(StoreDamaged):
        Scrub(store).begin(60)
    store.close()


def test_a_scan_can_begin_inside_its_prefix(store: Store) -> None:
    store.write([("doc", k, k) for k in (b"a9", b"b1", b"b3", b"b5", b"c")], sync=False)
    assert [key for key, _ in store.scan("doc", b"b", b"2")] == [b"b3", b"b5"]
    staging = Staging(store)
    staging.put("doc", b"b4", b"new")
    staging.put("doc", b"b0", b"new")
    staging.delete("doc", b"b5")
    assert [key for key, _ in staging.scan("doc", b"b", b"2")] == [b"b3", b"b4"]
    staging.put("doc", b"b2", b"new")
    assert [key for key, _ in staging.scan("doc", b"b", b"2")] == [b"b2", b"b3", b"b4"]
