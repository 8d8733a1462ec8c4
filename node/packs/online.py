"""The share of time that a node runs, which weighs what it offers.

Key in column `meta`: `online`, CBOR [share, Unix seconds when it was counted last].
"""

from __future__ import annotations

import contextlib
import math

import cbor2

from shoal.node.store import Store, StoreFull

ONLINE = b"online"
MONTH = 30 * 24 * 3600.0  # seconds over which it is reckoned
COUNT_EVERY = 60.0


class Online:
    """The share of time that this node runs, over a month or so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        saved = store.get("meta", ONLINE)
        self._share: float
        self._at: float
        self._share, self._at = cbor2.loads(saved) if saved is not None else (1.0, 0.0)
        self._is_first = True

    @property
    def per_mille(self) -> int:
        return max(1, round(self._share * 20) * 50)  # in steps: what changes moves pieces

    def count(self, now: float) -> None:
        """It runs now, Unix seconds."""
        passed = now - self._at
        if not self._is_first and 0 <= passed < COUNT_EVERY:
            return
        fading = math.exp(-min(max(0.0, passed), MONTH) / MONTH) if self._at else 1.0
        self._share = self._share * fading + (0.0 if self._is_first else 1 - fading)
        self._is_first, self._at = False, now
        with contextlib.suppress(StoreFull):
            self._store.write([("meta", ONLINE, cbor2.dumps([self._share, self._at]))], sync=False)
