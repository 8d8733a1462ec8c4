"""The secrets of shared folders: learned from what owners hand out, and handed out where this account is an owner.

The account's catalog has them for the devices to come; a key statement has them for each device that may read.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shoal.crdt.catalog import MAX_EPOCHS, Secrets, secrets_from
from shoal.crdt.codec import Malformed
from shoal.crdt.folder_roster import OWNER, FolderRoster
from shoal.crdt.folder_statements import Kind, open_secrets, rank, seal_secrets
from shoal.crdt.keys import Unsealable, is_epoch_of, later_epoch
from shoal.node.shares import Shares

if TYPE_CHECKING:
    from shoal.node.daemon import Node

ROTATE_EVERY = 60.0  # seconds


class FolderSecrets:
    """Those of one node. `say`: says something of a folder."""

    def __init__(self, node: Node, shares: Shares, say: Callable[[FolderRoster, Kind, list[Any]], None]) -> None:
        self._node = node
        self._shares = shares
        self._say = say
        self._rotated: dict[bytes, float] = {}  # when, by root
        self._opened: dict[bytes, tuple[str, Secrets] | None] = {}  # key statements, by hash

    def hand_out(self, *, by_us: bool) -> bool:
        """Give the readers of each folder that this account owns its keys, and new ones where somebody knows them who
        may read no more; return whether that was due. What others do again and again (not `by_us`) costs new keys once
        a minute."""
        account, news = self._node.account, False
        for roster in list(self._shares.all.values()):
            entry = account.entry(roster.folder)
            mine = entry is not None and (entry.founder or account.id) == roster.founder
            if not mine or not roster.said_of_roles or rank(roster.role(account.id)) < OWNER or not roster.keys_due():
                continue
            assert entry is not None
            self._learn(roster)
            entry = account.entry(roster.folder) or entry
            secrets = entry.secrets
            exposed = roster.is_exposed()
            if exposed and (len(secrets) >= MAX_EPOCHS or not self._may_rotate(roster, by_us)):
                continue
            if exposed:
                fresh = os.urandom(32)
                secrets = (*secrets, (later_epoch(secrets[-1][0], fresh), fresh))
            boxes, sealed = seal_secrets(roster.root, entry.name, secrets, roster.readers, os.urandom(32))
            self._say(roster, "key", [boxes, sealed, roster.former])
            if exposed:
                account.keep(replace(entry, secrets=secrets))
                self._node.events.add("keys-rotated", f"{entry.name} has new keys", folder=entry.name)
            news = True
        return news

    def learn_all(self) -> None:
        """Take the keys that others handed out."""
        for roster in list(self._shares.all.values()):
            self._learn(roster)

    def _learn(self, roster: FolderRoster) -> None:
        """Have the account's catalog know all secrets of a folder that it takes part in."""
        account = self._node.account
        entry = account.entry(roster.folder)
        if entry is None or (entry.founder or account.id) != roster.founder or account.id not in roster.accepted:
            return
        known = dict(entry.secrets) | {e: s for e, s in self._secrets(roster).items() if e not in dict(entry.secrets)}
        if len(known) > len(entry.secrets):
            try:
                account.keep(replace(entry, secrets=secrets_from([list(pair) for pair in sorted(known.items())])))
            except Malformed:
                self._node.events.add("keys-refused", f"an owner of {entry.name} gave keys that make no sense")

    def newest(self, roster: FolderRoster) -> tuple[str, Secrets] | None:
        """Return what a folder's owners call it, and its secrets; None where they are not for this device."""
        opened = [found for said in roster.key_statements() if (found := self._open(said)) is not None]
        return (opened[-1][0], tuple(sorted(self._secrets(roster).items()))) if opened else None

    def _secrets(self, roster: FolderRoster) -> dict[int, bytes]:
        """Return the secrets that were handed out, by epoch; of two for one epoch what the founder says counts, else
        what was said first."""
        said = sorted(roster.key_statements(), key=lambda each: each.account != roster.founder)
        found: dict[int, bytes] = {}
        for each in said:
            opened = self._open(each)
            for epoch, secret in opened[1] if opened else ():
                if epoch == 0 or is_epoch_of(epoch, secret):
                    found.setdefault(epoch, secret)
        return found

    def _open(self, said: Any) -> tuple[str, Secrets] | None:
        if said.hash not in self._opened:
            try:
                self._opened[said.hash] = open_secrets(said, self._node.key)
            except Unsealable:
                self._opened[said.hash] = None
        return self._opened[said.hash]

    def _may_rotate(self, roster: FolderRoster, by_us: bool) -> bool:
        now, last = time.monotonic(), self._rotated.get(roster.root, -math.inf)
        if not by_us and now - last < ROTATE_EVERY:
            return False
        self._rotated[roster.root] = now
        return True
