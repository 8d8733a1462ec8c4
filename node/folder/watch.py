"""Hearing of changes on disk within milliseconds, through `watchfiles`."""

from __future__ import annotations

from collections.abc import Callable

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

    changes = watchfiles.awatch(
        root,
        watch_filter=concerns,
        debounce=BURST_MS,
        step=STEP_MS,
        recursive=True,
        ignore_permission_denied=True,
    )
    async for batch in changes:
        paths = {path.removeprefix(prefix) for _, path in batch if path != root}
        if any("\ufffd" in path for path in paths):
            lost_track()  # a name that is not UTF-8 cannot be told from the event: look for it
            paths = {path for path in paths if "\ufffd" not in path}
        if paths:
            saw(paths)
