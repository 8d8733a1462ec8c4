"""Several people's accounts on one node, as on a family's home server: each is a node of its own in the same process.

Each has a home below the first one's, `accounts/NAME`, with its own device key, store, tokens and audit log, listens on
a port of its own, which it keeps, and has a place for its folders, outside of which it reads and writes nothing. They
share the API's address: a call goes to the account whose token it has, and logging in finds the account by the user's
name. One that fails ends alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from shoal.bootstrap.bulk import listen_for_bulk
from shoal.bootstrap.host import ListenError, run_host
from shoal.node.backup import BACKUP, restore
from shoal.node.daemon import Node
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.home import Home
from shoal.node.private import write_private
from shoal.node.scrub import Scrub
from shoal.node.store.rocks import open_store
from shoal.node.vault import open_vault

logger = logging.getLogger(__name__)

WITHIN = "folders"  # in an account's home: where its folders may be
REMOVED = "accounts.removed"
CHECK_SECONDS = 0.2  # for a look at the store at its start
STARTS_WITHIN = 30.0


@dataclass(eq=False)
class Member:
    """One of the accounts beside the first. `fault`: why it does not run, "" while it does."""

    name: str
    home: Home
    node: Node | None = None
    app: Any = None
    token: str = ""
    fault: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    started: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)


class Household:
    """The accounts beside the first one, in its process."""

    def __init__(self, first: Node, mdns: bool, hosts: Iterable[str], make_app: Callable[[Node, str], Any]) -> None:
        """`hosts`: the addresses of this machine to listen on; `make_app`: makes an account's API."""
        self._first = first
        self._mdns = mdns
        self._hosts = list(dict.fromkeys(hosts))
        self._make_app = make_app
        self._nursery: trio.Nursery | None = None
        self.members: dict[str, Member] = {}
        first.neighbours = partial(self._kept_by, first)

    async def run(self) -> None:
        """Run all until cancelled."""
        async with trio.open_nursery() as self._nursery:
            for home in self._first.home.accounts():
                self._begin(Member(home.path.name, home), None)
            await trio.sleep_forever()

    def nodes(self) -> list[Node]:
        """Return the nodes that run, the first one's, too."""
        return [self._first, *(each.node for each in self.members.values() if each.node is not None)]

    def app_of(self, token: str) -> Any:
        """Return the API of the account that a token is of; None where it is none of these."""
        for member in self.members.values():
            if member.node is None:
                continue
            known = secrets.compare_digest(token.encode(), member.token.encode())
            if known or member.node.users.token(token) is not None:
                return member.app
        return None

    def users_but(self, node: Node) -> set[str]:
        """Return the names of the users of all other accounts."""
        users = (other.users.user for other in self.nodes() if other is not node)
        return {user.username for user in users if user is not None}

    def node_of_user(self, username: str) -> Node:
        """Return the node of the user of that name; the first one where nobody has it."""
        found = (node for node in self.nodes() if node.users.user is not None and node.users.user.username == username)
        return next(found, self._first)

    async def add(self, name: str, folders: str) -> Member:
        """Make an account for somebody else, whose folders all lie in the folder `folders`. Raises UserError."""
        home = self._first.home.of_account(name)
        if name in self.members:
            raise UserError("name-taken", f"there is an account {name!r} on this node already", "choose another name")
        within = self._check_place(folders)
        member = Member(name, home)
        member.home.ensure()
        write_private(member.home.path / WITHIN, os.fsencode(within))
        self._begin(member, None)
        await self._wait(member)
        self._first.events.add("account-added", f"{name} has an account on this node")
        return member

    async def start(self, name: str, password: str | None) -> Member:
        """Start one that does not run, as its secrets are sealed, or it was stopped. Raises UserError."""
        member = self._member(name)
        if member.node is not None:
            return member
        fresh = Member(name, member.home)
        self._begin(fresh, password)
        await self._wait(fresh)
        return fresh

    async def remove(self, name: str) -> str:
        """Stop an account, and put its home aside; return where it is. Its files stay. Raises UserError."""
        member = self._member(name)
        member.scope.cancel()
        await member.ended.wait()
        del self.members[name]
        aside = self._first.home.path / REMOVED
        aside.mkdir(mode=0o700, exist_ok=True)
        place = aside / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        member.home.path.rename(place)
        self._first.events.add("account-removed", f"{name} has no account on this node any more")
        return str(place)

    def _check_place(self, folders: str) -> Path:
        """Return the real path of where an account's folders are to be, made if need be. Raises UserError."""
        place = Path(folders).expanduser()
        if not place.is_absolute():
            raise UserError("bad-path", f"{folders!r} is no absolute path", "give the whole path", EXIT_USAGE, 400)
        real, home = Path(os.path.realpath(place)), self._first.home.path.resolve()
        for other in [home, *map(Path, self._kept_by(None))]:
            if real.is_relative_to(other) or other.is_relative_to(real):
                raise UserError(
                    "place-taken", f"{real} is, holds or is in {other}, which is another's", "choose another"
                )
        try:
            real.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError("bad-path", f"cannot make {real}: {error.strerror}", "choose another") from error
        return real

    def _kept_by(self, but: Node | None) -> list[str]:
        """Return the folders of the other accounts, and the places that are for them."""
        others = [node for node in self.nodes() if node is not but]
        places = [str(node.within) for node in others if node.within is not None]
        return [*(folder.path for node in others for folder in node.folders.values()), *places]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise UserError("no-such-account", f"there is no account {name!r} on this node", "see: shoal account list")
        return self.members[name]

    def _begin(self, member: Member, password: str | None) -> None:
        assert self._nursery is not None
        self.members[member.name] = member
        self._nursery.start_soon(self._run, member, password)

    async def _wait(self, member: Member) -> None:
        with trio.move_on_after(STARTS_WITHIN):
            await member.started.wait()
        if member.fault:
            raise UserError("account-stopped", f"{member.name}: {member.fault}", "see: shoal account list")

    async def _run(self, member: Member, password: str | None) -> None:
        def failed(group: BaseExceptionGroup[Exception]) -> None:
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup):
                leaf = leaf.exceptions[0]
            member.fault = str(leaf) or type(leaf).__name__
            logger.error("the account %s stopped", member.name, exc_info=group)
            self._first.events.add("account-stopped", f"{member.name}: {member.fault}")

        try:
            with member.scope:
                await self._work(member, password)
        except* Exception as group:
            failed(group)
        finally:
            member.node = member.app = None
            member.fault = member.fault or "stopped"
            with contextlib.suppress(OSError):
                member.home.api.unlink()
            member.started.set()
            member.ended.set()

    async def _work(self, member: Member, password: str | None) -> None:
        home = member.home
        lock = home.hold_lock()
        os.ftruncate(lock, 0)  # the process is not its own, to be ended
        store = None
        try:
            vault = await trio.to_thread.run_sync(open_vault, home, password)
            seed = home.device_seed(vault)
            store = open_store(home.store)
            scrub = Scrub(store)
            scrub.begin(CHECK_SECONDS)
            restore(store, home.path / BACKUP)
            name = f"{member.name} on {self._first.account.name}"
            node = Node(store, seed, name, home.path, vault)
            node.within = Path(os.fsdecode((home.path / WITHIN).read_bytes()))
            node.neighbours = partial(self._kept_by, node)
            member.token = secrets.token_urlsafe(32)
            write_private(home.token, member.token.encode())
            listen = self._listen(home)
            async with run_host(seed, listen) as host, trio.open_nursery() as nursery:
                nursery.start_soon(scrub.run)
                nursery.start_soon(self._serve, member, node)
                await node.run(host, mdns=self._mdns, bulk=listen_for_bulk(listen, 0))
                nursery.cancel_scope.cancel()
        except ListenError as error:
            (home.path / "port").unlink(missing_ok=True)  # another the next time
            raise UserError("listen-failed", str(error), "start it again: it takes another port") from error
        finally:
            if store is not None:
                store.close()
            os.close(lock)

    async def _serve(self, member: Member, node: Node) -> None:
        await node.ready.wait()
        member.node, member.app = node, self._make_app(node, member.token)
        address = await trio.to_thread.run_sync(self._first.home.api.read_bytes)
        write_private(member.home.api, address)
        member.started.set()

    def _listen(self, home: Home) -> list[str]:
        """Return where an account listens: a port that was free once, and is its own since."""
        kept = home.path / "port"
        try:
            port = int(kept.read_text())
        except (OSError, ValueError):
            with socket.socket() as probe:
                probe.bind(("", 0))
                port = probe.getsockname()[1]
            write_private(kept, str(port).encode())
        return [f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}" for host in self._hosts]


def dispatching(first: Any, household: Household) -> Any:
    """Return an ASGI application that gives a request to the account whose token it has, else to the first one's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        chosen = None
        if scope["type"] == "http" and household.members:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            chosen = household.app_of(given.decode("latin-1").removeprefix("Bearer "))
        await (chosen or first)(scope, receive, send)

    return app
