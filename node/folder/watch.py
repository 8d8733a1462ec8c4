"""Hearing of changes on disk within milliseconds, through `watchfiles`."""

from __future__ import annotations

from collections.abc import Callable

import trio
import watchfiles

from shoal.node.folder.disk import PRIVATE

STEP_MS = 20  # quiet that ends a burst
BURST_MS = 400  # a burst is reported after this time at the latest


async def watch(root: str, saw: Callable[[set[str]], None], lost_track: Callable[[], None]) -> None:
    """Call `saw` with relative paths as they change, `lost_track` when some may have been missed; until cancelled."""
    prefix = root + "/"
    private = prefix + PRIVATE

    def concerns(change: watchfiles.Change, path: str) -> bool:
        return not path.startswith(private)

    stopping = trio.Event()
    changes = watchfiles.awatch(
        root,
        watch_filter=concerns,
        debounce=BURST_MS,
        step=STEP_MS,
        stop_event=stopping,
        ignore_permission_denied=True,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_with, stopping)
        async for batch in changes:
            paths = {path.removeprefix(prefix) for _, path in batch if path != root}
            if any("\ufffd" in path for path in paths):
                lost_track()  # a name that is not UTF-8 cannot be told from the event: look for it
                paths = {path for path in paths if "\ufffd" not in path}
            if paths:
                saw(paths)


async def _stop_with(stopping: trio.Event) -> None:
    """Tell the watching thread of a cancellation, which it would not notice by itself for seconds."""
    try:
        await trio.sleep_forever()
    finally:
        stopping.set()
