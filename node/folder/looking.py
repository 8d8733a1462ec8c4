"""From disk to document: what is to be looked at, and when; and what was found, told.

Paths are looked at as the watcher tells of them; everything at the start, when asked for, and now and then. A look at
everything is taken in pieces, so that a long one delays nothing else. What is gone has to be believed: a name may turn
up elsewhere in a moment, and very many that nobody saw go are held (`held`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable

import trio

from shoal.node.folder.disk import Disk
from shoal.node.folder.held import HeldDeletions, Sightings
from shoal.node.folder.ignore import RULE_FILES, IgnoreRules
from shoal.node.folder.large_files import LargeFiles
from shoal.node.folder.local import LocalIndex
from shoal.node.folder.marker import has_marker
from shoal.node.folder.one_way import OneWay
from shoal.node.folder.pulse import Pulse
from shoal.node.folder.record import Recorder
from shoal.node.folder.scan import Findings, Scanner, Walk
from shoal.node.replica import Replica

GRACE = 0.2  # seconds that a missing name may turn up elsewhere, as a move
RESCAN = 15 * 60.0
COME_BACK = 1.0  # seconds from the first of the files that come back to a look at them all
FIRST_PIECE = 1.0  # seconds for which a look at everything is let alone
SHORT = 100_000  # names that may be looked at in these; of more the first piece is as short as the others
PIECE = 0.1  # seconds of it between which other work has its turn
WALK_FILES = 4000  # new or changed ones that are told of before it goes on
LONG = 3600.0  # seconds for which the reading of large files is waited for
FRESH = 3.0  # seconds within which a file that was just written is old enough to be read
REMEMBER = 10.0  # seconds for which news of a path may still be on their way, or wait


class Looking:
    """The disk-to-document half of one folder."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        index: LocalIndex,
        replica: Replica,
        scanner: Scanner,
        recorder: Recorder,
        rules: IgnoreRules,
        one_way: OneWay,
        pulse: Pulse,
        large: LargeFiles,
    ) -> None:
        self._large = large
        self._disk = disk
        self._root = root
        self._index = index
        self._replica = replica
        self._scanner = scanner
        self._recorder = recorder
        self._rules = rules
        self._one_way = one_way
        self._pulse = pulse
        self._paths: set[str] = set()
        self._later: dict[str, float] = {}  # path -> when to look at it
        self._missing_since: dict[str, float] = {}
        self._moved: deque[tuple[float, str, str]] = deque()  # until when to think of it, old path, new path
        self.held = HeldDeletions(scanner.count_missing)
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

    # -- asked by others ---------------------------------------------------------------------------------------------

    def saw(self, paths: set[str]) -> None:
        """The watcher tells of changes."""
        self._paths |= paths
        self._sightings.add(paths)
        self._pulse.wake()

    def lost_track(self) -> None:
        """The watcher could not tell of all changes."""
        self._sightings.lost = True
        self.scan_soon()

    def look_at(self, paths: Iterable[str]) -> None:
        """Have these looked at, though nobody told of a change."""
        self._paths |= set(paths)

    def was_moved(self, moves: Iterable[tuple[str, str]]) -> None:
        """The engine moved folders, old path and new path each: news of before may still name the old ones."""
        until = trio.current_time() + REMEMBER
        self._moved += [(until, old, new) for old, new in moves]

    def scan_soon(self) -> None:
        """Have the whole folder looked at."""
        self._scan_due = True
        self._pulse.wake()

    async def scan(self) -> None:
        """Have the whole folder looked at, and wait until that is done."""
        scanned = self._scanned
        self.scan_soon()
        if self._pulse.status != "stopped":
            await scanned.wait()

    def confirm_deletes(self) -> int:
        """The deletions that were held are meant; return how many there were."""
        count = self.held.count
        if not count:
            return 0
        self.forget_held()
        self._confirm_once = True
        self.scan_soon()
        return count

    def forget_held(self) -> None:
        """Judge anew of what is held."""
        self.held.release(self.held.nodes)

    # -- asked by the loop -------------------------------------------------------------------------------------------

    @property
    def is_walking(self) -> bool:
        """Whether a look at everything is under way."""
        return self._walk is not None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to look at or to tell."""
        looked = not self._paths and not self._later and not self._scan_due and self._walk is None
        return looked and not self._telling and not self._missing_since

    def begin(self) -> None:
        """The folder starts: look at everything."""
        self._scan_due, self._walk = True, None
        self._next_scan = trio.current_time() + RESCAN

    def next_time(self) -> float:
        """Return when there is something to look at."""
        times = [*self._later.values(), *(since + GRACE for since in self._missing_since.values())]
        return min([*times, self._next_scan])

    def knows_the_disk(self) -> bool:
        """Return whether this folder was ever looked at as a whole: before, what is here already would be fetched. What
        is being written to is not waited for."""
        since = trio.current_time() - self._walked_at
        waited = (not self._later or since > FRESH) and (not self._large.busy or since > LONG)
        if self._walk is None and waited:
            self._index.set_walked()
        return self._index.walked

    async def look(self) -> bool:
        """Look at what is due, and tell the document; return whether anything differed. Raises OSError."""
        now = trio.current_time()
        if now >= self._next_scan:
            self._scan_due = True
        if self._scan_due:
            self._next_scan = now + RESCAN
        due = {path for path, when in self._later.items() if when <= now}
        for path in due:
            del self._later[path]
        paths, self._paths = self._paths | due, set()
        for path in paths:
            self._later.pop(path, None)
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
            self._pulse.on_progress()
        return worked | await self._walk_on() if self._walk is not None else worked

    async def _walk_on(self) -> bool:
        """Look at a piece of the whole folder: a short folder is done in one, and a long one delays nothing else."""
        walk = self._walk
        assert walk is not None
        self._pulse.set("scanning")
        if self._one_way.mode == "receive-only":  # what it may not follow must be known as a whole
            await self._scanner.go_on(walk)
        else:
            is_long = walk.pieces or self._index.count > SHORT
            until = trio.current_time() + (PIECE if is_long else FIRST_PIECE)
            await self._scanner.go_on(walk, until, WALK_FILES)
        findings = walk.findings
        if not walk.done:
            if len(findings.appeared) + len(findings.changed) >= WALK_FILES:
                findings.missing = self._scanner.still_missing(findings.missing)
                await self._recorder.find_by_content(findings)
                await self._tell(findings, more=True)
                walk.findings = Findings(missing=findings.missing)
            return True
        if not has_marker(self._disk, self._root, self._replica.folder):
            raise NotADirectoryError("the folder, or its marker .shoal/folder, went missing")
        if walk.pieces > 1:
            findings.missing = self._scanner.still_missing(findings.missing)
        await self._recorder.find_by_content(findings)
        if self._one_way.mode != "receive-only":
            told = self._told_before if walk.pieces <= 1 else self._sightings.take(self._told_before)
            self._hold_mass(findings, told)
        await self._tell(findings)
        self._walk = None
        self._walked_at = trio.current_time()
        self._walking.set()
        self._pulse.on_progress()
        return not findings.empty

    async def _tell(self, findings: Findings, *, looked_at: set[str] | None = None, more: bool = False) -> None:
        """`looked_at`: the paths, None for all; `more`: others follow."""
        self._telling = True
        try:
            if self._one_way.mode == "receive-only":
                later = await self._one_way.withhold(findings, looked_at, self._recorder)
            else:
                later = await self._recorder.commit(findings, more=more)
                if not findings.empty:
                    self._one_way.aside.clear()
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
        before = bool(self.held)
        held = self.held.judge(unseen, findings.replaced.keys() - moved, moved, self._index.count)
        findings.missing = {node: path for node, path in findings.missing.items() if node not in held}
        if held and not before:
            count = self.held.count
            self._pulse.on_event("deletions-held", f"{count} files and folders are gone; waiting for confirmation")

    def _let_missing_wait(self, findings: Findings, told: set[str], now: float) -> None:
        """A missing name gets a moment, in which its inode may turn up elsewhere. What nobody saw go, and was met with
        by chance, is for a look at everything to decide on."""
        waiting = {}
        for node, path in list(findings.missing.items()):
            if path not in told and self.held.covers(path):
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
        if self.held:  # of which some were seen to go: those are meant
            self.held.release(findings.missing)

    def _look_for_held(self, paths: set[str]) -> None:
        """What is held may be coming back: then a look at everything tells what is gone yet."""
        back = (self._disk.look_quietly(os.path.join(self._root, path)) for path in self.held.of(paths))
        if any(signature is not None for signature in back):
            self._next_scan = min(self._next_scan, trio.current_time() + COME_BACK)
