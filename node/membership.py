"""Who is of the account, as the node acts on it: devices are renamed and revoked, one that was revoked hears of it.

A revoked device finds that nobody converses with it, and asks why, over `/shoal/membership/1`:

    answer = CBOR [statements]: those by which the asking device was revoked, with all that they rest on; none where it
             was not

It needs no trust in who answers: the statements are signed. It keeps its files then, unless it was to erase them, and
talks to nobody.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from typing import TYPE_CHECKING

import trio

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt import codec
from shoal.crdt.model import DeviceId
from shoal.node.account import Account
from shoal.node.errors import UserError
from shoal.node.folder.disk import Disk
from shoal.node.folder.linux import Linux
from shoal.node.folder.marker import has_marker
from shoal.node.store import StoreFull
from shoal.transfer.stream import ByteStream, FrameStream, FrameTooLarge, StreamClosed

if TYPE_CHECKING:
    from shoal.node.daemon import Node
    from shoal.node.runtime import FolderRuntime

PROTOCOL = "/shoal/membership/1"
MAX_ANSWER = 4 * 1024 * 1024
ANSWER_WITHIN = 10.0  # seconds
TOLD_WITHIN = 2.0  # seconds for which a device that was just revoked is listened to, so that it hears of it
TEND_EVERY = 20.0  # seconds, and as many more at most, so that not all devices do it at once


class Membership:
    """The account's devices, for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._revoked = False  # and that was acted on
        self._dismissed: list[DeviceId] = []  # that are yet to hear of it
        self._known = node.account.records()
        self._keys = node.account.keys_count
        self._id = node.account.id

    @property
    def _account(self) -> Account:
        return self._node.account

    async def run(self) -> None:
        """Do what is due after others changed the account at the same time, until cancelled."""
        while True:
            await trio.sleep(TEND_EVERY * (1 + random.random()))
            with contextlib.suppress(StoreFull):  # then the next time
                self._account.tend()

    # -- asked by people ---------------------------------------------------------------------------------------------

    def find(self, text: str) -> DeviceId:
        """Return the member of that name, or whose id begins so. Raises UserError."""
        members = {device: record for device, record in self._account.records().items() if record.revoked_ms is None}
        ids = {device: peer_id_text(device) for device in members}
        exact = [device for device in members if text in (members[device].name, ids[device])]
        found = exact or [device for device in members if len(text) >= 6 and ids[device].endswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(f"{members[device].name} {ids[device][-8:]}" for device in found)
            raise UserError("ambiguous-device", f"several devices are named {text!r}", f"give an id's end: {several}")
        raise UserError("no-such-device", f"the account has no device {text!r}", "see: shoal device list", status=404)

    def rename(self, text: str, name: str) -> DeviceId:
        """Give a device another name; return which it is. Raises UserError."""
        device = self.find(text)
        self._account.rename(device, name)
        return device

    def revoke(self, text: str, *, erase: bool) -> DeviceId:
        """Remove a device from the account, for good; return which it is. Raises UserError."""
        device = self.find(text)
        if device != self._node.key.id:
            self._node.sharing.vouch_for(device)
        self._account.revoke(device, erase=erase)
        self._node.sharing.cut_device(device)
        return device

    # -- between devices ---------------------------------------------------------------------------------------------

    async def serve(self, stream: ByteStream) -> None:
        """Tell a device that it was revoked."""
        frames = FrameStream(stream, MAX_ANSWER)
        with trio.move_on_after(ANSWER_WITHIN):
            await frames.send(codec.encode(self._account.revocation_of(DeviceId(stream.peer))))
            await frames.aclose()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await stream.reset()

    async def ask(self, device: DeviceId) -> None:
        """Ask a device that does not converse whether this one was revoked."""
        with trio.move_on_after(ANSWER_WITHIN):
            try:
                stream = await self._node.host.open(device, PROTOCOL)
            except StreamClosed:
                return
            try:
                answer = await FrameStream(stream, MAX_ANSWER).receive()
                said = codec.as_list(codec.decode(answer or b"\x80", MAX_ANSWER))
                self._account.merge([codec.as_bytes(statement) for statement in said], [])
            except (StreamClosed, FrameTooLarge, codec.Malformed, StoreFull):
                return
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await stream.reset()

    # -- what comes of it --------------------------------------------------------------------------------------------

    def account_changed(self) -> None:
        """Follow what the account says now."""
        node, account = self._node, self._account
        self._tell_of_changes()
        dismissed = [device for device in node.sessions if account.is_known(device) and not account.is_member(device)]
        self._dismissed = [] if account.is_revoked else dismissed
        self.trust()
        if not account.is_revoked:
            for device in dismissed:
                node.sessions[device].dismiss(account.revocation_of(device))
            if dismissed:
                node.start(self._part)
        for folder, entry in account.folders().items():
            if folder in node.folders:
                node.folders[folder].take(entry)
        if account.is_revoked and not self._revoked:
            self._revoked = True
            self._was_revoked()

    async def _part(self) -> None:
        """End what is left of conversations with devices that were told that they are of the account no more."""
        await trio.sleep(TOLD_WITHIN)
        self._dismissed = []
        self.trust()

    def trust(self) -> None:
        """Keep connections to the devices that are to be talked to."""
        wanted = [*self._node.sharing.access.sought(), *self._dismissed]
        self._node.peering.trust(device for device in wanted if not self._node.bans.is_banned(device))

    def _tell_of_changes(self) -> None:
        """Say what became of the account's devices and keys, whoever did it."""
        account, events = self._account, self._node.events
        before, self._known = self._known, account.records()
        if account.id != self._id:
            self._id, before = account.id, {}
        for device, record in self._known.items():
            was, id_ = before.get(device), peer_id_text(device)
            if was is None and record.revoked_ms is None and device != self._node.key.id:
                events.add("device-added", f"{record.name} is of the account", device=id_)
            if record.revoked_ms is not None and was is not None and was.revoked_ms is None:
                told = " and is to erase its copies" if record.erase else ""
                events.add("device-revoked", f"{record.name} is of the account no more{told}", device=id_)
            if was is not None and was.name != record.name:
                events.add("device-renamed", f"{was.name} is called {record.name} now", device=id_)
        if account.keys_count > self._keys:
            events.add("keys-rotated", "the account's keys were renewed")
        self._keys = account.keys_count

    def _was_revoked(self) -> None:
        record = self._account.record(self._node.key.id)
        erase = record is not None and record.erase
        self._node.events.add(
            "revoked",
            "this device was removed from its account: "
            + ("its copies are erased" if erase else "nothing is synced any more, its files are kept"),
        )
        if erase:
            for runtime in list(self._node.folders.values()):
                self._node.start(self._erase, runtime)

    async def _erase(self, runtime: FolderRuntime) -> None:
        """Remove a folder's files, and all that is known of it."""
        self._node.stop_folder(runtime)
        if not has_marker(Disk(Linux()), runtime.path, runtime.entry.id):
            return  # something else is there, or its disk is not
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_empty, runtime.path)
            with contextlib.suppress(StoreFull):
                runtime.erase()
            self._node.save_joined()


def _empty(path: str) -> None:
    """Remove what is in a folder; links are not followed."""
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
