"""Random challenges: who says to hold a piece is to show a block of it that this device picks, with its proof, and to
give it to who only reads it, too.

Who fails has a moment to say that it holds the piece no more: a disk forgets, and an honest holder notices when
asked. Where it does not, that counts; what it failed with is asked for again first. With `TRIES` failures, or with
all that it has, it holds nothing as far as this device is concerned, for a week, and the others are told, who ask for
themselves. One that is connected and leaves challenges unanswered for the grace period has failed, too. Who is not
there has not failed: the grace period is for that.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId
from shoal.node.packs.sheet import HOLDS, PART
from shoal.node.packs.wire import NotThere
from shoal.transfer import merkle
from shoal.transfer.stream import StreamClosed

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder

TRIES = 3
SETTLES = 1.0  # seconds within which one that found out itself says so
LONGEST, SHORTEST = 600.0, 1.0  # seconds between two challenges
ROUNDS = 24  # challenges in a grace period


class Auditor:
    """Of one folder."""

    def __init__(self, folder: PackFolder) -> None:
        self._folder = folder
        self._suspects: list[DeviceId] = []
        self._work = trio.Event()
        self._doubts: dict[DeviceId, set[tuple[bytes, int]]] = {}  # what a device failed with, and has not proven since
        self._silent: dict[DeviceId, float] = {}  # since when it has not answered

    def suspect(self, device: DeviceId) -> None:
        """Somebody says that a device failed: challenge it soon."""
        if device != self._folder.node.key.id and device not in self._suspects:
            self._suspects.append(device)
            self._work.set()

    async def run(self) -> None:
        """Challenge holders, until cancelled."""
        while True:
            self._work = trio.Event()
            grace = self._folder.ledger.policy().grace
            with trio.move_on_after(min(LONGEST, max(SHORTEST, grace / ROUNDS)) * random.uniform(0.5, 1.5)):
                await self._work.wait()
            while self._suspects:
                await self.examine(self._suspects.pop())
            there = [d for d in self._holders() if d in self._folder.node.sessions]
            if there:
                await self.examine(random.choice(there), once=True)

    def _holders(self) -> list[DeviceId]:
        ledger, own = self._folder.ledger, self._folder.node.key.id
        return [d for d in ledger.about if d != own and self._folder.is_believed(d) and ledger.claimed_by(d)]

    async def examine(self, device: DeviceId, *, once: bool = False) -> bool:
        """Challenge a device with pieces, those that it failed with first; with one alone if `once` and it proves that.
        Return whether it may be believed yet."""
        claimed = self._folder.ledger.claimed_by(device)
        doubted = [piece for piece in self._doubts.get(device, ()) if piece in claimed]
        others = [piece for piece in claimed if piece not in doubted]
        picked = (doubted + random.sample(others, min(TRIES, len(others))))[:TRIES]
        for pack, index in picked:
            result = await self.challenge(device, pack, index)
            if result is None:
                break
            if result and once:
                break
        doubts = self._doubts.get(device, set()) & set(claimed)
        self._doubts[device] = doubts
        grace = self._folder.ledger.policy().grace
        is_mute = trio.current_time() - self._silent.get(device, trio.current_time()) > grace
        if is_mute or (doubts and len(doubts) >= min(TRIES, len(claimed))):
            self._doubts.pop(device, None)
            self._silent.pop(device, None)
            self._folder.packs.failed_audit(self._folder, device, len(doubts))
            return False
        return True

    async def challenge(self, device: DeviceId, pack: bytes, index: int) -> bool | None:
        """Return whether a device proves to hold a piece; None where it cannot be told: it is not there, or has not yet
        said that it shares the folder with this device."""
        folder = self._folder
        form = folder.ledger.form(pack)
        session = folder.node.sessions.get(device)
        if form is None or index >= form.pieces or session is None or folder.id not in session.progress:
            return None
        part, size = form.part(index), form.size_of(index)
        block = random.randrange(-(-size // merkle.BLOCK))
        try:
            data, proof = await folder.packs.client.prove(device, folder.id, pack, part, block)
            passed = merkle.verify(form.root_of(index), size, block, data, proof)
            passed = passed and await self._gives(device, pack, part, block * merkle.BLOCK, data)
        except StreamClosed:
            if device in folder.node.sessions:
                self._silent.setdefault(device, trio.current_time())
            return None
        except NotThere:
            passed = False
        self._silent.pop(device, None)
        if not passed:
            await trio.sleep(SETTLES)
        if not folder.board.has(device, HOLDS + pack + part.to_bytes(PART)):
            return None  # it said meanwhile that it holds it no more
        if passed:
            self._doubts.get(device, set()).discard((pack, index))
        else:
            self._doubts.setdefault(device, set()).add((pack, index))
        return passed

    async def _gives(self, device: DeviceId, pack: bytes, part: int, offset: int, data: bytes) -> bool:
        """Return whether a device gives who reads the same bytes that it has just proven to have. Raises
        StreamClosed."""
        try:
            return await self._folder.packs.client.get(device, self._folder.id, pack, part, offset, len(data)) == data
        except NotThere:
            return False
