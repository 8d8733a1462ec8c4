"""Random challenges: who says to hold a piece is to show a block of it that this device picks, with its proof, and to
give it to who only reads it, too.

A holder that cannot is asked of `TRIES` pieces in all, at once; who fails with all of them holds nothing as far as this
device is concerned, for a week, and the others are told, who ask for themselves. One that fails with some only is taken
at its word no more for those: its own scrub, which it begins then, finds what is wrong. Who is not there, or does not
answer in time, has not failed: the grace period is for that.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId
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
        self.passed = 0
        self.refused = 0

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
        """Challenge a device with one piece, and if it fails, or not `once`, with others; return whether it passed."""
        claimed = self._folder.ledger.claimed_by(device)
        picked = random.sample(claimed, min(TRIES, len(claimed)))
        results: list[bool] = []
        for pack, index in picked:
            result = await self.challenge(device, pack, index)
            if result is None:
                return True  # it is not there
            results.append(result)
            if once and result:
                return True
        if results and not any(results):
            self._folder.packs.failed_audit(self._folder, device, len(results))
            return False
        return True

    async def challenge(self, device: DeviceId, pack: bytes, index: int) -> bool | None:
        """Return whether a device proves to hold a piece; None where it does not answer."""
        folder = self._folder
        declared = folder.ledger.declared(pack)
        if declared is None or index >= declared.pieces:
            return None
        size = declared.size_of(index)
        block = random.randrange(-(-size // merkle.BLOCK))
        try:
            data, proof = await folder.packs.client.prove(device, folder.id, pack, index, block)
        except StreamClosed:
            return None
        except NotThere:
            passed = False
        else:
            passed = merkle.verify(declared.root_of(index), size, block, data, proof)
            if passed and not await self._gives(device, pack, index, block * merkle.BLOCK, data):
                passed = False
        if not passed:
            await trio.sleep(SETTLES)
        if not folder.board.has(device, b"h" + pack + bytes([index])):
            return None  # it said meanwhile that it holds it no more
        self.passed += passed
        self.refused += not passed
        return passed

    async def _gives(self, device: DeviceId, pack: bytes, index: int, offset: int, data: bytes) -> bool:
        """Return whether a device gives who reads the same bytes that it has just proven to have."""
        try:
            given = await self._folder.packs.client.get(device, self._folder.id, pack, index, offset, len(data))
        except NotThere:
            return False
        except StreamClosed:
            return True  # it cannot be told
        return given == data
