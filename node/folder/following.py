"""From document to disk: nodes whose view changed are planned and carried out; texts are merged before that.

Placing waits for peers and for the disk, and runs beside, a few groups at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import trio

from shoal.crdt.model import NodeId, NodeView
from shoal.node.folder.apply import Applier, Steps
from shoal.node.folder.choosing import Chooser
from shoal.node.folder.filling import Group, size_of
from shoal.node.folder.leave import Leaver
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.looking import Looking
from shoal.node.folder.merging import Merger, Outcome
from shoal.node.folder.one_way import OneWay
from shoal.node.folder.patience import Patience
from shoal.node.folder.placing import Outcome as Placed
from shoal.node.folder.placing import Placer
from shoal.node.folder.problems import Problems
from shoal.node.folder.pulse import Pulse
from shoal.node.folder.selection import SelectedDocument, Selection
from shoal.node.folder.slots import Slots
from shoal.node.replica import Replica
from shoal.transfer.chunking import FileChanged
from shoal.transfer.scheduler import URGENT

GROUP_FILES = 500
GROUP_BYTES = 16 * 1024 * 1024


class Following:
    """The document-to-disk half of one folder. `busy`: nodes that are being placed or merged."""

    def __init__(
        self,
        index: LocalIndex,
        replica: Replica,
        document: SelectedDocument,
        applier: Applier,
        placer: Placer,
        merger: Merger,
        chooser: Chooser,
        leaver: Leaver,
        selection: Selection,
        one_way: OneWay,
        looking: Looking,
        problems: Problems,
        busy: set[NodeId],
        pulse: Pulse,
    ) -> None:
        self._index = index
        self._replica = replica
        self._document = document
        self._applier = applier
        self._placer = placer
        self._merger = merger
        self._chooser = chooser
        self._leaver = leaver
        self._selection = selection
        self._one_way = one_way
        self._looking = looking
        self._problems = problems
        self._pulse = pulse
        self.busy = busy
        self.patience = Patience()
        self._told = set(replica.conflicted)  # the conflicts that people were told of
        self._placing: dict[Group, trio.CancelScope] = {}
        self._claims: Counter[NodeId] = Counter()  # of busy nodes that are being placed
        self._busy_bytes = 0
        self._slots = Slots[Group]()

    # -- asked by others ---------------------------------------------------------------------------------------------

    @property
    def open_count(self) -> int:
        """How many nodes have yet to come to this disk, or to go from it."""
        return self._replica.dirty.count - len(self._one_way.aside)

    @property
    def open_bytes(self) -> int:
        """How many bytes of them there are."""
        marked = self._replica.dirty.bytes - self._one_way.aside_bytes
        return max(0, marked - self._busy_bytes + self._placer.wanted_bytes)

    def begin(self) -> None:
        """The folder starts: nothing is under way."""
        self.busy.clear()
        self._claims.clear()
        self._busy_bytes = 0
        self._slots.clear()

    def next_time(self) -> float:
        """Return when there may be something to do that nobody tells of."""
        return min(self.patience.next_time(), self._slots.next_time())

    def drop_unwanted(self) -> None:
        """End the placing of what is left out by now."""
        for group, scope in self._placing.items():
            if not all(self._selection.wants(view.id) for view in group.views):
                scope.cancel()

    async def restore(self, node: NodeId) -> bool:
        """Put a file's right bytes in the place of damaged ones, which are kept; return whether that could be done."""
        view, record = self._replica.view(node), self._index.get(node)
        if view is None or record is None or self.busy & {node, view.copy_of or node}:
            return False
        await self._place_group(self._claim([view]))
        now = self._index.get(node)
        return now is not None and now.signature != record.signature

    # -- asked by the loop -------------------------------------------------------------------------------------------

    async def follow(self, nursery: trio.Nursery) -> bool:
        """Do for marked nodes what can be done at once, and start the rest; return whether there were any."""
        self._selection.document_changed()
        if self._selection.wishes:
            self._chooser.resolve_wishes()
        now = trio.current_time()
        skip = self.busy | self.patience.resting(now)
        for group in self._slots.give_away(now):
            nursery.start_soon(self._place_whole, group)
        room = self._slots.free() * GROUP_FILES
        skip |= self._looking.held.nodes | self._one_way.aside.keys()
        urgent = self._replica.dirty.urgent(skip) if self._slots.free_urgent() else []
        marked = urgent + (self._replica.dirty.first(room, skip.union(urgent)) if room else [])
        nodes = self._one_way.apply_to(marked, self._document, self.busy)
        if len(nodes) < len(marked):
            self._pulse.on_progress()
            self._pulse.wake()  # there may be more than were looked at
        if not nodes:
            return False
        self._pulse.set("syncing")
        if self._one_way.has_a_say:
            for node in nodes:
                self._merger.fold_twin(node)
            merging = [node for node in nodes if self._merger.wants(node)]
            for node in merging:
                self.busy.add(node)
                nursery.start_soon(self._merge, node)
            nodes = [node for node in nodes if node not in self.busy]
        if self._chooser.follow(nodes):
            self._leaver.look_again()
        steps = await self._applier.apply(nodes, self.busy)
        self._finish_round(steps)
        waited = set(urgent)
        first = [view for view in steps.place if (view.copy_of or view.id) in waited]
        if first:
            self._start_group(first, nursery, URGENT)
        self._start_placing([view for view in steps.place if (view.copy_of or view.id) not in waited], nursery)
        self._pulse.on_progress()
        return True

    async def leave(self, nursery: trio.Nursery) -> bool:
        """Take from the disk what is left out and safe elsewhere; return whether anything went."""
        self._leaver.start(nursery, self._pulse.wake, trio.current_time())
        look = await self._leaver.carry_out()
        self._looking.look_at(look or ())
        if look is not None:
            self._pulse.on_progress()
        return bool(look)

    async def _merge(self, node: NodeId) -> None:
        outcome: Outcome = "left"
        try:
            outcome = await self._merger.settle(node)
        except (OSError, FileChanged) as error:  # a full disk, most often: it stays a conflict
            self._problems.report(self._shown_path(node), error, node)
        finally:
            self.busy.discard(node)
            self._pulse.wake()
        self._tell_of_conflict(node, outcome)

    def _tell_of_conflict(self, node: NodeId, outcome: Outcome) -> None:
        self._told &= self._replica.conflicted
        if outcome == "merged":
            self._pulse.on_event("merged", f"{self._shown_path(node)}: what two devices changed was merged")
        if outcome == "left" and node in self._replica.conflicted - self._told:
            self._told.add(node)
            self._pulse.on_event(
                "conflict", f"{self._shown_path(node)} was changed on two devices at once: shoal conflicts"
            )

    def _shown_path(self, node: NodeId) -> str:
        view = self._replica.view(node)
        return (view and self._applier.place(view)) or (view.name if view is not None else node.hex())

    def _finish_round(self, steps: Steps) -> None:
        self._replica.clean(steps.done)
        for node in steps.done:
            self._problems.settled(node)
            self.patience.succeeded(node)
        self._looking.look_at(steps.look)
        self._looking.was_moved(steps.moved)
        now = trio.current_time()
        for node in steps.stuck:
            self.patience.failed(node, now, soon=bool(steps.look))
        for node in steps.waiting:
            self.patience.waits(node, now)
        if steps.done:
            self.patience.moved(now)

    def _start_placing(self, views: Sequence[NodeView], nursery: trio.Nursery) -> None:
        group: list[NodeView] = []
        size = 0
        for view in dict.fromkeys(views):
            if not self._slots.free():
                return  # the rest stays dirty
            group.append(view)
            size += size_of(view)
            if len(group) == GROUP_FILES or size >= GROUP_BYTES:
                self._start_group(group, nursery)
                group, size = [], 0
        if group and self._slots.free():
            self._start_group(group, nursery)

    def _start_group(self, views: Sequence[NodeView], nursery: trio.Nursery, priority: int = 0) -> None:
        nursery.start_soon(self._place_group, self._claim(views, priority))

    def _claim(self, views: Sequence[NodeView], priority: int = 0) -> Group:
        group = self._placer.group(views, priority)
        self._placing[group] = trio.CancelScope()
        self._slots.begin(group, trio.current_time())
        self._claims.update(node for view in views for node in _touched(view))
        self.busy.update(self._claims)
        self._busy_bytes += sum(map(size_of, views))
        return group

    def _release(self, views: Sequence[NodeView]) -> None:
        for node in (node for view in views for node in _touched(view)):
            self._claims[node] -= 1
            if not self._claims[node]:
                del self._claims[node]
                self.busy.discard(node)
        self._busy_bytes -= sum(map(size_of, views))
        self._pulse.wake()

    async def _place_group(self, group: Group) -> None:
        scope, views = self._placing[group], group.views
        try:
            with scope:
                outcome = await self._placer.place(group, lambda: self._slots.news(group, trio.current_time()))
        finally:
            del self._placing[group]
            self._slots.end(group)
            views = [view for view in views if view.id not in group.taken]
            self._release(views)
        if scope.cancelled_caught:  # part of it is left out since; what came of the rest is of use
            self._leaver.look_again()
            self._placer.was_cancelled(views)
        else:
            self._settle(views, outcome)

    async def _place_whole(self, group: Group) -> None:
        """Place what has come of a group that waits for the rest."""
        if views := group.take_whole():
            try:
                outcome = await self._placer.place_whole(views, group)
            finally:
                self._release(views)
            self._settle(views, outcome)

    def _settle(self, views: Sequence[NodeView], outcome: Placed) -> None:
        """Take note of what came of placing these."""
        if not all(self._selection.wants(view.id) for view in views):
            self._leaver.look_again()
        self._looking.look_at(outcome.look)
        placed, lacking = set(outcome.placed), {*outcome.lacking, *outcome.failed}
        for view in views:
            if view.id not in placed:
                soon = view.id not in lacking
                self.patience.failed(view.copy_of or view.id, trio.current_time(), soon=soon)
        self._replica.clean(view.id for view in views if view.id in placed and self._stands(view))
        for view in views:
            if view.id in placed:
                self._problems.settled(view.copy_of or view.id)
                self.patience.succeeded(view.copy_of or view.id)
        if outcome.placed:
            self.patience.moved(trio.current_time())
            self._pulse.on_event("placed", f"{len(outcome.placed)} files")
        self._pulse.on_progress()

    def _stands(self, view: NodeView) -> bool:
        """Return whether the document still says what was placed, and nothing more, and no copy is left of before."""
        settled = view.copy_of is None and not view.conflicts and not self._index.copies(view.id)
        return settled and self._replica.view(view.id) == view


def _touched(view: NodeView) -> set[NodeId]:
    return {view.id, view.copy_of or view.id}
