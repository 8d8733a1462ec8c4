"""This device's account: who its devices are, and which folders they have. Kept in the store, merged from peers.

An account is a roster (a DAG of signed statements on devices) and a catalog (signed, sealed statements on folders),
both grow-only sets, plus the secrets that the catalog was sealed with: the first of them is handed over in pairing, a
new one is sealed to each member when somebody is no member any more. A new node makes an account of its own; pairing
gives it another's, and it gives up its own then, which must have no second device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import cbor2
from blake3 import blake3

from shoal.crdt import roster
from shoal.crdt.catalog import Catalog, FolderEntry, make_statement
from shoal.crdt.keys import DeviceKey, Unsealable, later_epoch
from shoal.crdt.model import DeviceId, FolderId, NodeId
from shoal.crdt.roster import DeviceRecord, Roster
from shoal.crdt.statements import MAX_NAME, SECRET, open_box
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.store import Store, StoreFull
from shoal.node.vault import OPEN, Vault, is_sealed

ACCOUNT = b"account"
DISCOVERY_CONTEXT = "shoal 2026-11 account discovery key"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a device of the account gives a new one, over the pairing channel alone. `secrets`: by the hash of the
    statement that made each; the first one by the account's id."""

    account: bytes
    secrets: dict[bytes, bytes] = field(repr=False)
    roster: tuple[bytes, ...]
    catalog: tuple[bytes, ...]

    def encode(self) -> bytes:
        return cbor2.dumps([self.account, self.secrets, list(self.roster), list(self.catalog)])

    @classmethod
    def decode(cls, data: bytes) -> Invitation:
        """Raises ValueError when `data` is not one."""
        try:
            account, secrets, statements, catalog = cbor2.loads(data)
            if isinstance(secrets, bytes):  # as it was before there were several
                secrets = {account: secrets}
            texts = [account, *secrets, *secrets.values(), *statements, *catalog]
            fits = (
                all(isinstance(text, bytes) for text in texts)
                and len(account) == 32
                and all(len(secret) == SECRET for secret in secrets.values())
            )
        except Exception as error:
            raise ValueError("the other device sent a malformed invitation") from error
        if not fits or not secrets:
            raise ValueError("the other device sent a malformed invitation")
        return cls(account, dict(secrets), tuple(statements), tuple(catalog))


