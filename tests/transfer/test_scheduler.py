"""Scheduling: every chunk that somebody has is asked of one holder at a time until it comes, the rest is named."""

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal.transfer.messages import MAX_WANTED
from shoal.transfer.scheduler import PATIENCE, SILENT, Request, Scheduler

F = b"folder"
G = b"garden"
BIG = 1 << 40
MIB = 1024 * 1024


def ids(count: int) -> list[bytes]:
    return [n.to_bytes(4) for n in range(count)]


def ready(count: int, *holders: str, length: int = 10) -> Scheduler:
    scheduler = Scheduler()
    scheduler.want(F, [(each, length) for each in ids(count)])
    for holder in holders:
        scheduler.holder_joined(holder)
    return scheduler


def asked(request: Request | None) -> list[bytes]:
    return list(request.ids) if request else []


def test_wants_are_asked_in_the_order_they_came() -> None:
    scheduler = ready(5, "a")
    assert scheduler.next_request("a", BIG, 0) == Request(F, tuple(ids(5)), (10,) * 5)
    assert scheduler.next_request("a", BIG, 0) is None


def test_a_lower_priority_number_goes_first_even_when_it_came_last() -> None:
    scheduler = ready(2, "a", length=MIB)
    scheduler.want(G, [(b"urgent", MIB)], priority=-1)
    scheduler.want(F, [(ids(2)[1], MIB)], priority=-2)
    order = [asked(scheduler.next_request("a", BIG, 0)) for _ in range(3)]
    assert order == [[ids(2)[1]], [b"urgent"], [ids(2)[0]]]


def test_no_more_is_under_way_than_the_window_unless_it_is_one_chunk() -> None:
    scheduler = ready(10, "a", length=30)
    assert len(asked(scheduler.next_request("a", 100, 0))) == 3
    assert scheduler.next_request("a", 100, 0) is None
    scheduler.on_chunk(F, ids(1)[0])
    assert len(asked(scheduler.next_request("a", 100, 0))) == 1
    assert len(asked(ready(1, "b", length=BIG).next_request("b", 100, 0))) == 1


def test_a_request_names_one_folder_and_at_most_the_allowed_number() -> None:
    scheduler = ready(MAX_WANTED + 1, "a", length=1)
    scheduler.want(G, [(b"other", 1)])
    assert [len(asked(scheduler.next_request("a", BIG, 0))) for _ in range(3)] == [MAX_WANTED, 1, 1]


def test_a_large_want_is_spread_over_the_holders() -> None:
    scheduler = ready(30, "a", "b", "c", length=MIB)
    assert [len(asked(scheduler.next_request(holder, BIG, 0))) for holder in "abc"] == [10, 6, 4]


def test_what_a_holder_lacks_goes_to_another_and_is_stalled_when_nobody_has_it() -> None:
    scheduler = ready(1, "a", "b")
    [chunk] = asked(scheduler.next_request("a", BIG, 0))
    scheduler.on_missing("a", F, chunk)
    assert scheduler.next_request("a", BIG, 0) is None
    assert not scheduler.stalled()
    assert asked(scheduler.next_request("b", BIG, 0)) == [chunk]
    scheduler.on_missing("b", F, chunk)
    assert scheduler.stalled() == [(F, chunk)]
    assert scheduler.all_stalled(F, [chunk])
    scheduler.holder_joined("c")
    assert not scheduler.stalled()
    scheduler.holder_left("c")
    scheduler.retry_missing("a")
    assert asked(scheduler.next_request("a", BIG, 0)) == [chunk]


def test_nothing_is_stalled_while_there_is_no_holder() -> None:
    scheduler = ready(1)
    assert not scheduler.stalled()
    assert not scheduler.all_stalled(F, ids(1))


def test_what_a_holder_owed_when_it_left_is_asked_first_and_in_its_order() -> None:
    scheduler = ready(6, "a", "b", length=MIB)
    first = asked(scheduler.next_request("a", BIG, 0))
    scheduler.holder_left("a")
    assert asked(scheduler.next_request("b", BIG, 0))[: len(first)] == first


