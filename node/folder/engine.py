"""One folder's loop: wakes for the watcher, the document and time; first disk to document, then document to disk.

Everything but the placing of files happens in this one task, so the two halves never see each other half done. Placing
waits for peers and for the disk, and runs beside, a few groups at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import trio

from shoal.crdt.model import FileContent, NodeId, NodeView
from shoal.node.bulkhead import bulkhead
from shoal.node.folder.apply import Applier, Steps
from shoal.node.folder.bases import TextBases
from shoal.node.folder.choosing import Chooser
from shoal.node.folder.contents import Contents
from shoal.node.folder.disk import Disk
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.filesystem import FileSystem
from shoal.node.folder.freshness import Freshness
from shoal.node.folder.held import HeldDeletions, Sightings
from shoal.node.folder.ignore import RULE_FILES, IgnoreRules
from shoal.node.folder.interrupted import recognise_placed
from shoal.node.folder.keeping import Keeper
from shoal.node.folder.kept import find_unknown
from shoal.node.folder.leave import Leaver
from shoal.node.folder.linux import Linux
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.marker import has_marker, make_places, tidy
from shoal.node.folder.merging import Merger, Outcome
from shoal.node.folder.one_way import Mode, OneWay, versions_of
from shoal.node.folder.override import override
from shoal.node.folder.patience import RETRY, Patience
from shoal.node.folder.placing import Fetch, Placer
from shoal.node.folder.problems import Problem, Problems
from shoal.node.folder.reading import ChunkReader
from shoal.node.folder.record import Recorder
from shoal.node.folder.resolving import Resolver
from shoal.node.folder.scan import Findings, Scanner, Walk
from shoal.node.folder.scrub import FolderScrub
from shoal.node.folder.selection import SelectedDocument, Selection
from shoal.node.folder.stash import Stash
from shoal.node.folder.watch import Watch, watch
from shoal.node.replica import Replica
from shoal.node.store import Store
from shoal.transfer.chunking import FileChanged

GROUP_FILES = 500
GROUP_BYTES = 16 * 1024 * 1024
GROUPS = 3  # placed side by side
GRACE = 0.2  # seconds that a missing name may turn up elsewhere, as a move
RESCAN = 15 * 60.0
MARKER_EVERY = 5.0
COME_BACK = 1.0  # seconds from the first of the files that come back to a look at them all
FIRST_PIECE = 1.0  # seconds for which a look at everything is let alone
PIECE = 0.1  # seconds of it between which other work has its turn
WALK_FILES = 4000  # new or changed ones that are told of before it goes on
FRESH = 3.0  # seconds within which a file that was just written is old enough to be read
REMEMBER = 10.0  # seconds for which news of a path may still be on their way, or wait

Status = Literal["starting", "scanning", "syncing", "idle", "held", "stopped"]


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
    ) -> None:
        self._disk = Disk(fs or Linux())
        self._now_ms = now_ms
        self.root = self._disk.fs.real_path(root)
        self.replica = replica
        self.index = LocalIndex(replica.staging, replica.folder)
        self.selection = Selection(replica.staging, replica.folder, replica)
        replica.rolled_back = self._rolled_back
        self.on_progress: Callable[[], None] = lambda: None
        self.on_event: Callable[[str, str], None] = lambda kind, text: None
        self._watch = watch
        self._problems = Problems(now_ms)
        self._rules = IgnoreRules(self._disk, self.root)
        self._turns = turns or DiskTurns()
        self._busy: set[NodeId] = set()  # being placed; changed in place, the scanner reads it
        ways = self._disk, self._turns, self.root, self.index, replica
        self._placer = Placer(*ways, fetch, self._problems)
        self._reader = ChunkReader(*ways)
        self.keeper = Keeper(*ways, self._problems, now_ms, trio.current_time)
        self._scanner = Scanner(*ways, self._rules, self._problems, self._busy, self.selection)
        self._bases = TextBases(*ways[:4], replica.staging, replica.folder, replica.content_key)
        self.contents = Contents(self._reader, self._bases, fetch, replica.content_key)
        stash = Stash(self._disk, self.root, replica.content_key, now_ms)
        self._merger = Merger(self._turns, self.index, replica, self.contents, stash)
        self.resolver = Resolver(*ways, stash, self._busy, self._saw)
        self._told = set(replica.conflicted)  # the conflicts that people were told of
        self._recorder = Recorder(*ways, self._problems, Freshness(now_ms, trio.current_time), self.selection)
        at = self._disk, self.root, self.index, replica
        self.chooser = Chooser(*at, self.selection, self._chosen)
        self.leaver = Leaver(*at, self.selection, self._placer, self._problems)
        document = SelectedDocument(replica, self.selection, self.index)
        self.one_way = OneWay(*at, self.selection)
        self._applier = Applier(
            *at, self._placer, self._rules, self._problems, document, self.chooser.mark_children, self._may_tell
        )
        self._document = document
        self._placing: dict[trio.CancelScope, list[NodeId]] = {}
        self.scrub = FolderScrub(
            *ways, self._problems, self._restore, lambda kind, text: self.on_event(kind, text), now_ms
        )
        self._status: Status = "starting"
        self._reason = ""
        self._paths: set[str] = set()
        self._later: dict[str, float] = {}  # path -> when to look at it
        self._missing_since: dict[str, float] = {}
        self._patience = Patience()
        self._moved: deque[tuple[float, str, str]] = deque()  # until when to think of it, old path, new path
        self._busy_bytes = 0
        self._groups = 0
        self._held = HeldDeletions(self._scanner.count_missing)
        self._sightings = Sightings()
        self._told_before: set[str] = set()  # what was seen to change before the present walk began
        self._telling = False  # the document is being told of what was found
        self._next_scan = 0.0
        self._scan_due = True
        self._scanned = trio.Event()  # set by the next walk that begins
        self._walk: Walk | None = None
        self._walking = self._scanned  # set by the present one
        self._walked_at = 0.0
        self._confirm_once = False
        self._awake = trio.Event()
        replica.changed = self.wake
        replica.is_on_disk = lambda node: self.index.get(node) is not None

    # -- asked by others ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the loop look for work."""
        self._awake.set()

    def retry_now(self) -> None:
        """Something that was lacking may be had now."""
        self._patience.clear()
        self.leaver.look_again()
        self.wake()

    def scan_soon(self) -> None:
        """Have the whole folder looked at."""
        self._scan_due = True
        self.wake()

    async def scan(self) -> None:
        """Have the whole folder looked at, and wait until that is done."""
        scanned = self._scanned
        self.scan_soon()
        if self._status != "stopped":
            await scanned.wait()

    def confirm_deletes(self) -> int:
        """The deletions that were held are meant; return how many there were."""
        count = self._held.count
        if not count:
            return 0
        self._held.release(self._held.nodes)
        self._scan_due = True
        self._confirm_once = True
        self.wake()
        return count

    def is_idle(self) -> bool:
        """Return whether disk and document agree, as far as is known here."""
        looked = not self._paths and not self._later and not self._scan_due and self._walk is None
        quiet = self._status == "idle" and looked and not self._telling
        return quiet and not self._busy and not self._missing_since and not self._open_count

    @property
    def _open_count(self) -> int:
        return self.replica.dirty.count - len(self.one_way.aside)

    def state(self) -> FolderState:
        """Return what the folder is doing now."""
        marks = self.replica.dirty
        way = self.one_way
        size = max(0, marks.bytes - way.aside_bytes - self._busy_bytes + self._placer.wanted_bytes)
        held = self._held.count
        status = "syncing" if self._status == "idle" and not self.is_idle() else self._status
        faults = [Problem(path, fault, self._now_ms()) for path, fault in self._rules.faults.items()]
        problems = (*faults, *self._problems.all())
        open_count, not_applied = self._open_count, len(way.aside) if way.mode == "send-only" else 0
        aside = self.leaver.kept, len(way.local), not_applied
        return FolderState(status, self._reason, self.index.count, open_count, size, held, problems, *aside)

    def set_mode(self, mode: Mode) -> None:
        """Go another way from now on; what was kept to itself or kept out is merged as after any time apart."""
        self.one_way.set_mode(mode)
        self._held.release(self._held.nodes)
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
        for scope, nodes in self._placing.items():
            if not all(map(self.selection.wants, nodes)):
                scope.cancel()
        self.scan_soon()  # something else may have the name of what is wanted now
        self.retry_now()

    async def read_chunks(self, ids: Sequence[bytes]) -> list[bytes | None]:
        """Return chunks from the files on this disk, each verified; fewer than asked once about 4 MiB are read."""
        found, damaged = await self._reader.read(ids)
        if damaged:
            self._paths |= damaged  # most often it was just edited
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
        self._set("stopped", reason)
        self.on_event("folder-stopped", reason)

    async def _run_marked(self) -> None:
        make_places(self._disk, self.root)
        await self._tidy()
        await self._know_what_is_kept()
        recognise_placed(self._disk, self.root, self.index)
        self._scan_due, self._walk = True, None
        self._busy.clear()
        self._busy_bytes = self._groups = 0
        self.leaver.look_again()
        async with trio.open_nursery() as nursery:
            # Before the first scan, so that nothing falls between.
            await nursery.start(self._watch, self.root, self._saw, self._lost_track)
            nursery.start_soon(self.keeper.run)
            nursery.start_soon(self.scrub.run)
            self._next_scan = trio.current_time() + RESCAN
            try:
                while True:
                    self._awake = trio.Event()
                    if trio.current_time() >= self._next_scan:
                        self._scan_due = True
                    if self._scan_due:
                        self._next_scan = trio.current_time() + RESCAN
                    worked = await self._disk_to_document()
                    if self._knows_the_disk():
                        worked = await self._document_to_disk(nursery) or worked
                    if self._walk is None:
                        worked = await self._leave(nursery) or worked
                    if not worked:
                        if self._placer.partial and not self._busy:
                            await self._tidy()
                        self._set("held" if self._held else "idle", "")
                        look = trio.current_time() + MARKER_EVERY  # nobody tells of a disk that was unmounted
                        with trio.move_on_at(min(look, self._next_scan, self._next_time())):
                            if not await self._bases.keep_some():
                                await self._awake.wait()
                    if not has_marker(self._disk, self.root, self.replica.folder):
                        raise NotADirectoryError("the folder, or its marker .shoal/folder, went missing")
                    make_places(self._disk, self.root)
            finally:
                nursery.cancel_scope.cancel()

    def _knows_the_disk(self) -> bool:
        """Return whether this folder was ever looked at as a whole: before, what is here already would be fetched. What
        is being written to is not waited for."""
        waited = not self._later or trio.current_time() - self._walked_at > FRESH
        if self._walk is None and waited:
            self.index.set_walked()
        return self.index.walked

    async def _tidy(self) -> None:
        views = [view for node in self.replica.dirty.first(100_000) if (view := self.replica.view(node)) is not None]
        keep = {self._placer.temporary(view) for view in views}
        self._placer.partial = await self._turns.apart(tidy, self._disk, self.root, keep)

    async def _know_what_is_kept(self) -> None:
        known, key = set(self.index.places.kept_names()), self.replica.content_key
        for name, content in await self._turns.apart(find_unknown, self._disk, self.root, known, key):
            self.index.places.keep(name, content)
        self.index.commit()

    def _saw(self, paths: set[str]) -> None:
        self._paths |= paths
        self._sightings.add(paths)
        self.wake()

    def _lost_track(self) -> None:
        self._sightings.lost = True
        self.scan_soon()

    def _next_time(self) -> float:
        times = [*self._later.values(), *(since + GRACE for since in self._missing_since.values())]
        return min([*times, self._patience.next_time(), self.leaver.next_time()])

    async def _disk_to_document(self) -> bool:
        now = trio.current_time()
        due = {path for path, when in self._later.items() if when <= now}
        for path in due:
            del self._later[path]
        paths, self._paths = self._paths | due, set()
        if self._walk is None:
            paths |= {path for path, since in self._missing_since.items() if since + GRACE <= now}
        worked = False
        if self._scan_due and self._walk is None:
            self._scan_due = False
            self._rules.refresh()
            self._told_before = self._sightings.take()
            self._walk = self._scanner.begin_walk()
            self._walking, self._scanned = self._scanned, trio.Event()
            worked = await self._walk_on()
            if self._walk is not None:
                self._paths |= paths  # the walk comes to them, but late
                self._sightings.add(self._told_before)
            return worked
        if paths:
            paths |= self._where_now(paths, now)
            if not paths.isdisjoint(RULE_FILES) and self._rules.refresh():
                self.scan_soon()  # what was left out before may not be now
            told = self._sightings.take(paths)
            findings = await self._scanner.look_at(paths)
            self._let_missing_wait(findings, told, now)
            self._look_for_held(paths)
            await self._recorder.find_by_content(findings)
            await self._tell(findings, looked_at=paths)
            worked = not findings.empty
            self.on_progress()
        return worked | await self._walk_on() if self._walk is not None else worked

    async def _walk_on(self) -> bool:
        """Look at a piece of the whole folder: a short folder is done in one, and a long one delays nothing else."""
        walk = self._walk
        assert walk is not None
        self._set("scanning", "")
        if self.one_way.mode == "receive-only":  # what it may not follow must be known as a whole
            await self._scanner.go_on(walk)
        else:
            until = trio.current_time() + (PIECE if walk.pieces else FIRST_PIECE)
            await self._scanner.go_on(walk, until, WALK_FILES)
        findings = walk.findings
        if not walk.done:
            if len(findings.appeared) + len(findings.changed) >= WALK_FILES:
                findings.missing = self._scanner.still_missing(findings.missing)
                await self._recorder.find_by_content(findings)
                await self._tell(findings, more=True)
                walk.findings = Findings(missing=findings.missing)
            return True
        if not has_marker(self._disk, self.root, self.replica.folder):
            raise NotADirectoryError("the folder, or its marker .shoal/folder, went missing")
        if walk.pieces > 1:
            findings.missing = self._scanner.still_missing(findings.missing)
        await self._recorder.find_by_content(findings)
        if self.one_way.mode != "receive-only":
            told = self._told_before if walk.pieces <= 1 else self._sightings.take(self._told_before)
            self._hold_mass(findings, told)
        await self._tell(findings)
        self._walk = None
        self._walked_at = trio.current_time()
        self._walking.set()
        self.on_progress()
        return not findings.empty

    async def _tell(self, findings: Findings, *, looked_at: set[str] | None = None, more: bool = False) -> None:
        """`looked_at`: the paths, None for all; `more`: others follow."""
        self._telling = True
        try:
            if self.one_way.mode == "receive-only":
                later = await self.one_way.withhold(findings, looked_at, self._recorder)
            else:
                later = await self._recorder.commit(findings, more=more)
                if not findings.empty:
                    self.one_way.aside.clear()
        finally:
            self._telling = False
        for path, seconds in later.items():
            self._later[path] = trio.current_time() + seconds

    def _where_now(self, paths: set[str], now: float) -> set[str]:
        """Return where paths are by now that were heard of before the folder they are in was moved, by this engine."""
        while self._moved and self._moved[0][0] <= now:
            self._moved.popleft()
        found: set[str] = set()
        for _, old, new in self._moved:
            for path in [path for path in paths | found if path.startswith(old + "/")]:
                found.add(new + path[len(old) :])
                self._sightings.moved(path, new + path[len(old) :])
        return found

    def _hold_mass(self, findings: Findings, told: set[str]) -> None:
        moved = self._recorder.moved(findings)
        told |= self._sightings.take(findings.missing.values())
        unseen = {node: path for node, path in findings.missing.items() if node not in moved and path not in told}
        confirmed, self._confirm_once = self._confirm_once, False
        if unseen and self._sightings.explain(self._scanner.paths_of(unseen), told):
            unseen = {}
        self._sightings.lost = self._sightings.lost and self._scan_due
        if confirmed:
            return
        before = bool(self._held)
        held = self._held.judge(unseen, findings.replaced.keys() - moved, moved, self.index.count)
        findings.missing = {node: path for node, path in findings.missing.items() if node not in held}
        if held and not before:
            count = self._held.count
            self.on_event("deletions-held", f"{count} files and folders are gone; waiting for confirmation")

    def _let_missing_wait(self, findings: Findings, told: set[str], now: float) -> None:
        """A missing name gets a moment, in which its inode may turn up elsewhere. What nobody saw go, and was met with
        by chance, is for a look at everything to decide on."""
        waiting = {}
        for node, path in list(findings.missing.items()):
            if path not in told and self._held.covers(path):
                del findings.missing[node]
                continue
            since = self._missing_since.get(path, now)
            if since + GRACE > now or self._walk is not None:  # the walk may come to it elsewhere
                waiting[path] = since
                self._sightings.add({path} & told)
                findings.waiting[node] = findings.missing.pop(node)
            elif path not in told:
                self.scan_soon()
                del findings.missing[node]
        for path, since in self._missing_since.items():
            if since + GRACE > now or self._walk is not None:
                waiting.setdefault(path, since)
        self._missing_since = waiting
        if self._held:  # of which some were seen to go: those are meant
            self._held.release(findings.missing)

    def _look_for_held(self, paths: set[str]) -> None:
        """What is held may be coming back: then a look at everything tells what is gone yet."""
        back = (self._disk.look_quietly(os.path.join(self.root, path)) for path in self._held.of(paths))
        if any(signature is not None for signature in back):
            self._next_scan = min(self._next_scan, trio.current_time() + COME_BACK)

    async def _leave(self, nursery: trio.Nursery) -> bool:
        self.leaver.start(nursery, self.wake, trio.current_time())
        look = await self.leaver.carry_out()
        self._paths |= set(look or ())
        if look is not None:
            self.on_progress()
        return bool(look)

    def _may_tell(self) -> bool:
        return self.one_way.mode == "both"

    async def _document_to_disk(self, nursery: trio.Nursery) -> bool:
        self.selection.document_changed()
        if self.selection.wishes:
            self.chooser.resolve_wishes()
        skip = self._busy | self._patience.resting(trio.current_time())
        room = (GROUPS - self._groups) * GROUP_FILES
        skip |= self._held.nodes | self.one_way.aside.keys()
        marked = self.replica.dirty.first(room, skip) if room else []
        nodes = self.one_way.apply_to(marked, self._document, self._busy)
        if len(nodes) < len(marked):
            self.on_progress()
            self.wake()  # there may be more than were looked at
        if not nodes:
            return False
        self._set("syncing", "")
        if self._may_tell():
            for node in nodes:
                self._merger.fold_twin(node)
            merging = [node for node in nodes if self._merger.wants(node)]
            for node in merging:
                self._busy.add(node)
                nursery.start_soon(self._merge, node)
            nodes = [node for node in nodes if node not in self._busy]
        if self.chooser.follow(nodes):
            self.leaver.look_again()
        steps = await self._applier.apply(nodes, self._busy)
        self._finish_round(steps)
        self._start_placing(steps.place, nursery)
        self.on_progress()
        return True

    async def _merge(self, node: NodeId) -> None:
        outcome: Outcome = "left"
        try:
            outcome = await self._merger.settle(node)
        except (OSError, FileChanged) as error:  # a full disk, most often: it stays a conflict
            self._problems.report(self._shown_path(node), error, node)
        finally:
            self._busy.discard(node)
            self.wake()
        self._tell_of_conflict(node, outcome)

    def _tell_of_conflict(self, node: NodeId, outcome: Outcome) -> None:
        self._told &= self.replica.conflicted
        if outcome == "merged":
            self.on_event("merged", f"{self._shown_path(node)}: what two devices changed was merged")
        if outcome == "left" and node in self.replica.conflicted - self._told:
            self._told.add(node)
            self.on_event("conflict", f"{self._shown_path(node)} was changed on two devices at once: shoal conflicts")

    def _shown_path(self, node: NodeId) -> str:
        view = self.replica.view(node)
        return (view and self._applier.place(view)) or (view.name if view is not None else node.hex())

    def _finish_round(self, steps: Steps) -> None:
        self.replica.clean(steps.done)
        for node in steps.done:
            self._problems.settled(node)
            self._patience.succeeded(node)
        self._paths |= set(steps.look)
        now = trio.current_time()
        self._moved += [(now + REMEMBER, old, new) for old, new in steps.moved]
        for node in steps.stuck:
            self._patience.failed(node, now, soon=bool(steps.look))
        for node in steps.waiting:
            self._patience.waits(node, now)
        if steps.done:
            self._patience.moved(now)

    def _start_placing(self, views: Sequence[NodeView], nursery: trio.Nursery) -> None:
        group: list[NodeView] = []
        size = 0
        for view in dict.fromkeys(views):
            if self._groups >= GROUPS:
                return  # the rest stays dirty
            group.append(view)
            size += view.version.content.size if isinstance(view.version.content, FileContent) else 0
            if len(group) == GROUP_FILES or size >= GROUP_BYTES:
                self._start_group(group, nursery)
                group, size = [], 0
        if group and self._groups < GROUPS:
            self._start_group(group, nursery)

    def _start_group(self, group: Sequence[NodeView], nursery: trio.Nursery) -> None:
        nursery.start_soon(self._place_group, list(group), *self._claim(group))

    def _claim(self, group: Sequence[NodeView]) -> tuple[set[NodeId], int]:
        self._groups += 1
        owners = {view.copy_of or view.id for view in group}
        self._busy |= owners | {view.id for view in group}
        size = sum(view.version.content.size for view in group if isinstance(view.version.content, FileContent))
        self._busy_bytes += size
        return owners, size

    async def _restore(self, node: NodeId) -> bool:
        """Put a file's right bytes in the place of damaged ones, which are kept; return whether that could be done."""
        view, record = self.replica.view(node), self.index.get(node)
        if view is None or record is None or self._busy & {node, view.copy_of or node}:
            return False
        await self._place_group([view], *self._claim([view]))
        now = self.index.get(node)
        return now is not None and now.signature != record.signature

    async def _place_group(self, group: list[NodeView], owners: set[NodeId], size: int) -> None:
        scope = trio.CancelScope()
        self._placing[scope] = [view.id for view in group]
        try:
            with scope:
                outcome = await self._placer.place(group)
        finally:
            del self._placing[scope]
            self._groups -= 1
            self._busy_bytes -= size
            self._busy -= owners | {view.id for view in group}
            self.wake()
        if not all(self.selection.wants(view.id) for view in group):
            self.leaver.look_again()
        if scope.cancelled_caught:  # part of it is left out since; what came of the rest is of use
            self._placer.partial |= {self._placer.temporary(view) for view in group}
            return
        self._paths |= set(outcome.look)
        placed, lacking = set(outcome.placed), {*outcome.lacking, *outcome.failed}
        for view in group:
            if view.id not in placed:
                soon = view.id not in lacking
                self._patience.failed(view.copy_of or view.id, trio.current_time(), soon=soon)
        self.replica.clean(view.id for view in group if view.id in placed and self._stands(view))
        for view in group:
            if view.id in placed:
                self._problems.settled(view.copy_of or view.id)
                self._patience.succeeded(view.copy_of or view.id)
        if outcome.placed:
            self._patience.moved(trio.current_time())
            self.on_event("placed", f"{len(outcome.placed)} files")
        self.on_progress()

    def _stands(self, view: NodeView) -> bool:
        """Return whether the document still says what was placed, and nothing more, and no copy is left of before."""
        settled = view.copy_of is None and not view.conflicts and not self.index.copies(view.id)
        return settled and self.replica.view(view.id) == view

    def _set(self, status: Status, reason: str) -> None:
        if (status, reason) != (self._status, self._reason):
            self._status, self._reason = status, reason
            self.on_progress()
