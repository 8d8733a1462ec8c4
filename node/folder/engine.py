"""One folder's loop: wakes for the watcher, the document and time; first disk to document, then document to disk.

The halves are `looking` and `following`. Everything but the placing of files happens in this one task, so they never
see each other half done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os.path import realpath

import trio

from shoal.crdt.model import ROOT, FolderId, NodeId
from shoal.node.bulkhead import bulkhead
from shoal.node.folder.apply import Applier
from shoal.node.folder.arriving import Fetch
from shoal.node.folder.bases import TextBases
from shoal.node.folder.choosing import Chooser
from shoal.node.folder.coming import Coming
from shoal.node.folder.contents import Contents
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_kind import TROUBLE, find_rules, move_in
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.early import Early
from shoal.node.folder.filesystem import FileSystem
from shoal.node.folder.filling import Filler
from shoal.node.folder.following import Following
from shoal.node.folder.freshness import Freshness
from shoal.node.folder.ignore import IgnoreRules
from shoal.node.folder.interrupted import give_back, give_back_removed, recognise_placed
from shoal.node.folder.keeping import Keeper
from shoal.node.folder.kept import find_unknown
from shoal.node.folder.large_files import LargeFiles
from shoal.node.folder.leave import Leaver
from shoal.node.folder.linux import Linux
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.looking import Looking
from shoal.node.folder.marker import has_marker, make_places, temporaries_of, tidy
from shoal.node.folder.merging import Merger
from shoal.node.folder.metadata import Metadata
from shoal.node.folder.one_way import Mode, OneWay, versions_of
from shoal.node.folder.override import override
from shoal.node.folder.patience import RETRY
from shoal.node.folder.placing import Placer
from shoal.node.folder.problems import Problem, Problems
from shoal.node.folder.pulse import Pulse, Status
from shoal.node.folder.reading import ChunkReader
from shoal.node.folder.record import Recorder
from shoal.node.folder.resolving import Resolver
from shoal.node.folder.scan import Scanner
from shoal.node.folder.scrub import FolderScrub
from shoal.node.folder.selection import SelectedDocument, Selection
from shoal.node.folder.stash import Stash
from shoal.node.folder.watch import Watch, watch
from shoal.node.name_rules import NameRules
from shoal.node.replica import Replica
from shoal.node.store import Store

MARKER_EVERY = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class FolderState:
    """What a folder is doing. `needed_*`: changes of others that are not on this disk yet; `held`: deletions that
    wait for a person's word; `kept`: files that are left out here, and that no other device is known to have;
    `local_changes`, `not_applied`: what a folder that goes one way keeps to itself, and keeps out."""

    status: Status
    reason: str
    nodes: int
    needed_files: int
    needed_bytes: int
    held: int
    problems: tuple[Problem, ...]
    kept: int = 0
    local_changes: int = 0
    not_applied: int = 0


class FolderEngine:
    """Keeps the directory `root` the same as the replica's tree; calls `on_progress` as its state changes."""

    def __init__(
        self,
        root: str,
        store: Store,
        replica: Replica,
        fetch: Fetch,
        now_ms: Callable[[], int],
        *,
        fs: FileSystem | None = None,
        turns: DiskTurns | None = None,
        watch: Watch = watch,
        find_rules: Callable[[Disk, str], NameRules] = find_rules,
    ) -> None:
        self.metadata = Metadata(replica.staging, replica.folder)
        fs = fs or Linux(realpath(root))
        self._disk = Disk(fs, self.metadata)
        self._now_ms = now_ms
        self.root = fs.real_path(root)
        self.replica = replica
        self.index = LocalIndex(replica.staging, replica.folder)
        self.selection = Selection(replica.staging, replica.folder, replica)
        replica.rolled_back = self._rolled_back
        self.index.on_failed = replica.roll_back
        self._pulse = Pulse()
        self._watch = watch
        self._find_rules = find_rules
        self._problems = Problems(now_ms)
        self._rules = IgnoreRules(self._disk, self.root)
        self._turns = turns or DiskTurns()
        self.nested: set[FolderId] = set()  # folders of their own that are kept inside of this one
        busy: set[NodeId] = set()  # being placed or merged; changed in place, the scanner reads it
        ways = self._disk, self._turns, self.root, self.index, replica
        at = self._disk, self.root, self.index, replica
        self.early = Early(*ways[:4], fetch, self._may_come)
        self._filler = Filler(*ways, fetch, self.early)
        self._placer = Placer(*ways, self._filler, self._problems)
        self.keeper = Keeper(*ways, self._problems, now_ms, trio.current_time, self.is_idle)
        self._scanner = Scanner(*ways, self._rules, self._problems, busy, self.selection, self.nested)
        self._large = LargeFiles(
            self._disk, self._turns, self.index, replica.content_key, self._was_read, self._tell_coming
        )
        self._reader = ChunkReader(*ways, (self._filler.arriving, self._large.cut))
        fresh = Freshness(now_ms, trio.current_time)
        recorder = Recorder(*ways, self._problems, fresh, self.selection, self._large)
        self.one_way = OneWay(*at, self.selection)
        self.looking = Looking(*at, self._scanner, recorder, self._rules, self.one_way, self._pulse, self._large)
        self._bases = TextBases(*ways[:4], replica.staging, replica.folder, replica.content_key)
        self.contents = Contents(self._reader, self._bases, fetch, replica.content_key)
        stash = Stash(self._disk, self.root, replica.content_key, now_ms)
        merger = Merger(self._turns, self.index, replica, self.contents, stash)
        self.resolver = Resolver(*ways, stash, busy, self.looking.saw)
        self.chooser = Chooser(*at, self.selection, self._chosen)
        self.leaver = Leaver(*ways, self.selection, self._placer, self._problems)
        self._document = SelectedDocument(replica, self.selection, self.index)
        applier = Applier(
            *at, self._placer, self._rules, self._problems, self._document, self.chooser.mark_children, self.one_way
        )
        self._following = Following(
            self.index,
            replica,
            self._document,
            applier,
            self._placer,
            merger,
            self.chooser,
            self.leaver,
            self.selection,
            self.one_way,
            self.looking,
            self._problems,
            busy,
            self._pulse,
        )
        self.scrub = FolderScrub(*ways, self._problems, self._following.restore, self._tell_event, now_ms)
        self.on_coming: Callable[[Coming], None] = lambda coming: None
        replica.changed = self.wake
        replica.is_on_disk = lambda node: self.index.get(node) is not None

    @property
    def on_progress(self) -> Callable[[], None]:
        """Called as the folder's state changes."""
        return self._pulse.on_progress

    @on_progress.setter
    def on_progress(self, listener: Callable[[], None]) -> None:
        self._pulse.on_progress = listener

    @property
    def on_event(self) -> Callable[[str, str], None]:
        """Called with what happened, for people: a kind and a text."""
        return self._pulse.on_event

    @on_event.setter
    def on_event(self, listener: Callable[[str, str], None]) -> None:
        self._pulse.on_event = listener

    @property
    def on_arrived(self) -> Callable[[list[bytes]], None]:
        """Called with the chunks that came to this disk, as soon as others can have them."""
        return self._filler.arriving.on_added

    @on_arrived.setter
    def on_arrived(self, listener: Callable[[list[bytes]], None]) -> None:
        self._filler.arriving.on_added = listener

    def _tell_event(self, kind: str, text: str) -> None:
        self._pulse.on_event(kind, text)

    # -- asked by others ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the loop look for work."""
        self._pulse.wake()

    def retry_now(self) -> None:
        """Something that was lacking may be had now."""
        self._following.patience.clear()
        self.leaver.look_again()
        self.wake()

    def _may_come(self, near: NodeId) -> bool:
        """Return whether what is new at a node, or below it, is to be on this disk."""
        known = near == ROOT or self.replica.view(near) is not None
        return known and self.one_way.mode != "send-only" and self.selection.wants(near)

    def _tell_coming(self, coming: Coming) -> None:
        if self.one_way.mode != "receive-only" and self.selection.wants(coming.near):
            self.on_coming(coming)

    def _was_read(self, paths: set[str]) -> None:
        self.looking.look_at(paths)
        self.wake()

    def scan_soon(self) -> None:
        """Have the whole folder looked at."""
        self.looking.scan_soon()

    async def scan(self) -> None:
        """Have the whole folder looked at, and wait until that is done."""
        await self.looking.scan()

    def confirm_deletes(self) -> int:
        """The deletions that were held are meant; return how many there were."""
        return self.looking.confirm_deletes()

    def is_idle(self) -> bool:
        """Return whether disk and document agree, as far as is known here."""
        following = self._following
        quiet = self._pulse.status == "idle" and self.looking.is_done
        return quiet and not following.busy and not following.open_count

    def state(self) -> FolderState:
        """Return what the folder is doing now."""
        pulse, way, following = self._pulse, self.one_way, self._following
        status = "syncing" if pulse.status == "idle" and not self.is_idle() else pulse.status
        faults = [Problem(path, fault, self._now_ms()) for path, fault in self._rules.faults.items()]
        return FolderState(
            status,
            pulse.reason,
            self.index.count,
            following.open_count,
            following.open_bytes,
            self.looking.held.count,
            (*faults, *self._problems.all()),
            self.leaver.kept,
            len(way.local),
            len(way.aside) if way.mode == "send-only" else 0,
        )

    def set_mode(self, mode: Mode) -> None:
        """Go another way from now on; what was kept to itself or kept out is merged as after any time apart."""
        self.one_way.set_mode(mode)
        self.looking.forget_held()
        self.scan_soon()
        self.retry_now()

    def set_read_only(self, read_only: bool) -> None:
        """Whether this device may write to the folder changed, perhaps."""
        if read_only != self.replica.read_only:
            self.replica.read_only = read_only
            self.one_way.begin_anew()
            self.looking.forget_held()
            self.scan_soon()
            self.retry_now()

    async def revert(self) -> int:
        """Put back what was changed here as the others have it; return how many changes that were."""
        await self.scan()
        count = await self.one_way.revert(versions_of(self.root))
        self.scan_soon()
        self.retry_now()
        return count

    async def override(self) -> int:
        """Make this disk's state the newest for everyone; return how many nodes that were."""
        await self.scan()
        count = await override(self.replica, self._document, self.index)
        self.one_way.aside.clear()
        self.retry_now()
        return count

    def _rolled_back(self) -> None:
        self.index.load()
        self.selection.load()

    def _chosen(self) -> None:
        self._following.drop_unwanted()
        self.scan_soon()  # something else may have the name of what is wanted now
        self.retry_now()

    async def read_chunks(self, ids: Sequence[bytes]) -> list[bytes | None]:
        """Return chunks from this disk's files, each verified; fewer than asked where they have more than 4 MiB."""
        return [bytes(data) if data is not None else None for data in await self.lend_chunks(ids)]

    async def lend_chunks(self, ids: Sequence[bytes]) -> list[memoryview | None]:
        """The same, in buffers that are used again when nobody has these views any more."""
        found, damaged = await self._reader.read(ids)
        if damaged:
            self.looking.look_at(damaged)  # most often it was just edited
            self.scrub.suspect(damaged)
            self.wake()
        return found

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Trouble with the folder as a whole stops it, is shown, and is tried again."""
        while True:
            with bulkhead(f"the folder {self.root}", self._stopped):
                if not has_marker(self._disk, self.root, self.replica.folder):
                    raise NotADirectoryError("the folder, or its marker .shoal/folder, is missing: nothing is synced")
                await self._run_marked()
            await trio.sleep(RETRY)

    def _stopped(self, reason: str) -> None:
        self._pulse.set("stopped", reason)
        self._pulse.on_event("folder-stopped", reason)

    async def _run_marked(self) -> None:
        make_places(self._disk, self.root)
        self._know_the_disk()
        give_back(self._disk, self.root, self.index)
        give_back_removed(self._disk, self.root, self.index)
        recognise_placed(self._disk, self.root, self.index)
        self._placer.unsettled.clear()
        await self._tidy()
        await self._know_what_is_kept()
        self.looking.begin()
        self._following.begin()
        self.leaver.look_again()
        async with trio.open_nursery() as nursery:
            # Before the first scan, so that nothing falls between.
            await nursery.start(self._watch, self.root, self.looking.saw, self.looking.lost_track)
            nursery.start_soon(self._large.run, partial(os.path.join, self.root))
            nursery.start_soon(self.keeper.run)
            nursery.start_soon(self.scrub.run)
            nursery.start_soon(self.early.run, self.is_idle)
            try:
                while True:
                    await self._round(nursery)
            finally:
                nursery.cancel_scope.cancel()

    async def _round(self, nursery: trio.Nursery) -> None:
        self._pulse.begin_round()
        worked = await self.looking.look()
        if self.looking.knows_the_disk():
            worked = await self._following.follow(nursery) or worked
        if not self.looking.is_walking:
            worked = await self._following.leave(nursery) or worked
        if not worked:
            if self._filler.partial and not self._following.busy:
                await self._tidy()
            self._pulse.set("held" if self.looking.held else "idle")
            marker = trio.current_time() + MARKER_EVERY  # nobody tells of a disk that was unmounted
            times = self.looking.next_time(), self._following.next_time(), self.leaver.next_time()
            with trio.move_on_at(min(marker, *times)):
                if not await self._bases.keep_some():
                    await self._pulse.wait()
        if not has_marker(self._disk, self.root, self.replica.folder):
            raise NotADirectoryError("the folder, or its marker .shoal/folder, went missing")
        make_places(self._disk, self.root)

    def _know_the_disk(self) -> None:
        """Find out what names the disk can hold. Raises OSError."""
        try:
            rules = self._find_rules(self._disk, self.root)
        except OSError as error:
            if error.errno not in TROUBLE:
                raise
            rules = self.index.last_rules()  # it is full, say: other devices can be told all the same
        self.replica.hold_names(rules)
        if self.index.hold_names(rules):
            move_in(self._disk, self.root, self.index, self.replica)
        self.index.commit(sync=True)

    async def _tidy(self) -> None:
        # Not the other way round: very many nodes may be waited for, and few have a temporary.
        nodes = [node for node in temporaries_of(self._disk, self.root) if self.replica.dirty.is_marked(node)]
        keep = {self._filler.temporary(view) for node in nodes if (view := self.replica.view(node)) is not None}
        self._filler.partial = await self._turns.apart(tidy, self._disk, self.root, keep)

    async def _know_what_is_kept(self) -> None:
        known, key = set(self.index.places.kept_names()), self.replica.content_key
        for name, content in await self._turns.apart(find_unknown, self._disk, self.root, known, key):
            self.index.places.keep(name, content)
        self.index.commit()
