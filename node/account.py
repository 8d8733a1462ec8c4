"""This device's account: who its devices are, and which folders they have. Kept in the store, merged from peers.

An account is a roster (a DAG of signed statements on devices) and a catalog (signed, sealed statements on folders),
both grow-only sets, plus one secret of 32 bytes that every device of the account holds. A new node makes an account
of its own; pairing gives it another's, and it gives up its own then, which must have no second device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cbor2

from shoal.crdt import roster
from shoal.crdt.catalog import Catalog, FolderEntry, make_statement
from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.errors import UserError
from shoal.node.store import Store, StoreFull

ACCOUNT = b"account"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a device of the account gives a new one, over the pairing channel alone."""

    account: bytes
    secret: bytes
    roster: tuple[bytes, ...]
    catalog: tuple[bytes, ...]

    def encode(self) -> bytes:
        return cbor2.dumps([self.account, self.secret, list(self.roster), list(self.catalog)])

    @classmethod
    def decode(cls, data: bytes) -> Invitation:
        """Raises ValueError when `data` is not one."""
        try:
            account, secret, statements, catalog = cbor2.loads(data)
            fits = (
                len(account) == 32 and len(secret) == 32 and all(isinstance(s, bytes) for s in [*statements, *catalog])
            )
        except Exception as error:
            raise ValueError("the other device sent a malformed invitation") from error
        if not fits:
            raise ValueError("the other device sent a malformed invitation")
        return cls(account, secret, tuple(statements), tuple(catalog))


class Account:
    """The account's state in memory, written through to the store at each change."""

    _roster: roster.Roster
    _catalog: Catalog

    def __init__(
        self, store: Store, key: DeviceKey, name: str, now_ms: Callable[[], int], entropy: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._key = key
        self._now_ms = now_ms
        self._entropy = entropy
        self.changed: Callable[[], None] = lambda: None
        saved = store.get("meta", ACCOUNT)
        if saved is None:
            self._begin(name)
        else:
            self._take(Invitation.decode(saved))

    @property
    def id(self) -> bytes:
        return self._roster.account

    def devices(self) -> dict[DeviceId, str]:
        """Return the name of every device of the account, this one included."""
        return {device: record.name for device, record in self._roster.devices.items()}

    def is_member(self, device: DeviceId) -> bool:
        return device in self._roster.devices

    def folders(self) -> dict[FolderId, FolderEntry]:
        return self._catalog.folders()

    def folder_named(self, name: str) -> FolderEntry | None:
        """Return the folder of that name (of several, the oldest), or None."""
        named = [entry for entry in self.folders().values() if entry.name == name]
        return min(named, key=lambda entry: (entry.time_ms, entry.id), default=None)

    def add_folder(self, name: str) -> FolderEntry:
        """Make a folder with fresh keys and tell the other devices. Raises UserError when the name is taken."""
        if self.folder_named(name) is not None:
            raise UserError(
                "folder-name-taken",
                f"the account has a folder named {name!r} already",
                f"choose another --name, or join it: shoal folder join {name!r} PATH",
            )
        entry = FolderEntry(FolderId(self._entropy(16)), name, self._entropy(32), self._now_ms())
        self._catalog.add([make_statement(self.id, self._secret, self._key, entry)])
        self._save()
        self.changed()
        return entry

    def invitation_for(self, device: DeviceId, name: str) -> Invitation:
        """Add `device` to the account and return what it needs to be part of it."""
        if not self.is_member(device):
            statement = roster.add_device(self._roster, device, name, self._key, self._now_ms())
            self._merge([statement], [])
        return self.invitation()

    def invitation(self) -> Invitation:
        return Invitation(self.id, self._secret, tuple(self._roster.statements), tuple(self._catalog.statements()))

    def join(self, invitation: Invitation) -> None:
        """Give up this device's own account for the one it was invited to.

        Raises UserError when this account has other devices, or the invitation does not name this device.
        """
        if invitation.account != self.id and len(self._roster.devices) > 1:
            raise UserError(
                "already-paired",
                "this device belongs to an account with other devices",
                "pair the new device from here instead, or start with a fresh --home",
            )
        joined = roster.Roster.from_statements(invitation.roster, invitation.account)
        if joined.account != invitation.account or self._key.id not in joined.devices:
            raise UserError("bad-invitation", "the other device's account does not name this device", "pair again")
        self._write(invitation)
        self._take(invitation)
        self.changed()

    def merge(self, statements: Iterable[bytes], catalog: Iterable[bytes]) -> bool:
        """Take what a peer knows of the account; return whether any of it was news."""
        return self._merge(list(statements), list(catalog))

    def _merge(self, statements: list[bytes], catalog: list[bytes]) -> bool:
        known = set(self._roster.statements)
        fresh = [s for s in statements if s not in known]
        if fresh:
            grown = roster.Roster.from_statements([*known, *fresh], self.id)
            self._roster = grown
        news = set(self._roster.statements) != known
        news = bool(self._catalog.add(catalog)) or news
        if news:
            self._save()
            self.changed()
        return news

    def _begin(self, name: str) -> None:
        genesis = roster.genesis(self._key, name, self._now_ms())
        self._take(Invitation(roster.Roster.from_statements([genesis]).account, self._entropy(32), (genesis,), ()))
        self._save()

    def _take(self, invitation: Invitation) -> None:
        self._roster = roster.Roster.from_statements(invitation.roster)
        self._secret = invitation.secret
        self._catalog = Catalog(invitation.account, invitation.secret, self.is_member)
        self._catalog.add(invitation.catalog)

    def _save(self) -> None:
        """Write the account. Raises StoreFull; it is as it was before the change then."""
        try:
            self._write(self.invitation())
        except StoreFull:
            saved = self._store.get("meta", ACCOUNT)
            if saved is not None:
                self._take(Invitation.decode(saved))
            raise

    def _write(self, account: Invitation) -> None:
        self._store.write([("meta", ACCOUNT, account.encode())], sync=True)
