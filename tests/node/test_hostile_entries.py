"""A member whose program lies: what its log may say is what it wrote itself, and that alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pycrdt import Doc, Map

from shoal.crdt import authoring, facts, plain_update
from shoal.crdt.document import shard_of
from shoal.crdt.frontier import missing
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.model import ROOT, FolderId, LinkContent
from shoal.crdt.plain_update import Section
from shoal.node.changes import Create, Edit, Move
from shoal.node.replica import Replica, _client
from shoal.node.store import MemoryStore

FOLDER = FolderId(b"f" * 16)


def replica(number: int) -> Replica:
    key = DeviceKey(bytes([number]) * 32)
    entropy = random.Random(number).randbytes
    return Replica(
        MemoryStore(), FOLDER, FolderKeys.from_secret(b"s" * 32), key, lambda device: True, lambda: 1000, entropy
    )


@pytest.fixture
def members() -> tuple[Replica, Replica, Replica]:
    """A victim, a reader, and one that lies."""
    return replica(1), replica(2), replica(3)


def send(one: Replica, other: Replica) -> list[str]:
    refusals = [other.receive_entries(one.read_entries(span)) for span in missing(one.frontier, other.frontier)]
    assert all(refusal is None or refusal.misbehaved for refusal in refusals)
    return [refusal.reason for refusal in refusals if refusal is not None]


def append(liar: Replica, updates: dict[int, bytes]) -> None:
    with liar._atomic(own=True):
        liar._append(updates)


def names(one: Replica) -> set[str]:
    return {view.name for view in one.children(ROOT)}


def test_items_in_another_logs_name_are_refused_and_hide_nothing_that_it_says(
    members: tuple[Replica, Replica, Replica],
) -> None:
    victim, reader, liar = members
    client = _client(victim.log_id)
    junk = [(f"{number:02x}" * 28, b"junk") for number in range(3)]
    append(liar, {shard: plain_update.encode(Section(client, 0, junk)) for shard in range(256)})
    assert send(liar, reader) != []
    victim.commit([Create(ROOT, "new", "file", LinkContent("x"))])
    assert send(victim, reader) == []
    assert names(reader) == {"new"}


def test_an_edit_of_a_file_with_more_heads_than_a_fact_can_name_is_read_by_all(
    members: tuple[Replica, Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, reader, liar = members
    for module in (authoring, facts):
        monkeypatch.setattr(module, "MAX_REPLACES", 5)
    (made,) = victim.commit([Create(ROOT, "f", "file", LinkContent("x"))])
    assert send(victim, liar) == []
    liar.commit([Edit(made.node, LinkContent("x"), None) for _ in range(20)])
    for one in (victim, reader):
        assert send(liar, one) == []
    assert send(victim, reader) == []
    victim.commit([Edit(made.node, LinkContent("edited"), made.version)])
    victim.commit([Move(made.node, ROOT, "g")])
    assert send(victim, reader) == []
    assert names(reader) == names(victim)
    assert {view.version.content for view in reader.children(ROOT)} == {LinkContent("x"), LinkContent("edited")}


def test_an_update_that_takes_facts_away_is_refused(members: tuple[Replica, Replica, Replica]) -> None:
    victim, reader, liar = members
    (made,) = victim.commit([Create(ROOT, "f", "file", LinkContent("x"))])
    for one in (reader, liar):
        assert send(victim, one) == []
    shard = shard_of(made.node)
    document: Doc[Any] = Doc(client_id=_client(liar.log_id))
    items: Map[Any] = document.get("facts", type=Map)
    for update in liar._shards.updates(shard):
        document.apply_update(update)
    before = document.get_state()
    with document.transaction():
        for key in list(items.keys()):
            del items[key]
    append(liar, {shard: document.get_update(before)})
    assert send(liar, reader) != []
    assert len(reader.facts_of(made.node)) == 2
