"""Peers that a person has banned: they are not talked to, whatever else is known of them.

Key in column `meta`: `bans`, CBOR {device id: [Unix milliseconds, reason]}.
"""

from __future__ import annotations

from dataclasses import dataclass

import cbor2

from shoal.crdt.model import DeviceId
from shoal.node.store import Store

BANS = b"bans"
MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class Ban:
    """A banned peer."""

    device: DeviceId
    since_ms: int
    reason: str


class Bans:
    """The bans of one node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        saved = cbor2.loads(store.get("meta", BANS) or b"\xa0")
        self._bans = {DeviceId(device): Ban(DeviceId(device), *said) for device, said in saved.items()}

    def is_banned(self, device: DeviceId) -> bool:
        """Return whether a peer is banned."""
        return device in self._bans

    def all(self) -> list[Ban]:
        """Return the bans, the newest first."""
        return sorted(self._bans.values(), key=lambda ban: ban.since_ms, reverse=True)

    def ban(self, device: DeviceId, reason: str, now_ms: int) -> None:
        """Ban a peer. Raises StoreFull."""
        self._save({**self._bans, device: Ban(device, now_ms, reason[:MAX_REASON])})

    def lift(self, device: DeviceId) -> bool:
        """Ban a peer no more; return whether it was. Raises StoreFull."""
        if device not in self._bans:
            return False
        self._save({each: ban for each, ban in self._bans.items() if each != device})
        return True

    def _save(self, bans: dict[DeviceId, Ban]) -> None:
        rows = {device: [ban.since_ms, ban.reason] for device, ban in bans.items()}
        self._store.write([("meta", BANS, cbor2.dumps(rows))], sync=True)
        self._bans = bans
