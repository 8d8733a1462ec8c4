"""Frontiers: what one replica lacks of another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt import codec
from shoal.crdt.frontier import covers, decode_frontier, encode_frontier, frontier_fields, missing, read_frontier
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId

LOGS = st.builds(
    LogId, st.integers(0, 3).map(lambda n: DeviceId(bytes([n]) * 32)), st.integers(0, 3).map(lambda n: bytes([n]) * 16)
)
HEADS = st.builds(LogHead, st.integers(0, 5), st.binary(min_size=32, max_size=32))
FRONTIERS = st.dictionaries(LOGS, HEADS, max_size=8)


@given(FRONTIERS)
def test_a_frontier_survives_its_encoding(frontier: dict[LogId, LogHead]) -> None:
    assert decode_frontier(encode_frontier(frontier)) == frontier


@given(FRONTIERS, FRONTIERS)
def test_sending_what_is_missing_is_all_it_takes(mine: dict[LogId, LogHead], theirs: dict[LogId, LogHead]) -> None:
    after = dict(theirs)
    for wanted in missing(mine, theirs):
        assert wanted.first == after.get(wanted.log, LogHead()).length < wanted.end
        after[wanted.log] = mine[wanted.log]
    assert covers(after, mine)
    assert covers(after, theirs)
    assert (missing(mine, theirs) == []) == covers(theirs, mine)


@pytest.mark.parametrize("change", [lambda rows: rows[::-1], lambda rows: [*rows, rows[-1]], lambda rows: rows[0]])
def test_frontiers_out_of_form_are_refused(change: object) -> None:
    rows = frontier_fields({LogId(DeviceId(bytes([n]) * 32), bytes(16)): LogHead(1, bytes(32)) for n in range(2)})
    with pytest.raises(codec.Malformed):
        read_frontier(change(rows))  # type: ignore[operator]


@given(st.binary(max_size=100))
def test_garbage_is_refused(garbage: bytes) -> None:
    try:
        frontier = decode_frontier(garbage)
    except codec.Malformed:
        return
    assert encode_frontier(frontier) == garbage
