"""One joined folder at work: its replica, its engine, and the chunks it gives and takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from shoal.crdt.catalog import FolderEntry
from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId
from shoal.node.folder.engine import FolderEngine
from shoal.node.folder.listing import Lister
from shoal.node.identifiers import RandomBytes
from shoal.node.replica import Replica
from shoal.node.store import Store
from shoal.transfer.client import Fetcher


class FolderRuntime:
    """A folder of the account that is kept at `path` here."""

    def __init__(
        self,
        entry: FolderEntry,
        path: str,
        store: Store,
        key: DeviceKey,
        is_known: Callable[[DeviceId], bool],
        fetcher: Fetcher,
        now_ms: Callable[[], int],
    ) -> None:
        self.entry = entry
        self.path = path
        self._fetcher = fetcher
        self.replica = Replica(store, entry.id, entry.keys(), key, is_known, now_ms, RandomBytes())
        self.engine = FolderEngine(path, store, self.replica, self.fetch, now_ms)
        self.lister = Lister(self.engine.index, self.replica, self.engine.selection)
        self.scope = trio.CancelScope()

    def take(self, entry: FolderEntry) -> None:
        """Go by what the account says of the folder now."""
        if entry.secrets != self.entry.secrets:
            self.replica.keys = entry.keys()
        self.entry = entry

    async def run(self, hear_first: Callable[[], Awaitable[None]]) -> None:
        """Keep the folder until its scope is cancelled. Where nothing is known of it yet, `hear_first` waits for what
        others know: what is on this disk already is then recognised, and not told anew."""
        with self.scope:
            if not self.replica.frontier:
                await hear_first()
            await self.engine.run()

    def erase(self) -> None:
        """Forget all that the store knows of the folder; its files stay."""
        self.replica.erase()
        self.engine.index.erase()

    async def fetch(
        self,
        wants: Sequence[tuple[bytes, int]],
        sink: Callable[[list[tuple[bytes, bytes | memoryview]]], Awaitable[None]],
        priority: int = 0,
    ) -> list[bytes]:
        return await self._fetcher.fetch(self.entry.id, self.replica.content_key, wants, sink, priority)
