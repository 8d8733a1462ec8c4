"""When a file may be read: once the tick of its last change is over, by whatever clock."""

from __future__ import annotations

import stat

from shoal.node.folder.disk import Seen
from shoal.node.folder.freshness import FINE, MOST, Freshness
from shoal.node.folder.signature import Signature

FUTURE = 10**18 + 1  # nanoseconds; not a whole number of milliseconds: a file system with fine times


def file(name: str, ctime_ns: int = FUTURE) -> Seen:
    return Seen("", name, Signature(1, 1, 1, ctime_ns, ctime_ns, stat.S_IFREG | 0o600))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_old_file_is_read_at_once() -> None:
    assert Freshness(lambda: 10**9, Clock()).wait(file("f", 10**9)) == 0


def test_more_files_from_the_future_than_are_remembered_are_all_read_in_the_end() -> None:
    """As after the clock was set back: none of them looks old, ever."""
    clock = Clock()
    fresh = Freshness(lambda: 0, clock)
    waiting = [file(str(number)) for number in range(3 * MOST)]
    for _ in range(4):
        waiting = [seen for seen in waiting if fresh.wait(seen) > 0]
        clock.now += FINE
    assert waiting == []


def test_files_that_went_before_they_were_old_enough_do_not_keep_others_from_being_read() -> None:
    clock = Clock()
    fresh = Freshness(lambda: 0, clock)
    for number in range(MOST):
        fresh.wait(file(f"gone {number}"))
    clock.now += 60
    assert fresh.wait(file("there")) > 0
    clock.now += FINE
    assert fresh.wait(file("there")) == 0