def test_an_idle_holder_takes_over_from_one_that_is_silent() -> None:
    scheduler = ready(2, "silent", "idle")
    assert asked(scheduler.next_request("silent", BIG, 0)) == ids(2)
    assert scheduler.next_request("idle", BIG, SILENT - 0.1) is None
    assert asked(scheduler.next_request("idle", BIG, SILENT)) == ids(2)
    assert scheduler.next_request("silent", BIG, SILENT + 0.1) is None
    scheduler.on_missing("silent", F, ids(2)[0])
    assert scheduler.on_chunk(F, ids(2)[0])
    assert not scheduler.on_chunk(F, ids(2)[0])


def test_a_chunk_is_not_given_back_to_who_said_no_or_left_since() -> None:
    scheduler = ready(2, "silent", "idle")
    scheduler.next_request("silent", BIG, 0)
    assert asked(scheduler.next_request("idle", BIG, SILENT)) == ids(2)
    scheduler.on_missing("silent", F, ids(2)[0])
    scheduler.retry_missing("silent")
    scheduler.on_missing("idle", F, ids(2)[0])
    scheduler.holder_left("silent")
    scheduler.holder_joined("silent")
    scheduler.on_missing("idle", F, ids(2)[1])
    assert asked(scheduler.next_request("silent", BIG, SILENT)) == ids(2)


def test_who_sends_bytes_of_a_large_chunk_is_not_silent_but_has_no_endless_time() -> None:
    scheduler = ready(1, "slow", "idle", length=4 * MIB)
    scheduler.next_request("slow", BIG, 0)
    for second in range(1, int(PATIENCE)):
        scheduler.heard("slow", second)
        assert scheduler.next_request("idle", BIG, second + 0.5) is None
    assert asked(scheduler.next_request("idle", BIG, PATIENCE)) == ids(1)


def test_a_quick_holder_takes_the_last_of_what_a_slow_one_owes() -> None:
    scheduler = ready(60, "slow", "quick", length=MIB)
    theirs = asked(scheduler.next_request("slow", 30 * MIB, 0))
    while scheduler.open_bytes:
        for chunk in asked(scheduler.next_request("quick", 40 * MIB, 0)):
            scheduler.on_chunk(F, chunk, "quick", MIB, 0.1)
    scheduler.on_chunk(F, theirs[0], "slow", MIB, 1.0)
    assert asked(scheduler.next_request("quick", 40 * MIB, 1.0)) == theirs[-1:]


def test_each_folder_gets_as_much_as_the_others() -> None:
    scheduler = ready(100, "a", length=MIB)
    scheduler.want(G, [(each, MIB) for each in ids(100)])
    given = {F: 0, G: 0}
    for _ in range(40):
        request = scheduler.next_request("a", 4 * MIB, 0)
        assert request is not None
        given[request.folder] += sum(request.lengths)
        for chunk in request.ids:
            scheduler.on_chunk(request.folder, chunk)
    assert abs(given[F] - given[G]) <= 4 * MIB


def test_a_folder_that_comes_late_does_not_catch_up() -> None:
    scheduler = ready(100, "a", length=MIB)
    for _ in range(10):
        request = scheduler.next_request("a", 4 * MIB, 0)
        assert request is not None
        for chunk in request.ids:
            scheduler.on_chunk(F, chunk)
    scheduler.want(G, [(each, MIB) for each in ids(100)])
    folders = []
    for _ in range(6):
        request = scheduler.next_request("a", 4 * MIB, 0)
        assert request is not None
        folders.append(request.folder)
        for chunk in request.ids:
            scheduler.on_chunk(request.folder, chunk)
    assert folders.count(F) >= 2


def test_an_urgent_want_does_not_wait_for_room_and_not_all_of_the_window_is_its() -> None:
    scheduler = ready(100, "a", length=MIB)
    scheduler.next_request("a", 4 * MIB, 0)
    assert scheduler.next_request("a", 4 * MIB, 0) is None
    scheduler.want(G, [(each, MIB) for each in ids(50)], priority=-1)
    urgent = 0
    while (request := scheduler.next_request("a", 4 * MIB, 0)) is not None:
        assert request.urgent
        urgent += len(request.ids)
        assert urgent <= 4


