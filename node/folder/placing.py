"""File content from document to disk: temporaries are filled (`filling`), made durable, and put in place.

A group of files is made durable by one `syncfs` before any of them takes its name, and their directories are synced
once after.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from shoal.crdt.model import ROOT, NodeId, NodeView
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.filling import Filler, Group, size_of
from shoal.node.folder.install import Installer, Target
from shoal.node.folder.kept import kept_path
from shoal.node.folder.local import LocalIndex, LocalNode
from shoal.node.folder.marker import PLACING
from shoal.node.folder.problems import Problems
from shoal.node.folder.signature import Signature
from shoal.node.replica import Replica

RESERVE = 64 * 1024 * 1024  # bytes that stay free, or a hundredth of a small disk


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of placing files. `look`: paths where the disk was not as expected; `lacking`: nobody has them now."""

    placed: tuple[NodeId, ...]
    look: tuple[str, ...]
    lacking: tuple[NodeId, ...]
    failed: tuple[NodeId, ...]


class Placer:
    """Puts files of one folder in place."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        filler: Filler,
        problems: Problems,
    ) -> None:
        self._disk = disk
        self._installer = Installer(disk)
        self._root = root
        self._index = index
        self._replica = replica
        self._filler = filler
        self._problems = problems
        self._turns = turns
        self.unsettled: set[NodeId] = (
            set()
        )  # of which it is written down that they take their names, and not what came of it
        self._filling: Counter[NodeId] = Counter()  # folders, and how many files take their names in them
        self.wanted_bytes = 0  # of files being placed, not landed yet

    def is_filling(self, folder: NodeId) -> bool:
        """Return whether something is taking its name in the folder, or below: it is to stay where it is."""
        return folder in self._filling

    def _folders_above(self, folder: NodeId) -> Iterator[NodeId]:
        while folder != ROOT and (record := self._index.get(folder)) is not None:
            yield folder
            folder = record.parent

    def kept_path(self, record: LocalNode) -> str:
        """Return where a replaced or removed file is kept."""
        return kept_path(self._root, record)

    def group(self, views: Sequence[NodeView], priority: int = 0) -> Group:
        """Return files and links that are to be placed as one. `priority`: see `Fetcher.fetch`."""
        return self._filler.group(views, priority)

    async def place(self, group: Group, news: Callable[[], None] = lambda: None) -> Outcome:
        """Place a group. Trouble with the disk is reported by path, and is no exception. `news`: called as something
        has come. Says nothing of those that `place_whole` placed meanwhile."""
        open_ones = [view.id for view in group.views if view.id in self.unsettled]
        # Where the temporaries of those are is what the next start goes by.
        group.views = [view for view in group.views if view.id not in self.unsettled]
        left = sum(size_of(view) for view in group.views)
        self.wanted_bytes += left

        def landed(size: int) -> None:
            nonlocal left
            size = min(size, left)
            left -= size
            self.wanted_bytes -= size
            news()

        group.landed = landed
        try:
            outcome = await self._place(group)
        finally:
            self.wanted_bytes -= left
            self._filler.forget(group.views)
        return replace(outcome, failed=(*outcome.failed, *open_ones)) if open_ones else outcome

    async def place_whole(self, views: Sequence[NodeView], group: Group) -> Outcome:
        """Place files that were taken out of a group, as they are filled and others are not."""
        try:
            return await self._finish(views, group.finished)
        finally:
            self._filler.forget(views)

    def was_cancelled(self, views: Sequence[NodeView]) -> None:
        """Placing these was cancelled: what has come of them is of use the next time."""
        self._filler.partial |= {self._filler.temporary(view) for view in views}

    async def _place(self, group: Group) -> Outcome:
        try:
            self._check_room(self._filler.room(group))
            lacking = await self._filler.fill(group)
        except OSError as error:
            await self._turns.apart(self._filler.remove, [self._filler.temporary(view) for view in group.views])
            for view in group.views:
                self._problems.report(self._relative(view) or view.name, error, view.copy_of or view.id)
            return Outcome((), (), (), tuple(view.id for view in group.views))
        whole = [view for view in group.views if view.id not in lacking]
        outcome = await self._finish(whole, group.finished)
        return replace(outcome, lacking=tuple(lacking))

    def _check_room(self, wanted: int) -> None:
        free, total = self._disk.fs.space(self._root)
        if wanted and free < wanted + min(RESERVE, total // 100):
            raise OSError(errno.ENOSPC, f"the disk is full: {wanted} bytes are needed, {free} are free")

    async def _finish(self, views: Sequence[NodeView], finished: Mapping[str, Signature | OSError]) -> Outcome:
        targets: list[Target] = []
        look: list[str] = []
        for view in views:
            now = self._replica.view(view.id)
            parent = self._index.path(view.parent) if view.parent != ROOT else ""
            current = now is not None and now.version.id == view.version.id
            if not current or now is None or (now.parent, now.name) != (view.parent, view.name) or parent is None:
                self._filler.partial.add(self._filler.temporary(view))
                continue  # the document moved on; the node is dirty again
            relative = f"{parent}/{view.name}" if parent else view.name
            record = self._index.get(view.id)
            if record is None and self._index.holder(view.parent, view.name) is not None:
                self._filler.partial.add(self._filler.temporary(view))
                continue  # its name is still another's on disk
            if record is not None and (record.parent, record.name) != (view.parent, view.name):
                self._filler.partial.add(self._filler.temporary(view))
                continue
            keep = self.kept_path(record) if record is not None else ""
            targets.append(Target(view, self._filler.temporary(view), os.path.join(self._root, relative), record, keep))
        if not targets:
            return Outcome((), (), (), ())
        filled = Counter(above for target in targets for above in self._folders_above(target.view.parent))
        self._filling += filled
        try:
            with trio.CancelScope(shield=True):  # short, and half done it is for the next start to mend
                return await self._finish_targets(targets, finished, look)
        finally:
            self._filling -= filled

    async def _finish_targets(
        self, targets: Sequence[Target], finished: Mapping[str, Signature | OSError], look: list[str]
    ) -> Outcome:
        results = await self._put_in_place(targets, finished)
        placed, failed = [], []
        for target, result in zip(targets, results, strict=True):
            view = target.view
            relative = target.path.removeprefix(self._root + "/")
            if isinstance(result, Signature) and self._relative(view) != relative:
                look.append(relative)  # a person moved or removed its folder: what is there now is for the scanner
            elif isinstance(result, Signature):
                if target.replaces is not None:
                    self._index.places.keep(os.path.basename(target.keep_as), target.replaces.content)
                self._index.put(_record(view, result))
                self._problems.clear(relative)
                placed.append(view.id)
                if result.ctime_ns == 0:
                    look.append(relative)
            elif result is None:
                look.append(relative)
            else:
                self._problems.report(relative, result, view.copy_of or view.id)
                failed.append(view.id)
        for target in targets:
            self._index.forget_intention(target.view.id)
        self._index.commit(sync=True)  # else an edit after a crash would not be known for one of what was placed
        self.unsettled.difference_update(target.view.id for target in targets)
        lost = [target.temporary for target, result in zip(targets, results, strict=True) if _failed(result)]
        if not self.unsettled:
            lost.append(os.path.join(self._filler.temporaries, PLACING))
        await self._turns.run(self._filler.remove, lost)  # not before: where they are tells what became of them
        return Outcome(tuple(placed), tuple(look), (), tuple(failed))

    async def _put_in_place(
        self, targets: Sequence[Target], finished: Mapping[str, Signature | OSError]
    ) -> list[Signature | OSError | None]:
        """Return for each target its new signature; None where the disk was not as expected; or the error."""
        open_ones = [target for target in targets if target.temporary not in finished]
        by_hand = zip(open_ones, await self._turns.run(self._installer.finish, open_ones), strict=True)
        finished = {**finished, **{target.temporary: made for target, made in by_hand}}
        ready = [finished[target.temporary] for target in targets]
        try:
            self._disk.fs.open(os.path.join(self._filler.temporaries, PLACING), "write").close()
            await self._turns.apart(self._disk.fs.sync_all, self._filler.temporaries)
            for target, made in zip(targets, ready, strict=True):
                if isinstance(made, Signature):
                    self._index.intend(_record(target.view, made))
                    self.unsettled.add(target.view.id)
            self._index.commit(sync=True)  # else what a crash leaves in its place would be taken for a person's
        except OSError as error:
            return [error] * len(targets)
        for target in targets:  # others may ask for their chunks all the while
            places = (target.temporary, target.swap, target.path)
            self._filler.arriving.moves(*(place.removeprefix(self._root + "/") for place in places))
        results = await self._turns.run(self._installer.take_names, list(zip(targets, ready, strict=True)))
        touched = {os.path.dirname(target.path) for target in targets}
        await self._turns.apart(self._disk.sync_directories, touched)
        return results

    def _relative(self, view: NodeView) -> str | None:
        parent = self._index.path(view.parent) if view.parent != ROOT else ""
        if parent is None:
            return None
        return f"{parent}/{view.name}" if parent else view.name


def _failed(result: Signature | OSError | None) -> bool:
    return not isinstance(result, Signature)


def _record(view: NodeView, signature: Signature) -> LocalNode:
    content = view.version.content
    assert content is not None
    return LocalNode(view.id, view.parent, view.name, "file", view.version.id, content, signature, view.copy_of)
