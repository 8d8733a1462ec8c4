"""The event ring: numbered, bounded, followed without polling."""

import trio
import trio.testing

from shoal.node.events import EventLog


def test_events_are_numbered_and_the_oldest_fall_out() -> None:
    log = EventLog(lambda: 5, size=2)
    for text in "abc":
        log.add("test", text)
    assert [(e.number, e.text, e.time_ms) for e in log.since(0)] == [(2, "b", 5), (3, "c", 5)]


async def test_a_follower_gets_what_was_and_what_comes(autojump_clock: trio.testing.MockClock) -> None:
    log = EventLog(lambda: 0)
    log.add("test", "before")
    seen: list[str] = []

    async def follow() -> None:
        async for event in log.follow():
            seen.append(event.text)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.sleep(1)
        log.add("test", "after", path="a")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert seen == ["before", "after"]
