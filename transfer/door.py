"""Who is let in at the bulk channel's port: pure. Only who holds a token that waits for it, and has proven the key that
belongs to it, costs more than a few bytes and seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from shoal.transfer.bulk import TICKET_SECONDS, LaneKeys

UNPROVEN = 64  # connections at once that have proven nothing yet
FROM_ONE_ADDRESS = 16
PROOF_SECONDS = 5.0  # that a connection has for its proof


class Door:
    """The tokens that are waited for, and the connections that have not shown one yet."""

    def __init__(self) -> None:
        self._expected: dict[bytes, tuple[LaneKeys, float]] = {}
        self._unproven: Counter[str] = Counter()

    def expect(self, keys: Mapping[bytes, LaneKeys], now: float) -> None:
        """Let in who comes with one of these tokens soon, once each."""
        for token, lane in keys.items():
            self._expected[token] = lane, now + TICKET_SECONDS

    def forget(self, tokens: Iterable[bytes]) -> None:
        """Let nobody in with these any more."""
        for token in tokens:
            self._expected.pop(token, None)

    def knock(self, address: str) -> bool:
        """Somebody connected: return whether there is room to hear them."""
        if self._unproven.total() >= UNPROVEN or self._unproven[address] >= FROM_ONE_ADDRESS:
            return False
        self._unproven[address] += 1
        return True

    def heard(self, address: str) -> None:
        """They were let in or sent away."""
        self._unproven[address] -= 1
        if self._unproven[address] <= 0:
            del self._unproven[address]

    def keys_for(self, token: bytes, now: float) -> LaneKeys | None:
        """Return the keys that a connection with this token has to prove; None when nobody is to come with it."""
        keys, until = self._expected.get(token, (None, 0.0))
        return keys if now < until else None

    def spend(self, token: bytes) -> bool:
        """The token's key was proven: return whether that is the first time."""
        return self._expected.pop(token, None) is not None
