"""What is left out leaves this disk: a file only once another device said that it has this very version, and keeps it.

The question is asked beside the engine's loop, the removing is done in it. A device says yes only to what is wanted on
its own disk. So of two that leave out the same at the same time both are told no, and both keep it; and a yes is worth
nothing after the next choice that is made here. And a yes is a device's word: it proves that it has the bytes
(`node/possession.py`), or the file stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from shoal.crdt.model import ROOT, FactId, FileContent, NodeId
from shoal.node.folder.disk import Disk, is_same
from shoal.node.folder.disk_turns import DiskTurns
from shoal.node.folder.local import PRIVATE, LocalIndex, LocalNode
from shoal.node.folder.marker import SWAP
from shoal.node.folder.placing import Placer
from shoal.node.folder.problems import Problems
from shoal.node.folder.selection import Selection
from shoal.node.holdings import MOST, Held
from shoal.node.possession import Challenge, proof, samples
from shoal.node.replica import Replica

AskHeld = Callable[[Sequence[Held]], Awaitable[Sequence[bool]]]
"""Return for each version whether some connected device proved that it has it on its disk, and wants it there."""

ASK_AGAIN = 2.0  # seconds between two times that the others are asked
AT_ONCE = 100  # files that are removed between two looks at whether anything else is to be done


async def nobody(asked: Sequence[Held]) -> Sequence[bool]:
    """There is no other device."""
    return [False] * len(asked)


@dataclass(slots=True)
class _Granted:
    """What may leave, by answers that were got at a selection's epoch; `is_last`: all were asked about."""

    epoch: int
    records: list[LocalNode]
    is_last: bool = False
    done: trio.Event = field(default_factory=trio.Event)


