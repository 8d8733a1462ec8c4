"""Folders of others that this device holds without being able to read them: their logs, sealed and signed as they are.

So devices that are never on at the same time hear of each other's changes. The bytes of files come from who can read
them, until there are sealed packs to hold.

Key in column `meta`: `held`, CBOR [folder id...].
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import cbor2

from shoal.crdt.model import FolderId
from shoal.node.store import Store
from shoal.node.stored_logs import HeldFolder

if TYPE_CHECKING:
    from shoal.node.daemon import Node

HELD = b"held"


class Holding:
    """The held folders of one node, by id in `all`."""

    def __init__(self, node: Node, store: Store) -> None:
        self._node = node
        self._store = store
        self.all: dict[FolderId, HeldFolder] = {}

    def load(self) -> None:
        """Hold what was held before."""
        for folder in cbor2.loads(self._store.get("meta", HELD) or b"\x80"):
            self._open(FolderId(folder))

    def begin(self, folder: FolderId) -> None:
        """Hold a folder from now on."""
        if folder not in self.all:
            self._open(folder)
            self._save()
            for session in self._node.sessions.values():
                session.join(folder)

    def release(self, folder: FolderId) -> bool:
        """Hold a folder no more that is to be kept here as files; its logs stay, to be read. Return whether it was
        held."""
        held = self.all.pop(folder, None)
        if held is None:
            return False
        for session in self._node.sessions.values():
            session.leave(folder)
        return True

    def released(self) -> None:
        """What was held is kept as files now."""
        self._save()

    def follow(self) -> None:
        """Hold nothing that this account is no holder of any more."""
        access = self._node.sharing.access
        gone = [folder for folder in self.all if access.role(folder) != "holder" and not self._is_kept_for_us(folder)]
        for folder in gone:
            for session in self._node.sessions.values():
                session.leave(folder)
            self.all.pop(folder).erase()
        if gone:
            self._save()
        for held in self.all.values():
            held.keep_to_limits()

    def _is_kept_for_us(self, folder: FolderId) -> bool:
        """Return whether this device offers space to a folder of its own account that it does not have as files."""
        node = self._node
        own = folder in node.account.folders() and folder not in node.folders
        holds = node.packs.offer.size > 0 or node.packs.shelf.count(folder) > 0  # until others hold it
        return own and holds and not node.account.is_revoked

    def _open(self, folder: FolderId) -> None:
        access = self._node.sharing.access
        held = HeldFolder(self._store, folder, partial(access.is_known, folder=folder))
        held.limit = partial(access.limit, folder=folder)
        held.room = partial(self._room, folder)
        held.grown = self._node.wake_sessions
        self.all[folder] = held

    def _room(self, folder: FolderId) -> int | None:
        roster, service = self._node.sharing.shares.of(folder), self._node.service
        if service is None or roster is None:
            return None
        return service.room(roster.founder) if service.serves(roster.founder) else 0

    def _save(self) -> None:
        self._store.write([("meta", HELD, cbor2.dumps([bytes(folder) for folder in self.all]))], sync=True)
