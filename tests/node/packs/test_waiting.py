"""Chunks that wait to be packed: none is lost, none waits for ever, and packs are full where they can be."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from shoal.node.packs.waiting import AGAIN, LONGEST, QUIET, TRIES, Waiting


def chunk(number: int) -> bytes:
    return number.to_bytes(32)


def test_a_few_chunks_are_taken_when_nothing_more_came_for_a_while() -> None:
    waiting = Waiting(100)
    waiting.add(chunk(1), 10, 0, 0)
    waiting.add(chunk(2), 10, 1, 1)
    assert waiting.take(2, 99) == []
    assert waiting.rest(2) == 1 + QUIET - 2
    assert waiting.take(1 + QUIET, 99) == [(chunk(1), 10), (chunk(2), 10)]


def test_what_fills_a_pack_is_taken_at_once_and_no_more_than_fills_it() -> None:
    waiting = Waiting(100)
    for number in range(5):
        waiting.add(chunk(number), 30, 0, 0)
    assert waiting.rest(0) == 0
    assert [each for each, _ in waiting.take(0, 99)] == [chunk(0), chunk(1), chunk(2)]
    assert len(waiting) == 2


def test_chunks_that_keep_coming_do_not_keep_the_first_waiting() -> None:
    waiting = Waiting(10**9)
    now = 0.0
    while not waiting.take(now, 9999):
        waiting.add(chunk(int(now * 10)), 1, now, now)
        now += QUIET / 2
        assert now <= LONGEST + QUIET


def test_a_chunk_is_not_taken_before_it_is_due() -> None:
    waiting = Waiting(100)
    waiting.add(chunk(1), 200, 120, 0)
    assert waiting.rest(0) == 120
    assert waiting.take(119, 99) == []
    assert waiting.take(120, 99) == [(chunk(1), 200)]


def test_a_chunk_that_could_not_be_had_is_tried_again_ever_later_and_not_for_ever() -> None:
    waiting = Waiting(1)
    waiting.add(chunk(1), 10, 0, 0)
    now, tries = 0.0, 0
    while waiting:
        now += waiting.rest(now)
        for each, size in waiting.take(now, 1):
            tries += 1
            waiting.missed(each, size, now)
    assert tries == TRIES
    assert now >= AGAIN * 2 ** (TRIES - 2)


def test_no_more_chunks_are_taken_than_a_pack_may_have() -> None:
    waiting = Waiting(100)
    for number in range(100):
        waiting.add(chunk(number), 1, 0, 0)
    assert len(waiting.take(0, 7)) == 7


def test_where_nothing_waits_there_is_no_end_to_the_rest() -> None:
    assert Waiting(100).rest(0) == math.inf


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 50), st.floats(0, 100), st.floats(0, 5)), max_size=60),
    st.integers(1, 9),
)
def test_each_chunk_is_taken_once(steps: list[tuple[int, int, float, float]], most: int) -> None:
    waiting = Waiting(100)
    now, taken, added = 0.0, [], set[bytes]()
    for number, size, late, passed in steps:
        if chunk(number) not in added:
            waiting.add(chunk(number), size, now + late, now)
            added.add(chunk(number))
        now += passed
        taken += [each for each, _ in waiting.take(now, most)]
    while waiting:
        now += waiting.rest(now)
        taken += [each for each, _ in waiting.take(now, most)]
    assert sorted(taken) == sorted(added)
