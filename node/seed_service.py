"""Being a seed: whom this node serves, and how much of each account it holds.

What others share with it as a holder is accepted by itself: from everybody where the seed is open, else from accounts
that are allowed. Key in column `meta`: `seed`, CBOR {"open": bool, "quota": bytes, "allowed": {account: name}}.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import cbor2

from shoal.crdt.model import DeviceId
from shoal.node.errors import UserError
from shoal.node.store import Store, StoreFull

if TYPE_CHECKING:
    from shoal.node.daemon import Node

SEED = b"seed"
QUOTA = 10 << 30  # bytes of sealed logs and packs by account
MOST_ACCOUNTS = 10_000
MOST_FOLDERS = 1000  # of an account
RESERVE = 1 << 30  # bytes of the disk that are left free


@dataclass(frozen=True, slots=True)
class Policy:
    """`is_open`: whether everybody is served; `quota`: bytes held of each account; `allowed`: account ids, with what
    they are called."""

    is_open: bool = False
    quota: int = QUOTA
    allowed: Mapping[bytes, str] = field(default_factory=dict)


class SeedService:
    """Of one node that is a seed."""

    def __init__(self, node: Node, store: Store) -> None:
        self._node = node
        self._store = store
        self.policy = Policy()
        saved = store.get("meta", SEED)
        if saved is not None:
            said = cbor2.loads(saved)
            self.policy = Policy(said["open"], said["quota"], said["allowed"])

    async def run(self) -> None:
        """Accept what is to be held, until cancelled."""
        while True:
            changed = self._node.sharing.changed
            for offer in self._node.sharing.offered():
                if offer.role == "holder" and self._has_room_for(offer.roster.founder):
                    with contextlib.suppress(UserError, StoreFull):
                        self._node.sharing.accept(offer.roster, None)
            await changed.wait()

    def _has_room_for(self, account: bytes) -> bool:
        founders = [roster.founder for roster in self._node.sharing.shares.held()]
        is_known = account in founders or len(set(founders)) < MOST_ACCOUNTS
        return self.serves(account) and is_known and founders.count(account) < MOST_FOLDERS

    def serves(self, account: bytes) -> bool:
        """Return whether an account may use this seed."""
        return self.policy.is_open or account in self.policy.allowed

    def serves_device(self, device: DeviceId) -> bool:
        """Return whether a device may have this seed relay for it."""
        return self.policy.is_open or any(map(self.serves, self._node.sharing.shares.accounts_of(device)))

    def room(self, account: bytes) -> int:
        """Return how many bytes more may be held of an account; below 0 when its quota was lowered, or the disk is
        about full."""
        free = shutil.disk_usage(self._node.home.path).free
        return min(self.policy.quota - self.used(account), free - RESERVE)

    def used(self, account: bytes) -> int:
        """Return how many bytes are held of an account."""
        held = self._node.holding.all
        shares = self._node.sharing.shares
        logs = sum(held[each.folder].size for each in shares.held() if each.founder == account and each.folder in held)
        packs = sum(self._node.packs.shelf.used(each.folder) for each in shares.held() if each.founder == account)
        return logs + packs + self._node.mail.size(account)

    def accounts(self) -> dict[bytes, str]:
        """Return whom it serves, as far as it knows, with what they are called."""
        shares = self._node.sharing.shares
        founders = {roster.founder for roster in shares.held()}
        return {**{each: shares.name_of(each) for each in founders}, **self.policy.allowed}

    def set(self, *, is_open: bool | None = None, quota: int | None = None) -> None:
        """Change the policy. Raises StoreFull."""
        policy = self.policy
        policy = policy if is_open is None else replace(policy, is_open=is_open)
        self._save(policy if quota is None else replace(policy, quota=quota))

    def allow(self, account: bytes, name: str) -> None:
        """Serve an account. Raises UserError, StoreFull."""
        if len(self.policy.allowed) >= MOST_ACCOUNTS:
            raise UserError("too-many", f"a seed serves {MOST_ACCOUNTS} accounts by name at most", "make it open")
        self._save(replace(self.policy, allowed={**self.policy.allowed, account: name}))

    def deny(self, account: bytes) -> None:
        """Serve an account no more: what is held of it is erased. Raises StoreFull."""
        allowed = {each: name for each, name in self.policy.allowed.items() if each != account}
        self._save(replace(self.policy, allowed=allowed))
        if not self.serves(account):
            self.forget(account)

    def forget(self, account: bytes) -> None:
        """Hold nothing of an account any more."""
        for roster in self._node.sharing.shares.held():
            if roster.founder == account:
                with contextlib.suppress(UserError, StoreFull):
                    self._node.sharing.leave(roster)
        self._node.mail.erase(account)

    def _save(self, policy: Policy) -> None:
        rows = {"open": policy.is_open, "quota": policy.quota, "allowed": dict(policy.allowed)}
        self._store.write([("meta", SEED, cbor2.dumps(rows))], sync=True)
        self.policy = policy
        self._node.sharing.wake()
