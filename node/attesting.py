"""Who has a version's bytes: what this disk has is told and proven to others, and they are asked for the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId, FolderId
from shoal.node.holdings import Held
from shoal.node.possession import Challenge, Verifier
from shoal.node.session import Session

if TYPE_CHECKING:
    from shoal.node.daemon import Node


class Attesting:
    """Both sides of it for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._verifier = Verifier(node.key.id)

    def holds(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        """Return for each version whether this disk has it, and is to have it."""
        runtime = self._node.folders.get(folder)
        return runtime.engine.leaver.holds(asked) if runtime is not None else [False] * len(asked)

    async def held_elsewhere(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        """Return for each version whether a connected device says that it has it on its disk, and is to have it."""
        held = [False] * len(asked)

        async def ask(session: Session) -> None:
            for place, yes in enumerate(await session.held.ask(folder, asked)):
                held[place] |= yes

        async with trio.open_nursery() as nursery:
            for session in self._node.sessions.values():
                if folder in session.progress:
                    nursery.start_soon(ask, session)
        return held

    async def proven_elsewhere(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        """Return for each version, which is on this disk, whether a connected device proved that it has it, too, and
        is to have it."""
        settled: set[Held] = set()
        runtime = self._node.folders.get(folder)
        if runtime is None:
            return [False] * len(asked)
        prove = partial(runtime.engine.leaver.proofs, wanted=False)
        for session in list(self._node.sessions.values()):
            open_ones = [held for held in asked if held not in settled]
            keeps = folder in session.progress and self._node.sharing.access.keeps_for_us(session.device, folder)
            if keeps and open_ones:
                proven, failed = await self._verifier.ask(session.device, session.held, folder, open_ones, prove)
                settled.update(proven)
                if failed:
                    self._node.on_misbehaved(session.device, "it says that it has what it cannot prove to have")
        return [held in settled for held in asked]

    async def prove(self, asker: DeviceId, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        """Return proofs that this disk has versions, see `possession`; empty where it has not, or is not to."""
        runtime = self._node.folders.get(folder)
        challenge = Challenge(nonce, folder, asker, self._node.key.id)
        return await runtime.engine.leaver.proofs(challenge, asked, wanted=True) if runtime else [b""] * len(asked)
