"""One folder's metadata on a store: commits, crashes, and stores that are old copies of themselves."""

from __future__ import annotations

import copy
import random

import pytest

from shoal.crdt.antientropy import AntiEntropy, CheckOwnLog, OwnLogDiverged
from shoal.crdt.antientropy_messages import Holds
from shoal.crdt.frontier import missing
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.model import ROOT, DirContent, FolderId, LinkContent, NodeId
from shoal.node.changes import Create, Delete, Edit, Move
from shoal.node.replica import Replica
from shoal.node.store import MemoryStore

FOLDER = FolderId(b"f" * 16)


def replica(number: int, store: MemoryStore) -> Replica:
    key = DeviceKey(bytes([number]) * 32)
    entropy = random.Random(f"{number} {id(store)}").randbytes
    return Replica(store, FOLDER, FolderKeys.from_secret(b"s" * 32), key, lambda device: True, lambda: 1000, entropy)


def exchange(*replicas: Replica) -> None:
    """Have each get from each what it lacks, after each has looked at what the others hold of its own log."""
    for one in replicas:
        for other in replicas:
            if one is other:
                continue
            machine = AntiEntropy(own=one.log_id)
            for command in machine.receive(Holds(dict(other.frontier), ask=True), one.frontier):
                match command:
                    case OwnLogDiverged(log):
                        one.on_own_log_diverged(log)
                    case CheckOwnLog(log, head) if not one.holds(log, head):
                        one.on_own_log_diverged(log)
    for _ in replicas:
        for one in replicas:
            for other in replicas:
                if one is not other:
                    for span in missing(one.frontier, other.frontier):
                        refusal = other.receive_entries(one.read_entries(span))
                        assert refusal is None, refusal


def link(target: str) -> LinkContent:
    return LinkContent(target)


def names(one: Replica, folder: NodeId = ROOT) -> dict[str, str]:
    """Return path -> link target of everything."""
    found = {}
    for view in one.children(folder):
        content = view.version.content
        found[view.name] = content.target if isinstance(content, LinkContent) else "a folder"
        if view.kind == "dir":
            found |= {f"{view.name}/{name}": target for name, target in names(one, view.id).items()}
    return found


def test_a_commit_is_there_after_a_crash_right_behind_it() -> None:
    store = MemoryStore()
    first = replica(1, store)
    first.commit([Create(ROOT, "a", "file", link("1"))])
    store.crash()
    assert names(replica(1, store)) == {"a": "1"}


def test_a_failed_write_leaves_memory_and_store_as_they_were() -> None:
    store = MemoryStore()
    first = replica(1, store)
    first.commit([Create(ROOT, "a", "file", link("1"))])
    frontier = dict(first.frontier)
    write, store.write = store.write, _fails  # type: ignore[method-assign]
    with pytest.raises(OSError, match="gone"):
        first.commit([Create(ROOT, "b", "file", link("2"))])
    store.write = write  # type: ignore[method-assign]
    assert first.frontier == frontier
    assert names(first) == {"a": "1"}
    first.commit([Create(ROOT, "c", "file", link("3"))])
    assert names(first) == names(replica(1, store)) == {"a": "1", "c": "3"}


def _fails(*_: object, **__: object) -> None:
    raise OSError("the disk is gone")


def test_an_old_copy_of_a_store_gets_back_what_it_lost() -> None:
    store, peer = MemoryStore(), replica(2, MemoryStore())
    first = replica(1, store)
    first.commit([Create(ROOT, "old", "file", link("1"))])
    saved = copy.deepcopy(store)
    first.commit([Create(ROOT, "new", "file", link("2"))])
    exchange(first, peer)
    restored = replica(1, saved)
    exchange(restored, peer)
    assert names(restored) == names(peer) == {"old": "1", "new": "2"}
    restored.commit([Create(ROOT, "newest", "file", link("3"))])
    exchange(restored, peer)
    assert names(restored) == names(peer) == {"old": "1", "new": "2", "newest": "3"}


