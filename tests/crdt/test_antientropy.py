"""Anti-entropy: whatever links do, replicas end with equal logs, know it, and fall silent."""

from __future__ import annotations

import random
from collections import deque
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt import codec
from shoal.crdt.antientropy import (
    MAX_PATIENCE,
    PATIENCE,
    WINDOW,
    AntiEntropy,
    ApplyEntries,
    CheckOwnLog,
    Command,
    OwnLogDiverged,
    PeerHolds,
    PeerMisbehaved,
    Send,
    SendCheckpoint,
    TakeCheckpoint,
)
from shoal.crdt.antientropy_messages import (
    Ack,
    CheckpointManifest,
    CheckpointPart,
    Entries,
    Holds,
    Message,
    decode_message,
    encode_message,
)
from shoal.crdt.frontier import Range
from shoal.crdt.log import LogHead, LogId, entry_hash
from shoal.crdt.model import DeviceId


def log_of(number: int) -> LogId:
    return LogId(DeviceId(bytes([number]) * 32), bytes(16))


class Replica:
    """The logs of one node, and its side of the exchange with each other one."""

    def __init__(self, number: int, count: int, rng: random.Random) -> None:
        self.own = log_of(number)
        self.rng = rng
        self.logs: dict[LogId, list[bytes]] = {}
        self.sides = {peer: AntiEntropy(own=self.own) for peer in range(count) if peer != number}
        self.outbox: deque[tuple[int, Message]] = deque()

    @property
    def frontier(self) -> dict[LogId, LogHead]:
        return {log: LogHead(len(held), entry_hash(held[-1])) for log, held in self.logs.items()}

    def write(self) -> None:
        self.logs.setdefault(self.own, []).append(self.rng.randbytes(8))
        self.pump()

    def open(self) -> None:
        for peer, side in self.sides.items():
            self.obey(peer, side.open(self.frontier))

    def receive(self, peer: int, message: Message) -> None:
        self.obey(peer, self.sides[peer].receive(message, self.frontier))
        self.pump()

    def tick(self, now: float) -> None:
        for peer, side in self.sides.items():
            self.obey(peer, side.tick(self.frontier, now))

    def obey(self, peer: int, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(message):
                    self.outbox.append((peer, message))
                case ApplyEntries(log, first, entries):
                    held = self.logs.setdefault(log, [])
                    assert first <= len(held), "a gap was let through"
                    held += entries[len(held) - first :]
                    self.obey(peer, self.sides[peer].applied(log, self.frontier))
                case PeerHolds() | CheckOwnLog():
                    pass
                case _:
                    raise AssertionError(f"among honest peers: {command}")

    def pump(self) -> None:
        for peer, side in self.sides.items():
            while (wanted := side.next_range(self.frontier)) is not None:
                assert wanted.first < wanted.end
                entries = self.logs[wanted.log][wanted.first : wanted.end][: self.rng.randint(1, 4)]
                side.on_sent(wanted.log, wanted.first + len(entries), sum(map(len, entries)))
                self.outbox.append((peer, Entries(wanted.log, wanted.first, tuple(entries))))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from([0.0, 0.1, 0.4]))
def test_replicas_over_links_that_lose_repeat_and_reorder_end_equal_and_silent(
    seed: int, count: int, loss: float
) -> None:
    rng = random.Random(seed)
    replicas = [Replica(number, count, random.Random(rng.random())) for number in range(count)]
    links: dict[tuple[int, int], list[bytes]] = {pair: [] for pair in permutations(range(count), 2)}

    def collect(loss: float) -> None:
        for number, replica in enumerate(replicas):
            while replica.outbox:
                peer, message = replica.outbox.popleft()
                for _ in range(rng.choice([1, 1, 1, 2]) if loss else 1):
                    if rng.random() >= loss:
                        links[number, peer].append(encode_message(message))

    def deliver_one() -> None:
        source, target = rng.choice([pair for pair, flying in links.items() if flying])
        flying = links[source, target]
        message = flying.pop(rng.randrange(len(flying)) if loss else 0)
        replicas[target].receive(source, decode_message(message))

    now = 0.0
    for replica in replicas:
        replica.open()
    for _ in range(rng.randint(0, 120)):
        now += rng.random() * 3
        replica = rng.choice(replicas)
        replica.write() if rng.random() < 0.5 else replica.tick(now)
        collect(loss)
        if any(links.values()):
            deliver_one()
    for _ in range(200):
        while any(links.values()):
            deliver_one()
            collect(0)
        if not any(side.is_waiting(r.frontier) for r in replicas for side in r.sides.values()):
            break
        now += MAX_PATIENCE
        for replica in replicas:
            replica.tick(now)
        collect(0)
    assert all(replica.logs == replicas[0].logs for replica in replicas)
    for replica in replicas:
        for side in replica.sides.values():
            assert side.peer_holds_all(replica.frontier)
            assert side.we_hold_all(replica.frontier)
        replica.tick(now + 10 * MAX_PATIENCE)
        replica.tick(now + 20 * MAX_PATIENCE)
        replica.pump()
        assert not replica.outbox, "a message though all is said"


A, B = log_of(1), log_of(2)


def heads(log: LogId, length: int, digest: bytes = bytes(32), floor: int = 0) -> dict[LogId, LogHead]:
    return {log: LogHead(length, digest, floor)}


def opened(theirs: dict[LogId, LogHead], own: LogId | None = None) -> AntiEntropy:
    side = AntiEntropy(own=own)
    side.receive(Holds(theirs), {})
    return side


