"""What a session needs of its node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from shoal.crdt.frontier import Range
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.access import Access
from shoal.node.account import Account
from shoal.node.folder.coming import Coming
from shoal.node.holdings import Held
from shoal.node.shares import Bundle, Person
from shoal.node.stored_logs import Refusal


class Attests(Protocol):
    """What this disk has, told and proven to others."""

    def holds(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        """Return for each version whether this disk has it, and is to have it."""
        ...

    async def prove(self, asker: DeviceId, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        """Return proofs that this disk has versions, see `possession`; empty where it has not, or is not to."""
        ...


class Logs(Protocol):
    """A folder's logs, with or without what they say."""

    @property
    def log_id(self) -> LogId | None:
        """The log that is written here, if any."""
        ...

    @property
    def frontier(self) -> dict[LogId, LogHead]:
        """How much of each log is held."""
        ...

    @property
    def limit(self) -> Callable[[LogId], LogHead | None]:
        """How much of a log is taken, None for all of it."""
        ...

    def read_entries(self, wanted: Range) -> list[bytes]:
        """Return consecutive entries from `wanted.first` on, at least one."""
        ...

    def receive_entries(self, entries: Sequence[bytes]) -> Refusal | None:
        """Take entries in their order, up to the first that is refused; return why it was."""
        ...

    def within_limits(self, heads: Mapping[LogId, LogHead]) -> dict[LogId, LogHead]:
        """Return what may be had of the logs that a peer holds."""
        ...

    def holds(self, log_id: LogId, head: LogHead) -> bool:
        """Return whether the entry that `head` names is held."""
        ...

    def on_own_log_diverged(self, log_id: LogId) -> bool:
        """A peer holds of the log written here what is not here; return whether a new one was begun."""
        ...


class Sharers(Protocol):
    """What is known of shared folders."""

    @property
    def access(self) -> Access:
        """Who may have and say what."""
        ...

    def told_to(self, device: DeviceId) -> list[list[Any]]:
        """Return what a device may know of, in messages: pairs of bundles and people."""
        ...

    def take(self, device: DeviceId, bundles: Iterable[Bundle], people: Mapping[bytes, Person]) -> None:
        """Take what a device told."""
        ...


class Mails(Protocol):
    """What the devices of an account say of it, directly or through a seed."""

    def told_to(self, device: DeviceId) -> tuple[list[bytes], list[bytes]]:
        """Return statements on devices, and on folders."""
        ...

    def take(self, device: DeviceId, roster: Sequence[bytes], catalog: Sequence[bytes]) -> None:
        """Take what a device told."""
        ...


class Boards(Protocol):
    """The boards of the folders here, see `crdt.board`."""

    def greeting(self, folder: FolderId) -> list[Any] | None:
        """Return what a peer is told at the start, None where there is no board."""
        ...

    def on_board(self, device: DeviceId, folder: FolderId, message: list[Any]) -> None:
        """A peer said something of a folder's board. Raises Malformed."""
        ...


class Surroundings(Protocol):
    """What a session needs of its node."""

    account: Account

    @property
    def sharing(self) -> Sharers:
        """The shared folders."""
        ...

    @property
    def mail(self) -> Mails:
        """What is said of accounts."""
        ...

    def replicas(self) -> Mapping[FolderId, Logs]:
        """Return the folders joined here, and those that are held."""
        ...

    def need(self, folder: FolderId) -> tuple[int, int]:
        """Return the files and bytes that this disk lacks of a folder."""
        ...

    @property
    def packs(self) -> Boards:
        """Who holds which packs."""
        ...

    @property
    def attesting(self) -> Attests:
        """Who has a version's bytes."""
        ...

    def addresses(self, asker: DeviceId) -> list[str]:
        """Return where this device can be reached, and others that `asker` knows of."""
        ...

    def on_hello(self, device: DeviceId, addresses: list[str]) -> None:
        """A peer said where it can be reached."""
        ...

    def on_peer_news(self, device: DeviceId, folder: FolderId) -> None:
        """A peer's state of a folder changed."""
        ...

    def on_have(self, device: DeviceId, folder: FolderId, chunks: Sequence[bytes]) -> None:
        """A peer has these chunks by now."""
        ...

    def on_coming(self, device: DeviceId, folder: FolderId, coming: Coming) -> None:
        """A peer reads a file, and can give these chunks of it."""
        ...

    def on_log_restarted(self) -> None:
        """What all peers were told of our logs is not so any more: all conversations have to begin anew."""
        ...

    def on_write_refused(self, device: DeviceId, folder: FolderId, author: DeviceId) -> None:
        """A peer sent what its author may not write to the folder."""
        ...

    def on_misbehaved(self, device: DeviceId, reason: str) -> None:
        """A peer sent what no honest one could."""
        ...
