"""What the devices of an account say of it to each other, directly or through a seed, which cannot read it.

A seed keeps for each account that it serves what each of its devices last said: the statements on folders, sealed with
the account's secret; those on its devices it has anyway. So a device that was off hears of new folders and devices
though no other one is on.

Key in column `meta`: b"mail" + account -> CBOR {device id: [statement...]}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cbor2

from shoal.crdt.model import DeviceId
from shoal.node.store import Store

if TYPE_CHECKING:
    from shoal.node.daemon import Node

MAIL = b"mail"
MOST_BYTES = 1 << 20  # that one device says


class Mail:
    """Of one node."""

    def __init__(self, node: Node, store: Store) -> None:
        self._node = node
        self._store = store

    def told_to(self, device: DeviceId) -> tuple[list[bytes], list[bytes]]:
        """Return what a device is told: statements on devices, and on folders, of this account or of its own."""
        node = self._node
        if node.account.is_member(device) or node.seeds.is_seed(device):
            known = node.account.invitation()
            return list(known.roster), list(known.catalog)
        for account in self._served(device):
            roster = node.sharing.shares.roster_of(account)
            return list(roster.statements) if roster is not None else [], self.kept_for(account)
        return [], []

    def take(self, device: DeviceId, roster: Sequence[bytes], catalog: Sequence[bytes]) -> None:
        """Take what a device told. Raises StoreFull."""
        node = self._node
        if node.account.is_member(device) or node.seeds.is_seed(device):
            node.account.merge(roster, catalog)
            return
        for account in self._served(device):
            self._keep(account, device, catalog)

    def kept_for(self, account: bytes) -> list[bytes]:
        """Return the statements on folders that are kept for an account."""
        return sorted({statement for each in self._kept(account).values() for statement in each})

    def erase(self, account: bytes) -> None:
        """Keep nothing for an account any more."""
        self._store.write([("meta", MAIL + account, None)], sync=False)

    def size(self, account: bytes) -> int:
        """Return how many bytes are kept for an account."""
        return len(self._store.get("meta", MAIL + account) or b"")

    def _served(self, device: DeviceId) -> list[bytes]:
        """Return the account of a device, by its own word and that account's, if this node is a seed of it: others may
        say that it is of theirs."""
        service, account = self._node.service, self._node.meeting.named.get(device)
        if service is None or account not in self._node.sharing.shares.accounts_of(device):
            return []
        return [account] if account is not None and service.serves(account) else []

    def _kept(self, account: bytes) -> dict[bytes, list[bytes]]:
        kept: dict[bytes, list[bytes]] = cbor2.loads(self._store.get("meta", MAIL + account) or b"\xa0")
        return kept

    def _keep(self, account: bytes, device: DeviceId, catalog: Sequence[bytes]) -> None:
        """Keep what a device said last; of devices that are of the account no more, nothing."""
        said = sorted(catalog)
        if sum(map(len, said)) > MOST_BYTES:
            return
        kept, roster = self._kept(account), self._node.sharing.shares.roster_of(account)
        members = roster.devices if roster is not None else {}
        service = self._node.service
        grows = sum(map(len, said)) - sum(map(len, kept.get(device, [])))
        if service is None or grows > max(0, service.room(account)):
            return
        fresh = {each: what for each, what in kept.items() if each in members} | {device: said}
        if fresh == kept:
            return
        self._store.write([("meta", MAIL + account, cbor2.dumps(fresh))], sync=True)
        for other, session in self._node.sessions.items():
            if other != device and other in members:
                session.say_hello()
