"""Hearing of changes on disk within milliseconds, through `watchfiles`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import watchfiles
from watchfiles._rust_notify import WatchfilesRustInternalError

from shoal.node.folder.local import PRIVATE

STEP_MS = 20  # quiet that ends a burst
AGAIN = 0.1  # seconds before a watch that failed begins anew
BURST_MS = 400  # a burst is reported after this time at the latest


Watch = Callable[[str, Callable[[set[str]], None], Callable[[], None]], Awaitable[None]]
"""What `watch` is: root, `saw`, `lost_track`."""


async def watch(root: str, saw: Callable[[set[str]], None], lost_track: Callable[[], None]) -> None:
    """Call `saw` with relative paths as they change, `lost_track` when some may have been missed; until cancelled."""
    prefix = root + "/"
    private = prefix + PRIVATE

    def concerns(change: watchfiles.Change, path: str) -> bool:
        return not path.startswith(private)

    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_with, stopping)
        while True:
            changes = watchfiles.awatch(
                root,
                watch_filter=concerns,
                debounce=BURST_MS,
                step=STEP_MS,
                stop_event=stopping,
                ignore_permission_denied=True,
            )
            try:
                async for batch in changes:
                    saw({path.removeprefix(prefix) for _, path in batch if path != root})
            except BaseExceptionGroup as group:
                if group.split(WatchfilesRustInternalError)[1] is not None:
                    raise
                # A name that is not UTF-8 cannot be told, and ends the watch: look for it, and watch again.
                lost_track()
                await trio.sleep(AGAIN)


async def _stop_with(stopping: trio.Event) -> None:
    """Tell the watching thread of a cancellation, which it would not notice by itself for seconds."""
    try:
        await trio.sleep_forever()
    finally:
        stopping.set()
