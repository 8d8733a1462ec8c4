"""Who may have and say what of a folder, by the account's devices and by those of the people it is shared with."""

from __future__ import annotations

from shoal.crdt.folder_roster import FolderRoster
from shoal.crdt.folder_statements import Role, rank
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.account import Account
from shoal.node.shares import Shares

HOLDER, READER, WRITER = rank("holder"), rank("reader"), rank("writer")


class Access:
    """Answers for one node."""

    def __init__(self, account: Account, shares: Shares, own: DeviceId) -> None:
        """`own`: this device."""
        self._account = account
        self._shares = shares
        self._own = own

    # -- folders -----------------------------------------------------------------------------------------------------

    def role(self, folder: FolderId) -> Role:
        """Return what this account may do with a folder that it has."""
        roster, entry = self._shares.of(folder), self._account.entry(folder)
        if roster is None:  # of one that somebody shares it is yet to come who may do what
            return "reader" if entry is not None and entry.founder else "owner"
        return roster.role(self._account.id)

    def may_write(self, folder: FolderId) -> bool:
        """Return whether this account may change a folder."""
        return rank(self.role(folder)) >= WRITER

    def may_sync(self, device: DeviceId, folder: FolderId) -> bool:
        """Return whether a device may have a folder's logs, sealed as they are."""
        return self._may(device, folder, HOLDER)

    def may_read(self, device: DeviceId, folder: FolderId) -> bool:
        """Return whether a device may have all of a folder."""
        return self._may(device, folder, READER)

    def _may(self, device: DeviceId, folder: FolderId, least: int) -> bool:
        if self._account.is_member(device):
            return True
        roster = self._shares.of(folder)
        if roster is None or not self._takes_part(roster):
            return False
        return rank(roster.role_of_device(device, accepted=True)) >= least

    def role_of_device(self, device: DeviceId, folder: FolderId) -> Role:
        """Return what a device may do with a folder: the most that an account may which it is of."""
        if self._account.is_member(device):
            return self.role(folder)
        roster = self._shares.of(folder)
        return roster.role_of_device(device, accepted=True) if roster is not None else "none"

    def keeps_for_us(self, device: DeviceId, folder: FolderId) -> bool:
        """Return whether what a device has of a folder is safe there: it is of this account, or of the one that had the
        folder first. Others may leave with it."""
        roster = self._shares.of(folder)
        if self._account.is_member(device) or roster is None:
            return self._account.is_member(device)
        founder = self._shares.roster_of(roster.founder)
        return founder is not None and device in founder.devices

    def is_known(self, device: DeviceId, folder: FolderId) -> bool:
        """Return whether a device is or was of an account that has or had a part in a folder."""
        roster = self._shares.of(folder)
        if self._account.is_known(device) or roster is None:
            return self._account.is_known(device)
        known = (self._shares.roster_of(account) for account in roster.mentioned)
        return any(each is not None and each.is_known(device) for each in known)

    def limit(self, log: LogId, folder: FolderId) -> LogHead | None:
        """Return how much of a log is taken; None for all of it."""
        roster = self._shares.of(folder)
        return None if roster is None or not roster.said_of_roles else roster.limit(log)

    # -- devices -----------------------------------------------------------------------------------------------------

    def partners(self) -> list[DeviceId]:
        """Return the devices to converse with: the account's, and those of who takes part in its folders."""
        return self._devices(accepted=True)

    def sought(self) -> list[DeviceId]:
        """Return the devices to connect to: also those of who is yet to hear that a folder is shared with it."""
        return self._devices(accepted=False)

    def is_partner(self, device: DeviceId) -> bool:
        """Return whether a device may converse with this one."""
        if self._account.is_member(device):
            return True
        return not self._account.is_revoked and any(
            self._takes_part(roster) and roster.role_of_device(device, accepted=True) != "none"
            for roster in self._shares.all.values()
        )

    def known_to(self, asker: DeviceId) -> set[DeviceId]:
        """Return the devices that another one knows of anyway, as they share a folder with it, or an account."""
        if self._account.is_member(asker):
            return {self._own, *self.partners()}
        known: set[DeviceId] = set()
        for roster in self._shares.all.values():
            if self._takes_part(roster) and roster.role_of_device(asker, accepted=True) != "none":
                for account in roster.accepted:
                    devices = self._shares.roster_of(account)
                    known |= set(devices.devices) if devices is not None else set()
        return known

    def name_of(self, device: DeviceId) -> str:
        """Return what a device is called, and whose it is where it is another's."""
        record = self._account.record(device)
        if record is not None:
            return record.name
        for account in self._shares.accounts_of(device):
            roster = self._shares.roster_of(account)
            if roster is not None:
                whose, name = self._shares.name_of(account), roster.devices[device].name
                return name if name == whose else f"{whose}'s {name}"
        return "a device"

    def accounts_of(self, device: DeviceId) -> list[bytes]:
        """Return the accounts that a device is of."""
        own = [self._account.id] if self._account.is_member(device) else []
        return own or self._shares.accounts_of(device)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _takes_part(self, roster: FolderRoster) -> bool:
        return self._account.id in roster.accepted

    def _devices(self, *, accepted: bool) -> list[DeviceId]:
        found = dict.fromkeys(self._account.peers())
        if self._account.is_revoked:
            return []
        for person in self._shares.people.values() if not accepted else ():
            seed = self._shares.roster_of(person.id) if person.is_seed else None
            found |= dict.fromkeys(seed.devices if seed is not None else ())
        for roster in self._shares.all.values():
            if not self._takes_part(roster):
                continue
            for account in roster.accepted if accepted else roster.roles:
                known = self._shares.roster_of(account)
                if account != self._account.id and known is not None:
                    found |= {d: None for d, record in known.devices.items() if not record.is_paper}
        found.pop(self._own, None)
        return list(found)
