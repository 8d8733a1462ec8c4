"""Keeping a folder's packs few, of use, and as its policy says. One of the devices that have the files does it at a
time.

    adopting      what a device said that has no part in the folder any more is said again
    splitting     packs are said anew as the policy splits them
    merging       many small packs become one
    retiring      of packs of which less than half is of use, that is packed anew; only who packed a pack knows that the
                  rest is of no use: another device may not have heard of it
    dropping      a pack that is superseded by such is dropped

A pack is dropped only when all of it that is of use is in others which can lose at least as many holders as it can.
Holders keep what was dropped for the grace period, and devices that have the files pack what is in no pack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import trio
import trio.lowlevel

from shoal.node.packs.forming import MOST_CHUNKS, split
from shoal.node.packs.sheet import DECLARED, Declared
from shoal.transfer import packs
from shoal.transfer.placement import spare

if TYPE_CHECKING:
    from shoal.node.packs.folder import PackFolder
    from shoal.node.packs.making import Packer

SMALL = packs.PACK_SIZE // 2
MANY_SMALL = 16  # small packs that are made one
RETIRE_EVERY = 3600.0  # seconds between two looks for packs that are of little use
SLICE = 100  # packs looked at between two turns of others

Claims = dict[bytes, dict[bytes, set[int]]]


class Tidier:
    """Of one folder that is kept here."""

    def __init__(self, folder: PackFolder, packer: Packer) -> None:
        self._folder = folder
        self._packer = packer
        self._replaced: dict[bytes, bytes] = {}  # packs that another takes the place of -> that one
        self._looked: tuple[int, int] = (-1, -1)
        self._retired_at = trio.current_time()

    async def look(self) -> None:
        """Do what is due, if anything changed since the last time."""
        folder, runtime = self._folder, self._folder.runtime
        grace = folder.ledger.policy().grace
        retires = trio.current_time() - self._retired_at >= min(RETIRE_EVERY, grace)
        seen = folder.ledger.changes, len(folder.node.sessions)
        if runtime is None or (seen == self._looked and not retires and not self._replaced) or not self._is_first():
            return
        if not folder.is_plain() or not runtime.engine.is_idle():
            return  # what is yet to come to this disk is of use, and not on it
        self._looked = seen
        small = await self._look_at_each()
        if len(small) >= MANY_SMALL or sum(size for size, _ in small) >= 2 * packs.PACK_SIZE:
            await self._merge([pack for _, pack in sorted(small)])
        if retires:
            self._retired_at = trio.current_time()
            await self._retire()
        await self._drop()
        folder.publish()

    def _is_first(self) -> bool:
        own = self._folder.node.key.id
        there = [d for d in self._folder.ledger.plain() if d in self._folder.node.sessions and self._folder.says(d)]
        return own <= min(there, default=own)

    async def _look_at_each(self) -> list[tuple[int, bytes]]:
        """Adopt and split what is to be; return the small packs."""
        folder, ledger = self._folder, self._folder.ledger
        said, access = ledger.policy(), folder.node.sharing.access
        small = []
        for number, pack in enumerate(ledger.packs()):
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            form = ledger.form(pack)
            if form is None:
                continue
            if all(access.role_of_device(device, folder.id) == "none" for device in ledger.declarers(pack)):
                self._say_again(pack)
            if (form.k, form.m) != (said.policy.k, said.policy.m):
                await self._split_anew(pack)
            if form.size < SMALL and pack not in self._replaced:
                small.append((form.size, pack))
        return small

    def _say_again(self, pack: bytes) -> None:
        declared = self._folder.ledger.declared(pack)
        if declared is not None:
            self._folder.declare(pack, declared)

    async def _split_anew(self, pack: bytes) -> None:
        said, declared = self._folder.ledger.policy(), self._folder.ledger.declared(pack)
        if declared is None:
            return
        if not said.policy.is_erasure:
            form = replace(declared.form, k=0, m=0, roots=(), time_ms=said.time_ms)
        else:
            data = await self._packer.rebuilt(pack)
            if data is None:
                return  # not all of it is here: it stays as it is, and is repaired so
            form = await split(declared.form.size, declared.form.root, data, said)
        self._folder.declare(pack, Declared(form, declared.epoch, declared.sealed))
        self._folder.publish()

    async def _merge(self, small: Sequence[bytes]) -> None:
        """Pack the chunks of small packs as one."""
        chunks: dict[bytes, None] = {}
        size, merged = 0, []
        for pack in small:
            form, listed = self._folder.ledger.form(pack), self._folder.chunks_of(pack)
            if form is None or listed is None:
                continue
            if not self._is_own(pack) and not all(self._is_here(chunk) for chunk, _ in listed):
                continue
            if size + form.size > packs.PACK_SIZE or len(chunks) + len(listed) > MOST_CHUNKS:
                break
            chunks |= dict.fromkeys(chunk for chunk, _ in listed)
            size += form.size
            merged.append(pack)
        made = await self._packer.pack(list(chunks)) if len(merged) > 1 else None
        if made is not None:
            self._replaced |= {pack: made for pack in merged if pack != made}

    async def _retire(self) -> None:
        """Pack anew what is of use of packs that this device packed, where it is less than half."""
        folder = self._folder
        for number, pack in enumerate(folder.ledger.packs()):
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            form = folder.ledger.form(pack)
            if form is None or pack in self._replaced or not self._is_own(pack):
                continue
            used = {chunk: size for chunk, size in folder.chunks_of(pack) or () if self._is_here(chunk)}
            if 2 * sum(used.values()) < form.size:
                made = await self._packer.pack(list(used)) if used else pack
                if made is not None:
                    self._replaced[pack] = made

    async def _drop(self) -> None:
        """Drop packs whose place others have taken, safely."""
        folder, runtime = self._folder, self._folder.runtime
        claims = folder.ledger.claims()
        for pack, made in list(self._replaced.items()):
            listed = folder.chunks_of(pack)
            if listed is None or runtime is None or not runtime.engine.is_idle():
                del self._replaced[pack]
                continue
            if made != pack and self._can_lose(made, claims) < self._can_lose(pack, claims):
                continue  # not yet
            del self._replaced[pack]
            knows = self._is_own(pack)  # that what is not here is of no use
            if all(self._is_in(chunk, made, pack) or (knows and not self._is_here(chunk)) for chunk, _ in listed):
                folder.drop(pack)
                folder.publish()

    def _can_lose(self, pack: bytes, claims: Claims) -> float:
        """Return how many of a pack's holders can be lost before it is; what has the files counts for nothing."""
        policy = self._folder.policy_of(pack)
        return spare(claims.get(pack, {}), policy) if policy is not None else -math.inf

    def _is_own(self, pack: bytes) -> bool:
        return self._folder.board.has(self._folder.node.key.id, DECLARED + pack)

    def _is_in(self, chunk: bytes, made: bytes, pack: bytes) -> bool:
        return made != pack and any(place.pack == made for place in self._folder.places(chunk))

    def _is_here(self, chunk: bytes) -> bool:
        """Return whether a file, or a version that is kept, has a chunk."""
        runtime = self._folder.runtime
        return runtime is not None and next(iter(runtime.engine.index.sources(chunk)), None) is not None
