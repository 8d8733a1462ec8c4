"""What is taken of the log of somebody who may write no more: what was known when that was said, and nothing beyond."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt.frontier import missing
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import ROOT, FolderId, LinkContent
from shoal.node.changes import Create, Delete, Edit, Move
from shoal.node.errors import UserError
from shoal.node.replica import Replica
from shoal.node.store import MemoryStore

FOLDER = FolderId(b"f" * 16)


def replica(number: int, store: MemoryStore | None = None) -> Replica:
    key = DeviceKey(bytes([number]) * 32)
    entropy = random.Random(number).randbytes
    store = store or MemoryStore()
    return Replica(store, FOLDER, FolderKeys.from_secret(b"s" * 32), key, lambda device: True, lambda: 1000, entropy)


def write(one: Replica, name: str) -> None:
    one.commit([Create(ROOT, name, "file", LinkContent(name))])


def names(one: Replica) -> set[str]:
    return {view.name for view in one.children(ROOT)}


def send(one: Replica, other: Replica) -> None:
    held = one.within_limits(other.frontier)
    for span in missing(one.frontier, held):
        other.receive_entries(one.read_entries(span))


def cut(heads: Mapping[LogId, LogHead], of: Replica, *others: Replica) -> None:
    """Have the others take of a device's logs no more than this."""

    def limit(log: LogId) -> LogHead | None:
        return heads.get(log, LogHead()) if log.device == of.device else None

    for other in others:
        other.limit = limit


@pytest.fixture
def members() -> tuple[Replica, Replica, Replica]:
    """One that may write no more soon, a writer, and a reader."""
    gone, writer, reader = replica(1), replica(2), replica(3)
    write(gone, "first")
    for other in (writer, reader):
        send(gone, other)
    reader.read_only = True
    return gone, writer, reader


def test_nothing_beyond_is_taken(members: tuple[Replica, Replica, Replica]) -> None:
    gone, writer, _ = members
    cut(dict(writer.frontier), gone, writer)
    write(gone, "late")
    send(gone, writer)
    assert names(writer) == {"first"}
    assert writer.frontier[gone.log_id].length == 1


def test_what_was_known_is_taken_by_who_comes_later(members: tuple[Replica, Replica, Replica]) -> None:
    gone, writer, _ = members
    late = replica(4)
    cut(dict(writer.frontier), gone, writer, late)
    send(writer, late)
    assert names(late) == {"first"}


def test_another_history_of_what_was_known_is_refused(members: tuple[Replica, Replica, Replica]) -> None:
    gone, _writer, _ = members
    late = replica(4)
    cut({gone.log_id: LogHead(1, b"another" * 4 + b"hash")}, gone, late)
    send(gone, late)
    assert names(late) == set()


def test_a_writer_says_again_what_it_had_got_in_good_faith(members: tuple[Replica, Replica, Replica]) -> None:
    gone, writer, reader = members
    known = dict(reader.frontier)
    write(gone, "on its way")
    send(gone, writer)
    cut(known, gone, writer, reader)
    assert writer.keep_to_limits()
    assert not writer.keep_to_limits()
    assert names(writer) == {"first", "on its way"}
    send(writer, reader)
    assert names(reader) == {"first", "on its way"}


def test_a_reader_forgets_what_nobody_says_again(members: tuple[Replica, Replica, Replica]) -> None:
    gone, writer, reader = members
    known = dict(writer.frontier)
    write(gone, "on its way")
    send(gone, reader)
    cut(known, gone, writer, reader)
    assert reader.keep_to_limits()
    assert names(reader) == names(writer) == {"first"}
    write(writer, "new")
    send(writer, reader)
    assert names(reader) == {"first", "new"}


def test_what_is_said_again_and_what_is_forgotten_is_there_after_a_restart() -> None:
    stores = MemoryStore(), MemoryStore()
    gone, writer, reader = replica(1), replica(2, stores[0]), replica(3, stores[1])
    reader.read_only = True
    for name in ("first", "second"):
        write(gone, name)
    for other in (writer, reader):
        send(gone, other)
        cut({}, gone, other)
        other.keep_to_limits()
    assert names(replica(2, stores[0])) == {"first", "second"}
    assert names(replica(3, stores[1])) == set()


def test_who_may_write_no_more_begins_a_log_anew_when_it_may_again(members: tuple[Replica, Replica, Replica]) -> None:
    gone, writer, _ = members
    before = dict(writer.frontier)
    write(gone, "unseen")
    cut(before, gone, gone, writer)
    gone.read_only = True
    gone.keep_to_limits()
    assert names(gone) == {"first"}
    with pytest.raises(UserError):
        write(gone, "refused")
    gone.read_only = False
    for each in (gone, writer):
        each.limit = lambda log: None
    write(gone, "again")
    send(gone, writer)
    assert names(writer) == names(gone) == {"first", "again"}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_all_come_to_the_same_whoever_had_got_how_much(seed: int) -> None:
    rng = random.Random(seed)
    gone, remover, writer, reader = (replica(number) for number in range(1, 5))
    for step in range(rng.randrange(3, 20)):
        one = rng.choice((gone, remover, writer))
        views = one.children(ROOT)
        what = rng.randrange(4) if views else 0
        view = rng.choice(views) if views else None
        if view is None or what == 0:
            write(one, f"n{step}")
        elif view.copy_of is None and what == 1:
            one.commit([Edit(view.id, LinkContent(f"e{step}"), view.version.id)])
        elif view.copy_of is None and what == 2:
            one.commit([Move(view.id, ROOT, f"m{step}")])
        elif view.copy_of is None:
            one.commit([Delete(view.id, view.version.id)])
        for other in (gone, remover, writer, reader):
            if other is not one and rng.random() < 0.4:
                send(one, other)
    known = {log: head for log, head in remover.frontier.items() if log.device == gone.device}
    reader.read_only = True
    cut(known, gone, remover, writer, reader)
    for each in (remover, writer, reader):
        each.keep_to_limits()
    if rng.random() < 0.5:
        write(gone, "too late")
        send(gone, rng.choice((remover, writer, reader)))
    for _ in range(3):
        for one in (remover, writer):
            for other in (remover, writer, reader):
                if other is not one:
                    send(one, other)
    assert names(remover) == names(writer) == names(reader)
    assert "too late" not in names(remover)
