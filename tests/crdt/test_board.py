"""The board: each device says its own, everybody comes to have all of it, and nobody speaks for another."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt import board as boards
from shoal.crdt import codec
from shoal.crdt.board import Board, Message, Record
from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId, FolderId

FOLDER = FolderId(b"f" * 16)


@dataclass
class MemoryRows:
    """The rows in a dictionary."""

    rows: dict[tuple[DeviceId, bytes], bytes] = field(default_factory=dict)
    records: dict[DeviceId, Record] = field(default_factory=dict)

    def value(self, device: DeviceId, key: bytes) -> bytes | None:
        return self.rows.get((device, key))

    def apply(self, record: Record, changes: Mapping[bytes, bytes | None]) -> None:
        self.records[record.device] = record
        for key, value in changes.items():
            if value is None:
                self.rows.pop((record.device, key), None)
            else:
                self.rows[(record.device, key)] = value


class Peer:
    """A device with a board."""

    def __init__(self, number: int, members: set[DeviceId] | None = None) -> None:
        self.key = DeviceKey(bytes([number]) * 32)
        self.rows = MemoryRows()
        self.members = members
        self.board = Board(FOLDER, self.key, self.rows, lambda device: members is None or device in members)
        self.time = 0

    @property
    def id(self) -> DeviceId:
        return self.key.id

    def say(self, about: bytes = b"", **_: object) -> Message:
        self.time += 1
        return self.board.publish(about, self.time)

    def sheet(self, device: DeviceId) -> dict[bytes, bytes]:
        return {key: value for (whose, key), value in self.rows.rows.items() if whose == device}


def meet(*peers: Peer, rng: random.Random | None = None) -> None:
    """Have each two of the peers say all that they have to say to each other."""
    queue: deque[tuple[Peer, Peer, Message]] = deque()
    for one in peers:
        for other in peers:
            if one is not other:
                queue.append((one, other, one.board.greet()))
    while queue:
        if rng is not None:
            queue.rotate(rng.randrange(len(queue)))
        sender, receiver, message = queue.popleft()
        wire = codec.decode(codec.encode(message), boards.MAX_MESSAGE)
        answers, told = receiver.board.receive(sender.id, wire)
        queue += [(receiver, sender, answer) for answer in answers]
        queue += [(receiver, other, each) for other in peers if other not in (receiver, sender) for each in told]


def row(number: int) -> bytes:
    return b"d" + bytes([number % 7]) * 2 + number.to_bytes(4)


def test_what_a_device_says_comes_to_all_others_through_those_between() -> None:
    one, between, other = Peer(1), Peer(2), Peer(3)
    one.board.put(row(1), b"value")
    one.say(b"about")
    meet(one, between)
    meet(between, other)
    assert other.sheet(one.id) == {row(1): b"value"}
    record = other.board.record(one.id)
    assert record is not None
    assert record.about == b"about"


def test_a_row_that_is_removed_goes_everywhere() -> None:
    one, other = Peer(1), Peer(2)
    one.board.put(row(1), b"first")
    one.board.put(row(2), b"second")
    one.say()
    meet(one, other)
    one.board.remove(row(1))
    one.say()
    meet(one, other)
    assert other.sheet(one.id) == {row(2): b"second"}


def test_only_the_rows_that_differ_are_exchanged() -> None:
    one, other = Peer(1), Peer(2)
    for number in range(1000):
        one.board.put(row(number), bytes(100))
    one.say()
    meet(one, other)
    one.board.put(row(3), b"another")
    ((kind, encoded),) = ([*one.say()],)
    asked, _ = other.board.receive(one.id, [kind, encoded])
    assert asked[0][0] == "buckets?"
    assert len(asked[0][3]) == 1
    (bucket,), _ = one.board.receive(other.id, asked[0])
    (rows,), _ = other.board.receive(one.id, bucket)
    assert rows[3] == [row(3)]


def test_a_sheet_of_who_has_no_part_is_not_taken() -> None:
    stranger = Peer(1)
    other = Peer(2, members=set())
    stranger.board.put(row(1), b"value")
    stranger.say()
    meet(stranger, other)
    assert other.board.devices() == []


def test_nobody_passes_on_for_another_what_it_did_not_say() -> None:
    one, liar, other = Peer(1), Peer(2), Peer(3)
    one.board.put(row(1), b"value")
    encoded = one.say()[1]
    fields = codec.decode(encoded, boards.MAX_RECORD)
    fields[2] = 99
    with pytest.raises(codec.Malformed):
        other.board.receive(liar.id, ["record", codec.encode(fields)])


def test_a_row_that_is_not_what_was_signed_is_refused_and_had_from_another() -> None:
    one, liar, other = Peer(1), Peer(2), Peer(3)
    one.board.put(row(1), b"value")
    one.say()
    meet(one, liar)
    answers, _ = other.board.receive(liar.id, ["record", liar.rows.records[one.id].encoded])
    (bucket,), _ = liar.board.receive(other.id, answers[0])
    (asked,), _ = other.board.receive(liar.id, bucket)
    with pytest.raises(codec.Malformed):
        other.board.receive(liar.id, ["rows", asked[1], asked[2], {row(1): b"another value"}])
    meet(one, other)
    assert other.sheet(one.id) == {row(1): b"value"}


def test_an_older_record_does_not_take_the_place_of_a_newer_one() -> None:
    one, other = Peer(1), Peer(2)
    old = one.say(b"old")
    one.say(b"new")
    meet(one, other)
    assert other.board.receive(one.id, old) == ([], [])
    record = other.board.record(one.id)
    assert record is not None
    assert record.about == b"new"


def test_a_device_whose_store_is_an_old_copy_goes_on_above_what_others_know_of_it() -> None:
    one, other = Peer(1), Peer(2)
    for _ in range(5):
        one.say(b"before")
    meet(one, other)
    again = Peer(1)
    again.say(b"lost")
    meet(again, other)
    again.say(b"after")
    meet(again, other)
    record = other.board.record(one.id)
    assert record is not None
    assert record.about == b"after"


def test_who_leaves_in_the_middle_keeps_nobody_from_asking_another() -> None:
    one, gone, other = Peer(1), Peer(2), Peer(3)
    one.board.put(row(1), b"value")
    one.say()
    meet(one, gone)
    other.board.receive(gone.id, ["record", gone.rows.records[one.id].encoded])
    other.board.left(gone.id)
    meet(one, other)
    assert other.sheet(one.id) == {row(1): b"value"}


def test_a_board_is_after_a_restart_what_it_was() -> None:
    one, other = Peer(1), Peer(2)
    for number in range(20):
        one.board.put(row(number), bytes([number]))
    one.say(b"about")
    again = Peer(1)
    again.rows = one.rows
    again.board = Board(FOLDER, again.key, one.rows, lambda device: True)
    again.board.load(one.rows.records[one.id], ((key, value) for (_, key), value in one.rows.rows.items()))
    again.board.put(row(3), b"another")
    again.say(b"about")
    meet(again, other)
    assert other.sheet(one.id) == again.sheet(one.id)
    assert other.sheet(one.id)[row(3)] == b"another"


@pytest.mark.parametrize(
    "message",
    [
        [],
        ["heads"],
        ["heads", {}],
        ["heads", {b"x": "y"}, True],
        ["record", b"nothing"],
        ["bucket", b"d" * 32, 1, 2],
        ["what", 1],
        ["rows?", 1, 2, 3],
    ],
)
def test_what_is_no_message_is_refused(message: Message) -> None:
    peer = Peer(1)
    peer.say()
    with pytest.raises(codec.Malformed):
        peer.board.receive(b"p" * 32, message)


@given(st.data())
def test_all_boards_come_to_the_same_whatever_the_order(data: st.DataObject) -> None:
    peers = [Peer(number) for number in range(1, 5)]
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(data.draw(st.integers(1, 12))):
        peer = data.draw(st.sampled_from(peers))
        for number in data.draw(st.lists(st.integers(0, 30), max_size=8)):
            if data.draw(st.booleans()):
                peer.board.put(row(number), rng.randbytes(rng.randrange(40)))
            else:
                peer.board.remove(row(number))
        peer.say(rng.randbytes(4))
        met = data.draw(st.lists(st.sampled_from(peers), unique=True, max_size=3))
        meet(*met, rng=rng)
    meet(*peers, rng=rng)
    meet(*peers, rng=rng)
    for peer in peers:
        for other in peers:
            assert peer.sheet(other.id) == other.sheet(other.id)
            if (record := other.board.record(other.id)) is not None:
                known = peer.board.record(other.id)
                assert known is not None
                assert known.encoded == record.encoded


def test_who_was_not_ready_when_it_was_greeted_hears_all_when_it_greets() -> None:
    one, late = Peer(1), Peer(2)
    one.board.put(row(1), b"value")
    one.say()
    late.board.put(row(2), b"another")
    late.say()
    answers, _ = one.board.receive(late.id, late.board.greet())  # what `one` had said before was lost
    queue = [(one, late, answer) for answer in answers]
    while queue:
        sender, receiver, message = queue.pop(0)
        answers, _ = receiver.board.receive(sender.id, message)
        queue += [(receiver, sender, answer) for answer in answers]
    assert one.sheet(late.id) == {row(2): b"another"}
    assert late.sheet(one.id) == {row(1): b"value"}


def test_what_could_not_be_written_is_said_the_next_time() -> None:
    one, other = Peer(1), Peer(2)
    one.board.put(row(1), b"value")
    write = one.rows.apply

    def full(record: Record, changes: Mapping[bytes, bytes | None]) -> None:
        raise OSError("the disk is full")

    one.rows.apply = full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="full"):
        one.say()
    one.rows.apply = write  # type: ignore[method-assign]
    one.say()
    meet(one, other)
    assert other.sheet(one.id) == {row(1): b"value"}


def test_a_sheet_that_changes_while_it_comes_is_not_begun_anew() -> None:
    one, other = Peer(1), Peer(2)
    for number in range(50):
        one.board.put(row(number), bytes([number]) * 100)
    first = one.say()
    (asked,), _ = other.board.receive(one.id, first)
    buckets, _ = one.board.receive(other.id, asked)
    answers = [answer for bucket in buckets for answer in other.board.receive(one.id, bucket)[0]]
    (rows,), _ = one.board.receive(other.id, answers[-1])
    one.board.put(row(99), b"new")
    second = one.say()
    (asked,), _ = other.board.receive(one.id, second)
    rows[3].pop(row(7))
    other.board.receive(one.id, rows)  # too late: of the record before
    buckets, _ = one.board.receive(other.id, asked)
    answers = [answer for bucket in buckets for answer in other.board.receive(one.id, bucket)[0]]
    assert answers[-1][0] == "rows?"
    (rows,), _ = one.board.receive(other.id, answers[-1])
    other.board.receive(one.id, rows)
    assert other.sheet(one.id) == one.sheet(one.id)


def test_a_sheet_of_more_bytes_than_its_device_may_have_is_not_taken() -> None:
    one = Peer(1)
    other = Peer(2)
    other.board = Board(FOLDER, other.key, other.rows, lambda device: True, lambda device: 1000)
    one.board.put(row(1), bytes(900))
    one.say()
    meet(one, other)
    one.board.put(row(2), bytes(900))
    one.say()
    with pytest.raises(codec.Malformed):
        meet(one, other)
    assert other.sheet(one.id) == {row(1): bytes(900)}


def test_a_device_knows_that_others_have_a_newer_record_of_it() -> None:
    one, other = Peer(1), Peer(2)
    one.say()
    one.say()
    meet(one, other)
    again = Peer(1)
    meet(again, other)
    assert again.board.is_behind
    again.say()
    assert not again.board.is_behind