def test_an_old_copy_that_wrote_before_it_met_anyone_loses_nothing_and_splits_nothing() -> None:
    store, peer = MemoryStore(), replica(2, MemoryStore())
    first = replica(1, store)
    made = first.commit([Create(ROOT, "dir", "dir", DirContent(0o755)), Create(0, "a", "file", link("1"))])
    peer_made = peer.commit([Create(ROOT, "theirs", "file", link("t"))])
    exchange(first, peer)
    saved = copy.deepcopy(store)
    first.commit([Create(made[0].node, "b", "file", link("2")), Edit(made[1].node, link("1b"), made[1].version)])
    exchange(first, peer)
    restored = replica(1, saved)
    restored.commit([Create(ROOT, "c", "file", link("3"))])
    restored.commit([Move(made[1].node, ROOT, "moved"), Delete(peer_made[0].node, peer_made[0].version)])
    restored.commit([Create(made[0].node, "d", "file", link("4"))])
    exchange(restored, peer)
    assert names(restored) == names(peer) == {"dir": "a folder", "dir/b": "2", "dir/d": "4", "c": "3", "moved": "1b"}
    assert restored.frontier == peer.frontier
    again = replica(1, saved)
    again.commit([Create(ROOT, "e", "file", link("5"))])
    exchange(again, peer)
    assert names(again) == names(peer)
    assert names(peer)["e"] == "5"


def test_the_same_store_meeting_a_peer_that_is_behind_goes_on_with_its_log() -> None:
    first, peer = replica(1, MemoryStore()), replica(2, MemoryStore())
    first.commit([Create(ROOT, "a", "file", link("1"))])
    exchange(first, peer)
    log = first.log_id
    first.commit([Create(ROOT, "b", "file", link("2"))])
    exchange(first, peer)
    assert first.log_id == log
    assert names(first) == names(peer)


def test_a_copy_that_begins_anew_splits_nothing_even_if_it_meets_a_peer_that_was_behind_first() -> None:
    store, peer, behind = MemoryStore(), replica(2, MemoryStore()), replica(3, MemoryStore())
    first = replica(1, store)
    first.commit([Create(ROOT, "old", "file", link("1"))])
    exchange(first, peer)
    exchange(first, behind)
    saved = copy.deepcopy(store)
    first.commit([Create(ROOT, "lost", "file", link("2"))])
    exchange(first, peer)
    restored = replica(1, saved)
    restored.begin_anew()
    restored.commit([Create(ROOT, "new", "file", link("3"))])
    exchange(restored, behind)
    exchange(restored, peer)
    exchange(behind, peer)
    assert names(restored) == names(peer) == names(behind) == {"old": "1", "lost": "2", "new": "3"}


def test_each_edit_of_a_conflict_copy_replaces_the_one_before() -> None:
    one, other = replica(1, MemoryStore()), replica(2, MemoryStore())
    (made,) = one.commit([Create(ROOT, "f", "file", link("base"))])
    exchange(one, other)
    one.commit([Edit(made.node, link("mine"), made.version)])
    other.commit([Edit(made.node, link("theirs"), made.version)])
    exchange(one, other)
    (copy_view,) = [view for view in one.children(ROOT) if view.copy_of is not None]
    (edited,) = one.commit([Edit(copy_view.id, link("settling"), copy_view.version.id)])
    assert edited.version in {view.version.id for view in one.children(ROOT)}
    one.commit([Edit(copy_view.id, link("settled"), edited.version)])
    assert len(one.children(ROOT)) == 2


def test_a_store_of_an_older_version_goes_on() -> None:
    store, peer = MemoryStore(), replica(2, MemoryStore())
    first = replica(1, store)
    (made,) = first.commit([Create(ROOT, "f", "file", link("1"))])
    saved = copy.deepcopy(store)
    (edited,) = first.commit([Edit(made.node, link("2"), made.version)])
    exchange(first, peer)
    first.commit([Edit(made.node, link("3"), edited.version)])
    for key, _ in list(store.scan("meta", FOLDER)):  # which older ones did not write
        if key[16:].startswith((b"shard", b"replaced")):
            store.write([("meta", key, None)], sync=True)
    for key, _ in list(store.scan("index", FOLDER + b"r")):
        store.write([("index", key, None)], sync=True)
    again = replica(1, store)
    again.commit([Create(ROOT, "g", "file", link("4"))])
    exchange(again, peer)
    assert names(again) == names(peer) == {"f": "3", "g": "4"}
    # Another copy of the home says anew what it knew: that is old news, and no conflict.
    restored = replica(1, saved)
    restored.begin_anew()
    restored.commit([Create(ROOT, "h", "file", link("5"))])
    exchange(restored, peer)
    exchange(again, peer, restored)
    assert names(again) == names(peer) == names(restored) == {"f": "3", "g": "4", "h": "5"}


def test_a_large_commit_of_ones_own_is_seen_at_once_by_who_knew_what_was_before() -> None:
    one = replica(1, MemoryStore())
    made = one.commit([Create(ROOT, str(number), "file", link(str(number))) for number in range(300)])
    assert all(one.view(each.node) is not None for each in made)  # they are in memory now
    one.commit([Delete(each.node, each.version) for each in made])
    assert [one.view(each.node) for each in made] == [None] * 300
