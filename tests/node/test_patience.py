from __future__ import annotations

from shoal.crdt.model import NodeId
from shoal.node.folder.patience import RETRY, SOON, Patience

A, B = NodeId(b"a" * 16), NodeId(b"b" * 16)


def test_what_failed_rests_for_a_while() -> None:
    patience = Patience()
    patience.failed(A, 10.0)
    assert patience.resting(10.0 + RETRY / 2) == {A}
    assert patience.next_time() == 10.0 + RETRY
    assert patience.resting(10.0 + RETRY) == set()
    assert patience.next_time() == float("inf")


def test_what_is_being_looked_at_is_tried_soon() -> None:
    patience = Patience()
    patience.failed(A, 10.0, soon=True)
    assert patience.next_time() == 10.0 + SOON


def test_those_that_wait_go_on_as_soon_as_anything_moved() -> None:
    patience = Patience()
    patience.waits(A, 10.0)
    patience.failed(B, 10.0)
    patience.moved(11.0)
    assert patience.resting(11.0 + SOON) == {B}


def test_those_that_wait_are_tried_again_though_nothing_moved() -> None:
    patience = Patience()
    patience.waits(A, 10.0)
    patience.waits(B, 12.0)
    assert patience.resting(10.0 + RETRY) == set()