class Account:
    """The account's state in memory, written through to the store at each change. `changed` is called after it."""

    _roster: Roster
    _catalog: Catalog
    _secrets: dict[bytes, bytes]

    def __init__(
        self,
        store: Store,
        key: DeviceKey,
        name: str,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
        vault: Vault = OPEN,
    ) -> None:
        self._store = store
        self._vault = vault
        self._shown: tuple[tuple[Roster, int], dict[FolderId, FolderEntry]] | None = None  # as long as nothing changes
        self._key = key
        self._now_ms = now_ms
        self._entropy = entropy
        self.changed: Callable[[], None] = lambda: None
        self.is_shared: Callable[[FolderEntry], bool] = lambda entry: False  # its epochs begin with all who share it
        self.takes_part: Callable[[FolderEntry], bool] = lambda entry: True
        saved = store.get("meta", ACCOUNT)
        if saved is None:
            self._begin(name)
        else:
            self._take(self._opened(saved))
            if vault.is_sealing and not is_sealed(saved):  # a crash came between
                self._write(self.invitation())

    @property
    def id(self) -> bytes:
        return self._roster.account

    @property
    def roster(self) -> Roster:
        """Its devices, as others are told of them."""
        return self._roster

    @property
    def name(self) -> str:
        """This device's name."""
        mine = self.record(self._key.id)
        return mine.name if mine is not None else "this device"

    @property
    def is_revoked(self) -> bool:
        """Whether this device is of its account no more."""
        return self._key.id in self._roster.former

    def devices(self) -> dict[DeviceId, str]:
        """Return the name of every device of the account, this one included, also when it was revoked."""
        members = {device: record.name for device, record in self._roster.devices.items() if not record.is_paper}
        return members if self._key.id in members else {**members, self._key.id: self.name}

    def records(self) -> dict[DeviceId, DeviceRecord]:
        """Return every device that is or was of the account, the members first."""
        return {**self._roster.devices, **self._roster.former}

    def record(self, device: DeviceId) -> DeviceRecord | None:
        """Return what is known of a device that is or was of the account."""
        return self._roster.devices.get(device) or self._roster.former.get(device)

    @property
    def keys_count(self) -> int:
        """How often the account was given new secrets."""
        return len(self._roster.key_statements())

    def is_member(self, device: DeviceId) -> bool:
        return device in self._roster.devices and not self.is_revoked

    def is_known(self, device: DeviceId) -> bool:
        """Return whether a device is or was a member: what it once wrote, others may have."""
        return self._roster.is_known(device)

    def is_paper_key(self, device: DeviceId) -> bool:
        """Return whether a device is a key on paper, of this account, and not revoked."""
        return self.is_member(device) and self._roster.devices[device].is_paper

    def peers(self) -> list[DeviceId]:
        """Return the devices to talk to: none once this one was revoked."""
        return [] if self.is_revoked else [device for device in self.devices() if device != self._key.id]

    def revocation_of(self, device: DeviceId) -> list[bytes]:
        """Return what proves to a device that it was revoked."""
        return self._roster.revocation_of(device)

    def folders(self) -> dict[FolderId, FolderEntry]:
        """Return the folders that the account has, or has a part in, by id."""
        return {folder: entry for folder, entry in self._entries().items() if self.takes_part(entry)}

    def entry(self, folder: FolderId) -> FolderEntry | None:
        """Return what the catalog says of a folder, also of one that the account has no part in any more."""
        return self._entries().get(folder)

    def _entries(self) -> dict[FolderId, FolderEntry]:
        state = self._roster, self._catalog.version
        if self._shown is None or self._shown[0] != state:
            self._shown = state, self._catalog.folders()
        return self._shown[1]

    def keep(self, entry: FolderEntry) -> None:
        """Tell the account's devices of a folder, or what is new of it."""
        known = self.entry(entry.id)
        if self._say(replace(entry, time_ms=max(entry.time_ms, known.time_ms + 1 if known is not None else 0))):
            self._saved()

    def folder_named(self, name: str) -> FolderEntry | None:
        """Return the folder of that name (of several, the oldest), or None."""
        named = [entry for entry in self.folders().values() if entry.name == name]
        return min(named, key=lambda entry: (entry.time_ms, entry.id), default=None)

    def add_folder(self, name: str, *, within: tuple[FolderId, NodeId] | None = None) -> FolderEntry:
        """Make a folder with fresh keys and tell the other devices; `within`: of what it was a part. Raises UserError
        when the name is taken."""
        self.check_member()
        if self.folder_named(name) is not None:
            raise UserError(
                "folder-name-taken",
                f"the account has a folder named {name!r} already",
                f"choose another --name, or join it: shoal folder join {name!r} PATH",
            )
        secrets = ((0, self._entropy(32)),)
        entry = FolderEntry(FolderId(self._entropy(16)), name, secrets, self._now_ms(), within=within)
        self._say(entry)
        self._saved()
        return entry

    # -- devices -----------------------------------------------------------------------------------------------------

    def rename(self, device: DeviceId, name: str) -> None:
        """Give a device another name. Raises UserError."""
        self.check_member()
        name = check_device_name(name)
        if self._roster.devices[device].name != name:
            self._state([roster.rename_device(self._roster, device, name, self._key, self._now_ms())])
            self._saved()

    def revoke(self, device: DeviceId, *, erase: bool = False) -> None:
        """Have a device be of the account no more, for good: what is written from now on, it cannot read. `erase`: it
        is to erase its copies when it hears of that. Raises UserError."""
        self.check_member()
        if device == self._key.id:
            raise UserError(
                "own-device", "a device does not revoke itself", "do it from another of your devices", EXIT_USAGE, 400
            )
        if erase and not self._roster.let_in(self._key.id, device):
            raise UserError(
                "not-its-elder",
                "only a device that let another in can have its copies erased",
                "revoke it without --erase, or from the device that it was paired with",
            )
        self._state([roster.revoke_device(self._roster, device, self._key, self._now_ms(), erase=erase)])
        self._rotate()
        self._saved()

    def add_paper(self, paper: DeviceKey, name: str) -> None:
        """Add a key on paper, which may add devices. Raises UserError."""
        self.check_member()
        self._state([roster.add_paper(self._roster, paper, name, self._key, self._now_ms())])
        self._rotate()
        self._saved()

    def tend(self) -> bool:
        """Do what is due after others changed who is a member at the same time: new secrets, and folders that only a
        former member vouched for. Return whether anything was."""
        if self._key.id not in self._roster.devices or not self._rotate():
            return False
        self._saved()
        return True

    def _rotate(self) -> bool:
        """Give the members a secret that nobody else has, and each folder an epoch; return whether that was due. A key
        on paper is given it, too: a seed keeps what is sealed to it, and cannot open it."""
        current = self._roster.current_key()
        has_paper = any(record.is_paper for record in self._roster.devices.values())
        due = (bool(self._roster.former) or has_paper) and current is None
        if due:
            secret = self._entropy(SECRET)
            self._state([roster.new_key(self._roster, secret, self._key, self._now_ms())])
        for entry, exposed in self._catalog.to_say_again(self._sealing_secret(), self._is_exposed):
            secrets = entry.secrets
            if exposed and not self.is_shared(entry):
                secret = self._entropy(32)
                secrets = (*secrets, (later_epoch(secrets[-1][0], secret), secret))
            self._say(replace(entry, secrets=secrets, time_ms=entry.time_ms + 1))
            due = True
        return due

    def _is_exposed(self, secret: bytes) -> bool:
        """Return whether somebody who is no member may know a secret of the account."""
        made = next((said for said in self._roster.key_statements() if self._secrets.get(said.hash) == secret), None)
        return self._roster.is_exposed(made) if made is not None else bool(self._roster.former)

    def _say(self, entry: FolderEntry) -> bool:
        """Say what a folder is; return whether that was news, and can be read."""
        return bool(self._catalog.add([make_statement(self.id, self._sealing_secret(), self._key, entry)]))

    def _sealing_secret(self) -> bytes:
        current = self._roster.current_key()
        if current is not None and current.hash in self._secrets:
            return self._secrets[current.hash]
        return self._newest_first()[0]

    def _newest_first(self) -> list[bytes]:
        made = [said.hash for said in reversed(self._roster.key_statements())]
        return [self._secrets[hash_] for hash_ in (*made, self.id) if hash_ in self._secrets]

    # -- others ------------------------------------------------------------------------------------------------------

    def invitation_for(self, device: DeviceId, name: str) -> Invitation:
        """Add `device` to the account and return what it needs to be part of it. Raises UserError."""
        self.check_member()
        if not self.is_member(device):
            if self.is_known(device):
                raise UserError(
                    "device-revoked",
                    "that device was revoked, and cannot come back",
                    "start it with a fresh --home, and pair that",
                )
            self._state([roster.add_device(self._roster, device, name, self._key, self._now_ms())])
            self._rotate()
            self._saved()
        return self.invitation()

    def invitation(self) -> Invitation:
        return Invitation(
            self.id, dict(self._secrets), tuple(self._roster.statements), tuple(self._catalog.statements())
        )

    @property
    def discovery(self) -> bytes:
        """What the keys are made of under which the account's devices find each other: it changes with its secrets."""
        return blake3(self._sealing_secret(), derive_key_context=DISCOVERY_CONTEXT).digest()

    def check_member(self) -> None:
        """Raises UserError when this device was revoked."""
        if self.is_revoked:
            raise UserError(
                "device-revoked",
                "this device was removed from its account",
                "its files are still here; to sync them again, start with a fresh --home and pair that",
            )

    def check_alone(self) -> None:
        """Raises UserError when this device cannot become one of another account."""
        self.check_member()
        if len(self._roster.devices) > 1:
            raise UserError(
                "already-paired",
                "this device belongs to an account with other devices",
                "add the new device from here (shoal pair), or start over with a fresh --home",
            )

    def join(self, invitation: Invitation) -> None:
        """Give up this device's own account for the one it was invited to.

        Raises UserError when this account has other devices, or the invitation does not name this device.
        """
        if invitation.account != self.id:
            self.check_alone()
        try:
            joined = Roster.from_statements(invitation.roster, invitation.account)
        except roster.NoGenesis:
            joined = None
        if joined is None or self._key.id not in joined.devices:
            raise UserError("bad-invitation", "the other device's account does not name this device", "pair again")
        self._write(invitation)
        self._take(invitation)
        self.changed()

    def merge(self, statements: Iterable[bytes], catalog: Iterable[bytes]) -> bool:
        """Take what a peer knows of the account; return whether any of it was news."""
        news = self._state(statements)
        news = bool(self._catalog.add(catalog)) or news
        if news:
            self._saved()
        return news

    def write_with(self, vault: Vault) -> None:
        """Have another vault seal what is written, and write it. Raises StoreFull; the one before counts then."""
        before, self._vault = self._vault, vault
        try:
            self._write(self.invitation())
        except StoreFull:
            self._vault = before
            raise

    # -- inside ------------------------------------------------------------------------------------------------------

    def _state(self, statements: Iterable[bytes]) -> bool:
        """Take statements on devices; return whether any was news."""
        known = set(self._roster.statements)
        fresh = [said for said in statements if said not in known]
        if not fresh:
            return False
        self._roster = Roster.from_statements([*known, *fresh], self.id)
        self._learn_secrets()
        return set(self._roster.statements) != known

    def _learn_secrets(self) -> None:
        for said in self._roster.key_statements():
            if said.hash not in self._secrets:
                try:
                    self._secrets[said.hash] = open_box(self._key, said)
                except Unsealable:
                    continue

    def _begin(self, name: str) -> None:
        first = roster.genesis(self._key, name, self._now_ms())
        account = Roster.from_statements([first]).account
        self._take(Invitation(account, {account: self._entropy(SECRET)}, (first,), ()))
        self._write(self.invitation())

    def _take(self, invitation: Invitation) -> None:
        self._roster = Roster.from_statements(invitation.roster, invitation.account)
        self._secrets = dict(invitation.secrets)
        self._learn_secrets()
        self._catalog = Catalog(
            invitation.account, self._newest_first, self.is_known, lambda device: device in self._roster.devices
        )
        self._catalog.add(invitation.catalog)

    def _saved(self) -> None:
        """Write the account, and say that it changed. Raises StoreFull; it is as it was before the change then."""
        try:
            self._write(self.invitation())
        except StoreFull:
            saved = self._store.get("meta", ACCOUNT)
            if saved is not None:
                self._take(self._opened(saved))
            raise
        self.changed()

    def _write(self, account: Invitation) -> None:
        self._store.write([("meta", ACCOUNT, self._vault.seal(account.encode(), ACCOUNT))], sync=True)

    def _opened(self, saved: bytes) -> Invitation:
        return Invitation.decode(self._vault.open(saved, ACCOUNT))


def check_device_name(name: str) -> str:
    """Return the name without spaces around it. Raises UserError for one that no device can have."""
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UserError(
            "bad-name",
            f"{name!r} cannot be a device's name",
            f"it has 1 to {MAX_NAME} characters, all of them visible",
            EXIT_USAGE,
            400,
        )
    return name