def test_what_is_forgotten_is_not_asked_and_not_taken() -> None:
    scheduler = ready(3, "a")
    scheduler.forget(F, ids(1))
    assert asked(scheduler.next_request("a", BIG, 0)) == ids(3)[1:]
    scheduler.forget(F, ids(3))
    assert not scheduler.on_chunk(F, ids(3)[1])
    assert not scheduler.wanted(F, ids(3)[2])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 60))
@example(587642, 2, 7)  # one that was asked twice said that it lacks the chunk, and may have gained it since
@example(4065060976, 4, 21)  # one that was asked twice left, after the other that was asked
def test_whatever_happens_each_chunk_comes_or_is_named_as_stalled(seed: int, peers: int, count: int) -> None:
    rng = random.Random(seed)
    scheduler = Scheduler()
    chunks = {each: rng.choice([1, 50, MIB]) for each in ids(count)}
    has = {peer: {each for each in chunks if rng.random() < 0.6} for peer in range(peers)}
    unasked = list(chunks.items())
    owed: dict[int, list[bytes]] = {}
    came: set[bytes] = set()
    now = 0.0

    def answer(peer: int, chunk: bytes) -> None:
        owed[peer].remove(chunk)
        if chunk in has[peer]:
            if scheduler.on_chunk(F, chunk):
                assert chunk not in came
                came.add(chunk)
        else:
            scheduler.on_missing(peer, F, chunk)

    def ask(peer: int) -> bool:
        request = scheduler.next_request(peer, 2 * MIB, now)
        if request is None:
            return False
        assert request.lengths == tuple(chunks[each] for each in request.ids)
        assert not came & set(request.ids)
        owed[peer] += request.ids
        return True

    for _ in range(200):
        now += rng.random() * 3
        peer = rng.randrange(peers)
        match rng.randrange(6):
            case 0 if unasked:
                scheduler.want(F, [unasked.pop() for _ in range(min(5, len(unasked)))], rng.randrange(2))
            case 1 if peer not in owed:
                scheduler.holder_joined(peer)
                owed[peer] = []
            case 2 if rng.random() < 0.2:
                scheduler.holder_left(peer)
                owed.pop(peer, None)
            case 3 if peer in owed:
                has[peer] |= {each for each in chunks if rng.random() < 0.1}
                scheduler.retry_missing(peer)
            case 4 if owed.get(peer):
                answer(peer, rng.choice(owed[peer]))
            case 5 if peer in owed:
                ask(peer)
    scheduler.want(F, unasked)
    for peer in range(peers):
        scheduler.holder_joined(peer)
        owed.setdefault(peer, [])
        scheduler.retry_missing(peer)
    busy = True
    while busy:
        busy = False
        for peer in owed:
            busy |= ask(peer)
            while owed[peer]:
                busy = True
                answer(peer, owed[peer][0])
    assert came == set().union(*has.values()) & set(chunks)
    assert {chunk for _, chunk in scheduler.stalled()} == set(chunks) - came
    scheduler.forget(F, chunks)
    assert not scheduler.stalled()
    assert scheduler.open_bytes == 0
    assert not scheduler._open
    assert all(not state.asked and state.flying == 0 for state in scheduler._holders.values())


def test_a_wrong_length_that_was_wanted_before_gives_way_to_a_more_urgent_right_one() -> None:
    scheduler = Scheduler()
    scheduler.holder_joined("a")
    scheduler.want(F, [(b"chunk", 9)], priority=1000)
    assert scheduler.next_request("a", BIG, 0) == Request(F, (b"chunk",), (9,))
    scheduler.want(F, [(b"chunk", 10)])
    scheduler.on_missing("a", F, b"chunk", 9)  # the answer to the wrong question
    assert scheduler.next_request("a", BIG, 0) == Request(F, (b"chunk",), (10,))
    scheduler.want(F, [(b"chunk", 8)], priority=1000)
    assert scheduler.on_chunk(F, b"chunk", "a", 10, 0)
