"""Memory is given back once after each time of work, and never in the midst of it."""

from shoal.node.memory import BUSY, SpareMemory


def test_a_time_of_work_is_over_once_when_little_is_done_again() -> None:
    spare, spent, over = SpareMemory(), 0.0, []
    for work in [0.01, 2 * BUSY, 4 * BUSY, 0.01, 0.01, 2 * BUSY, 0.0, 0.0]:
        spent += work
        over.append(spare.is_over(spent))
    assert over == [False, False, False, True, False, False, True, False]
