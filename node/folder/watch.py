"""Hearing of changes on disk within milliseconds: every folder is watched, what links point at is not."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from typing import Protocol

import trio
from trio_typing import TaskStatus

from shoal.node.folder import inotify
from shoal.node.folder.ignore import OWN_RULES
from shoal.node.folder.inotify import Event, Inotify
from shoal.node.folder.local import PRIVATE

QUIET = 0.02  # seconds without an event that end a burst
TOLD_PRIVATE = {OWN_RULES, f"{PRIVATE}/folder"}
BURST = 0.4  # a burst is reported after this time at the latest
BLIND = 60.0  # seconds between two looks at everything, where the kernel has no watches left


class Watch(Protocol):
    """What `watch` is; its task counts as started once all is watched."""

    async def __call__(
        self,
        root: str,
        saw: Callable[[set[str]], None],
        lost_track: Callable[[], None],
        task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Watch until cancelled."""
        ...


async def watch(
    root: str,
    saw: Callable[[set[str]], None],
    lost_track: Callable[[], None],
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `saw` with relative paths as they change, `lost_track` when some may have been missed; until cancelled.

    Raises OSError when the root cannot be watched.
    """
    watcher = _Watcher(root)
    try:
        await trio.to_thread.run_sync(watcher.add, "")
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look_when_blind, watcher, lost_track)
            while True:
                paths = await watcher.burst()
                if watcher.lost:
                    watcher.lost = False
                    await trio.to_thread.run_sync(watcher.add, "")
                    lost_track()
                if paths:
                    saw(paths)
    finally:
        watcher.inotify.close()


async def _look_when_blind(watcher: _Watcher, lost_track: Callable[[], None]) -> None:
    while True:
        await trio.sleep(BLIND)
        if watcher.blind:
            lost_track()


class _Watcher:
    def __init__(self, root: str) -> None:
        self.root = root
        self.inotify = Inotify()
        self.lost = False
        self.blind = False
        self._paths: dict[int, str] = {}  # watch -> the folder's relative path

    def add(self, path: str) -> None:
        """Watch a folder and those in it. Raises OSError when it is the root, and cannot be watched."""
        queue = [path]
        while queue:
            path = queue.pop()
            full = os.path.join(self.root, path) if path else self.root
            try:
                self._paths[self.inotify.add(full)] = path
                with os.scandir(full) as entries:
                    inside = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.ENOMEM):
                    self._go_blind()
                elif path == "":
                    raise
                continue  # gone, or not to be read: the scanner tells of it
            queue += [f"{path}/{name}" if path else name for name in inside if path or name != PRIVATE]
            if not path and PRIVATE in inside:
                self._watch_private()

    def _watch_private(self) -> None:
        """Hear of the device's own rules, and of the marker; what is in the folders beside them is Shoal's doing."""
        with contextlib.suppress(OSError):
            self._paths[self.inotify.add(os.path.join(self.root, PRIVATE))] = PRIVATE

    def _go_blind(self) -> None:
        if not self.blind:
            self.blind = True
            logging.getLogger("shoal").warning(
                "the kernel has no watches left for %s (fs.inotify.max_user_watches): it is looked at every minute",
                self.root,
            )

    async def burst(self) -> set[str]:
        """Return the paths that changed, once they have been quiet for a moment."""
        await trio.lowlevel.wait_readable(self.inotify.fd)
        paths: set[str] = set()
        end = trio.current_time() + BURST
        while events := self.inotify.read():
            await self._take(events, paths)
            with trio.move_on_at(min(end, trio.current_time() + QUIET)):
                await trio.lowlevel.wait_readable(self.inotify.fd)
            if trio.current_time() >= end:
                break
        return paths

    async def _take(self, events: list[Event], paths: set[str]) -> None:
        gone: set[str] = set()
        for event in events:
            if event.mask & inotify.OVERFLOW:
                self.lost = True
            elif event.mask & inotify.IGNORED:
                self._paths.pop(event.watch, None)
            elif (folder := self._paths.get(event.watch)) is not None:
                if not event.name:  # the folder itself, which the one above tells of, too, but for the root's
                    self.lost = self.lost or (not folder and bool(event.mask & ~inotify.ATTRIB))
                    continue
                path = f"{folder}/{event.name}" if folder else event.name
                if folder == PRIVATE:
                    paths |= {path} & TOLD_PRIVATE
                    continue
                paths.add(path)
                if path == PRIVATE:
                    continue
                if event.mask & inotify.IS_DIRECTORY:
                    if event.mask & (inotify.CREATE | inotify.MOVED_TO):
                        gone.discard(path)
                        await trio.to_thread.run_sync(self.add, path)
                    elif event.mask & inotify.MOVED_FROM:
                        gone.add(path)
        for path in gone:
            self._forget(path)

    def _forget(self, path: str) -> None:
        """What was moved out is watched no more."""
        for number, folder in list(self._paths.items()):
            if folder == path or folder.startswith(path + "/"):
                self.inotify.remove(number)
                self._paths.pop(number, None)
