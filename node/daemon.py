"""The node: composes store, account, folders, network and sessions, and does what the API asks.

Nothing here decides about files, metadata or bytes; this is who knows whom.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import cbor2
import trio

from shoal.bootstrap.addressbook import AddressBook
from shoal.bootstrap.bulk import BulkPort
from shoal.bootstrap.host import Host
from shoal.bootstrap.pairing import PROTOCOL as PAIR
from shoal.bootstrap.peerid import device_from_text, peer_id_text
from shoal.bootstrap.peering import Peering
from shoal.crdt.catalog import FolderEntry
from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.account import Account, Invitation
from shoal.node.attesting import Attesting
from shoal.node.audit import Audit
from shoal.node.backup import BACKUP, FOLDERS, back_up
from shoal.node.bans import Bans
from shoal.node.bulkhead import bulkhead
from shoal.node.conversations import Conversations
from shoal.node.errors import UserError
from shoal.node.events import EventLog
from shoal.node.finding import Finding
from shoal.node.folder.coming import Coming
from shoal.node.folder.disk import Disk
from shoal.node.folder.linux import Linux
from shoal.node.folder.marker import make_marker
from shoal.node.folder_path import check_folder_name, check_folder_path
from shoal.node.holding import Holding
from shoal.node.home import Home
from shoal.node.instance import is_copy, mark_own
from shoal.node.joining import Joining
from shoal.node.limits import Limits
from shoal.node.mail import Mail
from shoal.node.meeting import PROTOCOL as SHARE
from shoal.node.meeting import Meeting
from shoal.node.membership import PROTOCOL as MEMBERSHIP
from shoal.node.membership import Membership
from shoal.node.nearby import Nearby
from shoal.node.packs.bucket import backend_of
from shoal.node.packs.service import Packs
from shoal.node.packs.shelf import Shelf
from shoal.node.packs.wire import PROTOCOL as PACKS
from shoal.node.pairing import Pairing
from shoal.node.protection import Protection
from shoal.node.recovery import PROTOCOL as RECOVER
from shoal.node.recovery import Recovery
from shoal.node.runtime import FolderRuntime
from shoal.node.seed_service import SeedService
from shoal.node.seeds import Seeds
from shoal.node.serving import Serving
from shoal.node.session import PROTOCOL as SYNC
from shoal.node.session import Session
from shoal.node.sharing import Sharing
from shoal.node.speeds import Speeds
from shoal.node.store import Store, StoreFull
from shoal.node.subfolders import SubFolders
from shoal.node.surroundings import Logs
from shoal.node.swarm import Swarm
from shoal.node.users import Users
from shoal.node.vault import OPEN, Vault
from shoal.node.ways import Ways
from shoal.transfer.buffers import shared
from shoal.transfer.bulk import PROTOCOL as BULK
from shoal.transfer.client import Fetcher
from shoal.transfer.messages import PROTOCOL as EXCHANGE

BOOK = b"addressbook"
HEARS = 10.0  # seconds without news for which what others know of a folder that is new here is waited for
JOIN_WAITS = 8.0  # seconds for which a folder that is not known yet may become so
SETTLES = 10.0  # seconds after the start in which devices that are there will have connected
KEPT_AGAIN, KEPT_AGAIN_MOST = 10.0, 600.0  # seconds after which what failed is begun anew, ever longer
NEED_EVERY = 0.2  # seconds between two counts of what a folder needs


def now_ms() -> int:
    """Return the wall clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Node:
    """A running node. `run` brings it up on a host; the methods below are what the API calls."""

    def __init__(self, store: Store, seed: bytes, name: str, home: Path, vault: Vault = OPEN) -> None:
        self.key = DeviceKey(seed)
        self.events = EventLog(now_ms)
        self.audit = Audit(store, self.key, now_ms)
        self.events.listener = self.audit.on_event
        self.fetcher = Fetcher()
        self.speeds = Speeds()
        self.limits = Limits(store)
        self.users = Users(store, now_ms)
        self.started_ms = now_ms()
        self.ready = trio.Event()
        self._settles_at = 0.0
        self.stopping = trio.Event()
        self.folders: dict[FolderId, FolderRuntime] = {}
        self.sessions: dict[DeviceId, Session] = {}  # with each device that is connected
        self.attesting = Attesting(self)
        self._swarm = Swarm(self.key.id, self.fetcher, self.sessions, self.need)
        self.account = Account(store, self.key, name or socket.gethostname(), now_ms, os.urandom, vault)
        self.host: Host
        self.bulk: BulkPort
        self.peering: Peering
        self._store = store
        self._home = home
        self.within: Path | None = None  # where folders of this node may be; None: anywhere
        self.neighbours: Callable[[], list[str]] = list  # folders that other accounts keep on this machine
        self._book = AddressBook(store.get("meta", BOOK), self._save_book)
        self.pairing = Pairing(self)
        self.sharing = Sharing(self, store, now_ms)
        self.holding = Holding(self, store)
        self.packs = Packs(self, store, Shelf(store, backend_of(home, self.key.id), self._piece_damaged))
        self.bans = Bans(store)
        self.seeds = Seeds(self)
        self.mail = Mail(self, store)
        self.service: SeedService | None = None  # where this node is a seed
        self.finding = Finding(self, store)
        self.ways = Ways(self)
        self.nearby = Nearby(self)
        self.meeting = Meeting(self)
        self.joining = Joining(self)
        self.subfolders = SubFolders(self)
        self.now_ms = now_ms
        self.membership = Membership(self)
        self.recovery = Recovery(self)
        self.protection = Protection(self)
        self.serving = Serving(self)
        self._needs: dict[FolderId, tuple[float, tuple[int, int]]] = {}
        self._account_news = trio.Event()
        self._conversations: Conversations
        self._nursery: trio.Nursery

    async def run(self, host: Host, *, mdns: bool, bulk: BulkPort | None = None) -> None:
        """Serve until `stopping` is set. `bulk`: where bulk channels come in, if anywhere."""
        self.host = host
        self.bulk = bulk or BulkPort([], 0)
        self._settles_at = trio.current_time() + SETTLES
        self._conversations = conversations = Conversations(self)
        self.peering = Peering(host, self._book, now_ms, conversations.while_up)
        self.account.changed = self._account_changed
        host.handle(SYNC, conversations.serve)
        host.handle(EXCHANGE, self.serving.exchange)
        host.handle(BULK, self.serving.bulk)
        host.handle(PAIR, self.pairing.offers.serve)
        host.handle(MEMBERSHIP, self.membership.serve)
        host.handle(RECOVER, self.recovery.serve)
        host.handle(SHARE, self.meeting.serve)
        host.handle(PACKS, self.packs.serve)
        host.barred = self.bans.is_banned
        self.finding.begin(host)
        self.ways.begin(host)
        self.peering.on_lost = self.finding.lost
        self.peering.punch = self.ways.punching.begin
        self.ways.punching.on_direct = self.peering.upgraded
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.peering.run)
            await nursery.start(self.bulk.run)
            nursery.start_soon(self._watch_speeds)
            nursery.start_soon(self.limits.run)
            self.start(self.membership.run)
            self.start(self.sharing.run)
            self.start(self.subfolders.run)
            self.start(self.joining.run)
            for work in (self.finding.run, self.seeds.run, self.ways.run, self.packs.run):
                self.keep(work)
            if self.service is not None:
                self.keep(self.service.run)
            if mdns:
                self.keep(self.nearby.run)
            self.holding.load()
            for folder, path in self._joined().items():
                entry = self.account.folders().get(FolderId(folder))
                if entry is not None:
                    self._start_folder(entry, path)
            if is_copy(self._store, self._home):
                for runtime in self.folders.values():
                    runtime.replica.begin_anew()
                self.events.add("restored", "this device's home is a copy: what it lacks is fetched from the others")
            mark_own(self._store, self._home)
            with contextlib.suppress(StoreFull):
                self.account.tend()  # a key on paper of before has no box of the account's secret yet
            self._account_changed()
            self.events.add("started", f"listening on {', '.join(host.addresses())}")
            self.ready.set()
            await self.stopping.wait()
            nursery.cancel_scope.cancel()

    def start(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Do something beside, for as long as the node runs; what becomes of it is nothing to the rest."""

        async def contained() -> None:
            with bulkhead(str(work), lambda reason: self.events.add("failed", reason)):
                await work(*arguments)

        self._nursery.start_soon(contained)

    def keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside for as long as the node runs, and begin it anew where it failed."""

        async def contained() -> None:
            wait = KEPT_AGAIN
            while True:
                with bulkhead(str(work), lambda reason: self.events.add("failed", reason)):
                    await work()
                    return
                await trio.sleep(wait)
                wait = min(2 * wait, KEPT_AGAIN_MOST)

        self._nursery.start_soon(contained)

    @property
    def home(self) -> Home:
        """Where its key and its store are."""
        return Home(self._home)

    def forget_replaced_secrets(self) -> None:
        """Have what the account's record was before be nowhere in the store's files."""
        self._store.forget_replaced("meta")

    # -- folders -----------------------------------------------------------------------------------------------------

    def folder_add(self, path: str, name: str | None, *, create: bool = False) -> FolderRuntime:
        """Make a folder of the account out of a directory. Raises UserError."""
        real = self.check_folder_path(path, create=create)
        entry = self.account.add_folder(check_folder_name(name or os.path.basename(real) or "root"))
        return self._join_folder(entry, real, new=True)

    async def folder_join(self, name: str, path: str) -> FolderRuntime:
        """Keep a folder of the account at a path here; one that another device just added is waited for. Raises
        UserError."""
        with trio.move_on_after(JOIN_WAITS if self.sharing.access.partners() else 0):
            while self.account.folder_named(name) is None:
                await self._account_news.wait()
        entry = self.account.folder_named(name)
        if entry is None:
            known = ", ".join(sorted(repr(e.name) for e in self.account.folders().values())) or "none"
            raise UserError(
                "no-such-folder", f"the account has no folder {name!r}; it has {known}", "see: shoal folder list"
            )
        if entry.id in self.folders:
            raise UserError("folder-joined", f"{name!r} is kept at {self.folders[entry.id].path} already", "")
        return self._join_folder(entry, self.check_folder_path(path, create=True))

    def check_reachable(self, path: str) -> None:
        """Raises UserError for a path outside of where this account may read and write."""
        if self.within is not None and not Path(os.path.realpath(path)).is_relative_to(self.within):
            raise UserError(
                "outside", f"{path} is outside of {self.within}, where this account's folders are", "choose one in it"
            )

    def check_folder_path(self, path: str, *, create: bool) -> str:
        """Return the real path of where a folder is to be kept. Raises UserError."""
        self.check_reachable(os.path.expanduser(path))
        kept = [*(folder.path for folder in self.folders.values()), *self.neighbours()]
        return check_folder_path(path, kept, self._home, create=create)

    def folder_remove(self, name: str) -> FolderRuntime:
        """Stop keeping a folder here; its files stay as they are. Raises UserError."""
        folder = self.folder_named(name)
        self.subfolders.removed(folder.entry)
        self.drop_folder(folder)
        return folder

    def keep_at(self, entry: FolderEntry, path: str, *, new: bool) -> FolderRuntime:
        """Keep a folder of the account at a path that is fit for it; `new`: nobody else can know of it yet. Raises
        UserError."""
        return self._join_folder(entry, path, new=new)

    def drop_folder(self, folder: FolderRuntime) -> None:
        """Keep a folder no more that this account has no part in; its files stay."""
        self.stop_folder(folder)
        folder.erase()
        self.save_joined()
        self.events.add("folder-removed", f"{folder.entry.name} is no longer kept here; its files stay")

    def folder_named(self, name: str) -> FolderRuntime:
        """Return a joined folder. Raises UserError."""
        for folder in self.folders.values():
            if folder.entry.name == name:
                return folder
        raise UserError("no-such-folder", f"no folder {name!r} is kept here", "see: shoal folder list", status=404)

    def chosen(self) -> None:
        """What is wanted of a folder here changed."""
        self.back_up()

    async def ban(self, device: DeviceId, reason: str) -> None:
        """Talk to a peer no more. Raises UserError, StoreFull."""
        if device == self.key.id:
            raise UserError("own-device", "a device does not ban itself", "")
        self.bans.ban(device, reason, now_ms())
        self.events.add("banned", f"{self.sharing.access.name_of(device)} is banned", device=peer_id_text(device))
        self.membership.trust()
        await self.host.disconnect(device)

    def lift_ban(self, device: DeviceId) -> bool:
        """Talk to a peer again; return whether it was banned. Raises StoreFull."""
        lifted = self.bans.lift(device)
        if lifted:
            self.events.add("ban-lifted", f"{self.sharing.access.name_of(device)} is banned no more")
            self.membership.trust()
        return lifted

    def serve_as_seed(self) -> SeedService:
        """Be a seed, from the start on."""
        self.service = SeedService(self, self._store)
        self.sharing.shares.welcomes = self.service.serves
        self.finding.mode = "server"
        return self.service

    def has_folders(self) -> bool:
        """Return whether any folder is kept here."""
        return bool(self._joined())

    def reached(self, device: DeviceId, address: str) -> None:
        """A device of the account was reached at an address, by a person's word."""
        self._book.worked(device, address, now_ms())
        self.membership.trust()

    def known_addresses(self, device: DeviceId) -> list[str]:
        """Return where a device is tried."""
        return self._book.addresses(device)

    def last_seen_ms(self, device: DeviceId) -> int:
        """Return when a device was last connected: now, while it is; 0 for never."""
        return now_ms() if device in self.sessions else self._book.seen_ms(device)

    def expects(self, device: DeviceId) -> bool:
        """Return whether a device may be about to tell what it has: it just connected, or was just lost, or this node
        just started."""
        conversation = self.sessions.get(device)
        if conversation is not None:
            return not conversation.introduced
        started = trio.current_time() < self._settles_at
        return started or device in self.host.connected() or self._conversations.may_resume(device)

    # -- what sessions ask -------------------------------------------------------------------------------------------

    def replicas(self) -> dict[FolderId, Logs]:
        """Return the logs of the joined folders, and of those that are held."""
        joined: dict[FolderId, Logs] = {folder: runtime.replica for folder, runtime in self.folders.items()}
        return {**self.holding.all, **joined}

    def need(self, folder: FolderId) -> tuple[int, int]:
        """Return the files and bytes that this disk lacks; 0, 0 only when the folder is in sync here."""
        runtime = self.folders.get(folder)
        if runtime is None:
            return 0, 0
        counted, need = self._needs.get(folder, (0.0, (0, 0)))
        idle = runtime.engine.is_idle()
        now = trio.current_time()
        if idle:
            need = (0, 0)
        elif now - counted >= NEED_EVERY or need == (0, 0):
            state = runtime.engine.state()
            need = (max(1, state.needed_files), state.needed_bytes)
        else:
            return need
        self._needs[folder] = now, need
        return need

    def addresses(self, asker: DeviceId) -> list[str]:
        """Return where this device can be dialled, and where it reached others that `asker` shares folders with."""
        known = self.sharing.access.known_to(asker)
        others = [
            f"{address}/p2p/{peer_id_text(device)}"
            for device in self.sharing.access.partners()
            if device in known
            for address in self._book.addresses(device)[:4]
        ]
        return [*self.host.addresses(), *others][:64]

    def on_hello(self, device: DeviceId, addresses: list[str]) -> None:
        """A peer said where it and others can be reached: kept for when the connection is lost, and told to those who
        may want to reach it, too."""
        news = False
        for address in addresses:
            bare, _, name = address.rpartition("/p2p/")
            try:
                whose = device_from_text(name)
            except ValueError:
                continue
            if whose == device:
                news |= self._book.learn(whose, [bare])
            elif whose != self.key.id and self.sharing.access.is_partner(whose) and whose not in self.sessions:
                self.peering.suggest(whose, [bare])
        if news:
            for other, session in self.sessions.items():
                if other != device:
                    session.say_hello()

    def on_peer_news(self, device: DeviceId, folder: FolderId) -> None:
        """A peer has more than before: ask it for what was lacking."""
        self._swarm.on_need(folder)
        if self._swarm.may_have_more(device, folder, trio.current_time()):
            self.fetcher.retry_missing(device)
        runtime = self.folders.get(folder)
        if runtime is not None:
            runtime.engine.retry_now()

    def on_left(self, device: DeviceId) -> None:
        """A conversation with a device ended."""
        self.packs.left(device)
        for folder in self.folders:
            self._swarm.on_need(folder)

    def on_have(self, device: DeviceId, folder: FolderId, chunks: Sequence[bytes]) -> None:
        """A peer has got chunks that it may have lacked."""
        self.fetcher.on_have(device, folder, chunks)

    def on_coming(self, device: DeviceId, folder: FolderId, coming: Coming) -> None:
        """A peer reads a file, and can give these chunks of it."""
        runtime = self.folders.get(folder)
        if runtime is not None:
            runtime.engine.early.on_coming(device, coming)

    def on_log_restarted(self) -> None:
        """This device was restored from an old copy, and said anew what it alone knew."""
        self.events.add("restored", "this device's store is an older copy: what it lacks is fetched from the others")
        for conversation in list(self.sessions.values()):
            conversation.end()

    def on_write_refused(self, device: DeviceId, folder: FolderId, author: DeviceId) -> None:
        """A peer sent what its author may not write to the folder."""
        self.sharing.on_write_refused(device, folder, author)

    def on_misbehaved(self, device: DeviceId, reason: str) -> None:
        """A peer sent what no honest one could."""
        self.events.add("peer-misbehaved", f"{peer_id_text(device)}: {reason}")

    def _piece_damaged(self, folder: bytes, pack: bytes, index: int) -> None:
        self.packs.damaged(FolderId(folder), pack, index)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _watch_speeds(self) -> None:
        while True:
            stats = self.fetcher.stats
            self.speeds.observe(trio.current_time(), stats.received_from, stats.sent_to)
            shared.trim()
            await trio.sleep(1)

    async def become_part_of(self, invitation: Invitation) -> None:
        """Take another account, and bring this device's folders into it: by name into its own, else as new ones."""
        mine = [(folder.entry.name, folder.path, folder.engine.one_way.mode) for folder in self.folders.values()]
        self.account.join(invitation)
        for folder in list(self.folders.values()):
            self.stop_folder(folder)
            folder.erase()
        for name, path, mode in mine:
            known = self.account.folder_named(name)
            folder = self._join_folder(known or self.account.add_folder(name), path, new=known is None)
            folder.engine.set_mode(mode)
        self.save_joined()

    def _account_changed(self) -> None:
        self.back_up()
        self._account_news.set()
        self._account_news = trio.Event()
        self.membership.account_changed()
        self.sharing.account_changed()
        self.subfolders.look()
        self.sharing.wake()
        for conversation in self.sessions.values():
            conversation.say_hello()

    def _join_folder(self, entry: FolderEntry, path: str, *, new: bool = False) -> FolderRuntime:
        try:
            make_marker(Disk(Linux()), path, entry.id)
        except OSError as error:
            raise UserError(
                "folder-not-writable", f"cannot write in {path}: {error.strerror}", "check its owner and permissions"
            ) from error
        runtime = self._start_folder(entry, path, new=new)
        self.save_joined()
        self.subfolders.look()
        self.events.add("folder-joined", f"{entry.name} is kept at {path}")
        return runtime

    def _start_folder(self, entry: FolderEntry, path: str, *, new: bool = False) -> FolderRuntime:
        """`new`: nobody else can know of it yet."""
        access = self.sharing.access
        is_known = partial(access.is_known, folder=entry.id)
        was_held = self.holding.release(entry.id)
        runtime = FolderRuntime(entry, path, self._store, self.key, is_known, self.fetcher, now_ms)
        runtime.replica.limit = partial(access.limit, folder=entry.id)
        runtime.replica.read_only = not access.may_write(entry.id)
        if was_held:
            runtime.replica.read_held()
            self.holding.released()
        runtime.replica.keep_to_limits()
        self.folders[entry.id] = runtime
        self.subfolders.leave_out(runtime)
        runtime.replica.grown = self.wake_sessions
        runtime.engine.on_progress = partial(self._progressed, entry.id)
        runtime.engine.on_arrived = partial(self._swarm.on_arrived, entry.id)
        runtime.engine.on_coming = partial(self._swarm.tell_coming, entry.id)
        runtime.engine.leaver.held_elsewhere = partial(self.attesting.proven_elsewhere, entry.id)
        runtime.engine.on_event = lambda kind, text: self.events.add(kind, f"{entry.name}: {text}", folder=entry.name)
        self._nursery.start_soon(runtime.run, trio.lowlevel.checkpoint if new else partial(self._hear_of, entry.id))
        for conversation in self.sessions.values():
            conversation.join(entry.id)
        return runtime

    async def _hear_of(self, folder: FolderId) -> None:
        """Wait until some other device has told all that it knows of a folder; for `HEARS` seconds at most without
        more of it coming."""
        known = -1
        others = any(self.sharing.access.may_sync(device, folder) for device in self.sharing.access.partners())
        with trio.move_on_after(HEARS if others else 0) as patience:
            while not any(
                folder in session.progress and session.we_hold_all(folder) for session in self.sessions.values()
            ):
                await trio.sleep(0.05)
                runtime = self.folders.get(folder)
                entries = sum(head.length for head in runtime.replica.frontier.values()) if runtime is not None else 0
                if entries > known:
                    known, patience.deadline = entries, trio.current_time() + HEARS

    def stop_folder(self, folder: FolderRuntime) -> None:
        """Work on a folder no more."""
        folder.scope.cancel()
        self.folders.pop(folder.entry.id, None)
        for conversation in self.sessions.values():
            conversation.leave(folder.entry.id)

    def _progressed(self, folder: FolderId) -> None:
        self._swarm.on_need(folder)
        self.wake_sessions()

    def wake_sessions(self) -> None:
        """There are new entries, or news of what this disk lacks."""
        for conversation in self.sessions.values():
            conversation.wake()

    def _joined(self) -> dict[bytes, str]:
        saved = self._store.get("meta", FOLDERS)
        return {k: os.fsdecode(v) for k, v in cbor2.loads(saved).items()} if saved is not None else {}

    def save_joined(self) -> None:
        """Write which folders are kept here, and where."""
        joined = {bytes(folder): os.fsencode(runtime.path) for folder, runtime in self.folders.items()}
        self._store.write([("meta", FOLDERS, cbor2.dumps(joined))], sync=True)
        self.back_up()

    def back_up(self) -> None:
        """Have the copy of the account beside the store be as it is in it."""
        try:
            back_up(self._store, self._home / BACKUP)
        except OSError as error:
            self.events.add(
                "backup-failed", f"the account could not be copied to {self._home / BACKUP}: {error.strerror}"
            )

    def _save_book(self, data: bytes) -> None:
        with contextlib.suppress(StoreFull):  # addresses are heard again
            self._store.write([("meta", BOOK, data)], sync=False)


def default_folder() -> Path:
    """Return where `make run` keeps the first folder."""
    return Path.home() / "Shoal"