def test_nothing_is_sent_before_the_peer_said_what_it_holds() -> None:
    assert AntiEntropy().next_range(heads(A, 5)) is None


def test_a_new_entry_is_sent_at_once_and_alone() -> None:
    side = opened(heads(A, 5))
    assert side.next_range(heads(A, 5)) is None
    assert side.next_range(heads(A, 6)) == Range(A, 5, 6)


def test_a_pushed_entry_is_not_sent_back_to_where_it_came_from() -> None:
    side = opened({})
    assert side.receive(Entries(A, 0, (b"x",)), {}) == [ApplyEntries(A, 0, (b"x",))]
    mine = heads(A, 1, entry_hash(b"x"))
    assert side.applied(A, mine) == [Send(Ack(mine))]
    assert side.next_range(mine) is None
    assert side.peer_holds_all(mine)


def test_what_is_on_its_way_is_bounded_until_it_is_acknowledged() -> None:
    side = opened({})
    mine = heads(A, 100)
    side.on_sent(A, 1, WINDOW)
    assert side.next_range(mine) is None
    side.receive(Ack(heads(A, 1)), mine)
    assert side.next_range(mine) == Range(A, 1, 100)


def test_an_ack_that_was_overtaken_changes_nothing() -> None:
    side, mine = opened({}), heads(A, 5)
    side.on_sent(A, 5, 10)
    side.receive(Ack(mine), mine)
    side.receive(Ack(heads(A, 3)), mine)
    assert side.peer_holds_all(mine)


def test_repeated_entries_are_acknowledged_and_not_applied() -> None:
    mine = heads(A, 5)
    assert opened({}).receive(Entries(A, 3, (b"x", b"y")), mine) == [Send(Ack(mine))]


def test_a_gap_is_told_once_until_something_moves() -> None:
    side = opened({})
    assert side.receive(Entries(A, 3, (b"x",)), {}) == [Send(Holds({}))]
    assert side.receive(Entries(A, 4, (b"y",)), {}) == []


def test_a_side_that_waits_in_vain_asks_at_growing_intervals() -> None:
    side, mine = opened({}), heads(A, 1)
    side.on_sent(A, 1, 10)
    asked = [now for now in range(200) if side.tick(mine, float(now))]
    assert asked[0] == PATIENCE
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[0] == 2 * PATIENCE
    side.receive(Ack(mine), mine)
    assert side.tick(mine, 10_000.0) == []


def test_an_asked_peer_answers_with_all_it_holds() -> None:
    mine = heads(A, 1)
    assert Send(Holds(mine)) in AntiEntropy().receive(Holds({}, ask=True), mine)


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (heads(A, 6), OwnLogDiverged(A, LogHead(6))),  # they hold more of what only we write
        (heads(A, 5, b"h" * 32), OwnLogDiverged(A, LogHead(5, b"h" * 32))),  # as much, and another history
        (heads(A, 4), CheckOwnLog(A, LogHead(4))),
        (heads(A, 5), None),
        (heads(B, 9), None),
    ],
)
@pytest.mark.parametrize("message", [Holds, Ack])
def test_a_store_that_came_back_from_a_backup_is_noticed(
    theirs: dict[LogId, LogHead], expected: Command | None, message: type[Holds] | type[Ack]
) -> None:
    commands = opened({}, own=A).receive(message(theirs), heads(A, 5))
    assert commands == ([PeerHolds(theirs)] if expected is None else [PeerHolds(theirs), expected])


def test_entries_of_the_own_log_that_are_not_here_are_noticed() -> None:
    commands = opened({}, own=A).receive(Entries(A, 5, (b"x",)), heads(A, 5))
    assert OwnLogDiverged(A, LogHead(6, entry_hash(b"x"))) in commands


def test_a_peer_that_lacks_dropped_entries_is_sent_a_checkpoint_and_no_range() -> None:
    side, mine = AntiEntropy(), heads(A, 9, floor=5)
    assert SendCheckpoint() in side.receive(Holds(heads(A, 4)), mine)
    assert side.next_range(mine) is None
    assert SendCheckpoint() not in side.receive(Holds(heads(A, 5)), mine)
    assert side.next_range(mine) == Range(A, 5, 9)


def test_checkpoint_messages_and_misbehaviour_are_passed_on() -> None:
    part = CheckpointPart(bytes(16), 0, b"p")
    assert opened({}).receive(part, {}) == [TakeCheckpoint(part)]
    assert opened({}).applied(A, {}, misbehaved="forged") == [PeerMisbehaved("forged")]


FRONTIERS = st.dictionaries(
    st.sampled_from([A, B]), st.builds(LogHead, st.integers(0, 99), st.binary(min_size=32, max_size=32))
)
MESSAGES = st.one_of(
    st.builds(Holds, FRONTIERS, st.booleans()),
    st.builds(Ack, FRONTIERS),
    st.builds(
        Entries,
        st.sampled_from([A, B]),
        st.integers(0, 99),
        st.lists(st.binary(max_size=9), min_size=1, max_size=4).map(tuple),
    ),
    st.builds(CheckpointManifest, st.binary(max_size=40)),
    st.builds(CheckpointPart, st.binary(min_size=16, max_size=16), st.integers(0, 9), st.binary(max_size=40)),
)


@given(MESSAGES)
def test_messages_survive_their_encoding(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=60) | st.lists(st.integers(0, 9) | st.binary(max_size=4) | st.booleans()).map(codec.encode))
def test_garbage_is_no_message(garbage: bytes) -> None:
    try:
        message = decode_message(garbage)
    except codec.Malformed:
        return
    assert encode_message(message) == garbage