class Leaver:
    """Takes what is left out off one folder's disk. `kept`: files that had to stay when last asked about."""

    def __init__(
        self,
        disk: Disk,
        turns: DiskTurns,
        root: str,
        index: LocalIndex,
        replica: Replica,
        selection: Selection,
        placer: Placer,
        problems: Problems,
    ) -> None:
        self._disk = disk
        self._turns = turns
        self._root = root
        self._index = index
        self._replica = replica
        self._selection = selection
        self._placer = placer
        self._problems = problems
        self.held_elsewhere: AskHeld = nobody
        self.kept = 0
        self.removed = 0
        self._due = True
        self._asked_at = float("-inf")
        self._asking = False
        self._granted: _Granted | None = None
        self._passed = trio.Event()

    # -- for other devices -------------------------------------------------------------------------------------------

    def holds(self, asked: Sequence[Held]) -> list[bool]:
        """Return for each version whether it is on this disk, as far as a look tells, and wanted here."""
        return [self._holds(node, version) for node, version in asked]

    def _holds(self, node: NodeId, version: FactId) -> bool:
        record, path = self._index.get(node), self._index.path(node)
        if record is None or path is None or record.version != version or not self._selection.wants(node):
            return False
        return self._disk.look_quietly(os.path.join(self._root, path)) == record.signature

    async def proofs(self, challenge: Challenge, asked: Sequence[Held], *, wanted: bool) -> list[bytes]:
        """Return for each version the proof that its bytes are on this disk, empty where they are not; `wanted`: or are
        not to be. The answerer proves what is wanted on its disk, the asker knows by the same what is right."""
        found: list[tuple[Held, str, LocalNode] | None] = []
        for node, version in asked:
            record, path = self._index.get(node), self._index.path(node)
            fits = record is not None and record.version == version and (not wanted or self._selection.wants(node))
            found.append(((node, version), path, record) if fits and path and record is not None else None)
        return await self._turns.apart(self._prove_all, challenge, found)

    def _prove_all(self, challenge: Challenge, found: Sequence[tuple[Held, str, LocalNode] | None]) -> list[bytes]:
        return [self._prove(challenge, *each) if each is not None else b"" for each in found]

    def _prove(self, challenge: Challenge, held: Held, path: str, record: LocalNode) -> bytes:
        full = os.path.join(self._root, path)
        if self._disk.look_quietly(full) != record.signature:
            return b""
        size = record.content.size if isinstance(record.content, FileContent) else 0
        pieces = [self._disk.read_piece(full, *place) for place in samples(challenge, held, size)]
        whole = [piece for piece in pieces if piece is not None]
        return proof(challenge, held, whole) if len(whole) == len(pieces) else b""

    # -- for the loop ------------------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """What could not leave may be able to, or more is to leave."""
        self._due = True

    def next_time(self) -> float:
        """Return when `start` is to be called again."""
        if not self._due or self._asking or not self._selection.is_used:
            return float("inf")
        return self._asked_at + ASK_AGAIN

    def start(self, nursery: trio.Nursery, wake: Callable[[], None], now: float) -> None:
        """Ask the others about what is to leave, if it is time to."""
        if not self._selection.is_used:
            self.kept = 0
            self._passed.set()
        if self.next_time() > now:
            return
        self._due, self._asking, self._asked_at = False, True, now
        nursery.start_soon(self._ask, self._selection.epoch, wake)

    def hurry(self) -> trio.Event:
        """Have it done now; return what is set when what can leave has left."""
        self._due, self._asked_at = True, float("-inf")
        self._passed = trio.Event()
        if not self._selection.is_used:
            self._passed.set()
        return self._passed

    async def _ask(self, epoch: int, wake: Callable[[], None]) -> None:
        try:
            files = [record for record in await self._leaving() if record.kind != "dir"]
            granted = [record for record in files if self._is_superseded(record)]
            settled = {record.id for record in granted}
            open_ones = [record for record in files if record.id not in settled]
            await self._hand_over(_Granted(epoch, granted), wake)
            for at in range(0, len(open_ones), MOST):
                part = [(each, each.version) for each in open_ones[at : at + MOST] if each.version is not None]
                answers = await self.held_elsewhere([(record.id, version) for record, version in part])
                granted = [record for (record, _), yes in zip(part, answers, strict=True) if yes]
                await self._hand_over(_Granted(epoch, granted), wake)
            await self._hand_over(_Granted(epoch, [], is_last=True), wake)
        finally:
            self._granted = None
            self._asking = False
            wake()

    async def _hand_over(self, granted: _Granted, wake: Callable[[], None]) -> None:
        """Have the loop remove what was granted: at once, as long as it is true."""
        self._granted = granted
        wake()
        await granted.done.wait()

    async def _leaving(self) -> list[LocalNode]:
        """Return what is on disk and left out, what is in a folder before the folder; nothing of what another folder
        keeps in its place, be there a record of it, as it was just being put there."""
        found: dict[NodeId, LocalNode] = {}
        parts = set(self._selection.parts.values())
        wanted = {node for node, wanted in self._selection.choices.items() if wanted}
        roots = [*self._selection.left_out(), *self._selection.strays]
        roots += [copy for root in roots for copy in self._index.copies(root)]
        if ROOT in roots:
            roots += self._index.children(ROOT).values()
        for root in roots:
            for count, record in enumerate(self._index.subtree(root, wanted | parts) if root not in found else ()):
                if not self._selection.wants(record.id):
                    found[record.id] = record
                if count % 500 == 499:
                    await trio.lowlevel.checkpoint()
        return list(found.values())

    def _is_superseded(self, record: LocalNode) -> bool:
        """Return whether others replaced the version, having seen it: as with any replaced file, it goes to the kept
        versions."""
        view = self._replica.view(record.id)
        return view is not None and view.copy_of is None and record.version not in view.heads

    async def carry_out(self) -> list[str] | None:
        """Remove what the others have; return paths where the disk was not as expected, None when there was nothing to
        do."""
        if self._granted is None:
            return None
        granted, self._granted = self._granted, None
        look: list[str] = []
        # Conflict copies first: they are known by the node that they are copies of.
        for count, record in enumerate(sorted(granted.records, key=lambda record: record.copy_of is None), 1):
            if granted.epoch != self._selection.epoch:
                break
            self._try(record, look)
            if count % AT_ONCE == 0:
                self._index.commit(sync=True)
                await trio.lowlevel.checkpoint()
        if granted.is_last:
            await self._finish(look)
            if granted.epoch == self._selection.epoch:
                self._passed.set()
            else:
                self._due = True
        self._index.commit(sync=True)
        granted.done.set()
        return look

    async def _finish(self, look: list[str]) -> None:
        """Remove the folders that are empty by now, and count what had to stay."""
        for record in await self._leaving():
            if record.kind == "dir" and not self._selection.leads_on(record.id):
                self._try(record, look)
        self._selection.forget_strays(lambda node: self._index.get(node) is None or self._selection.wants(node))
        self.kept = sum(record.kind != "dir" for record in await self._leaving())

    def _try(self, record: LocalNode, look: list[str]) -> None:
        path = self._index.path(record.id)
        if path is None or self._index.get(record.id) != record or self._index.copies(record.id):
            return
        if self._selection.wants(record.id):  # it was moved out meanwhile
            return
        try:
            gone = self._remove_folder(record, path) if record.kind == "dir" else self._remove(record, path)
        except OSError as error:
            self._problems.report(path, error, record.id)
            return
        if gone:
            self._index.remove(record.id)
            self._problems.clear(path)
            self.removed += record.kind != "dir"
        elif record.kind != "dir":
            look.append(path)

    def _remove(self, record: LocalNode, path: str) -> bool:
        """Return whether the file is gone: not so where it is another than was asked about."""
        full = os.path.join(self._root, path)
        found = self._disk.look(full)
        if found is None:
            return True
        if found != record.signature:
            return False
        # Aside first: someone may save it after the look. A crash leaves it where `tidy` brings it to the versions.
        aside = os.path.join(self._root, PRIVATE, "tmp", f"{record.id.hex()}{SWAP}")
        with self._disk.writable(os.path.dirname(full)):
            self._disk.rename_new(full, aside)
            if not is_same(self._disk.look(aside), record.signature):
                with contextlib.suppress(FileExistsError):
                    self._disk.rename_new(aside, full)
                return False
        if self._is_superseded(record):
            kept = self._placer.kept_path(record)
            self._disk.fs.rename(aside, kept)
            self._index.places.keep(os.path.basename(kept), record.content)
        else:
            self._disk.fs.unlink(aside)
        return True

    def _remove_folder(self, record: LocalNode, path: str) -> bool:
        if self._index.children(record.id):
            return False
        full = os.path.join(self._root, path)
        try:
            with self._disk.writable(os.path.dirname(full)):
                self._disk.fs.rmdir(full)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise OSError("it is left out on this device, but holds what is not synced, which stays") from error
            raise
        return True
