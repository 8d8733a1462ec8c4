"""How full each holder is, by the hour, and what that comes to; and which packs are read much.

Key in column `pack`: b"use" + device -> its history, see `forecast`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import trio

from shoal.crdt.model import DeviceId
from shoal.node.packs.forecast import Forecast, Sample, forecast, record, samples
from shoal.node.store import StoreFull

if TYPE_CHECKING:
    from shoal.node.packs.service import Packs

USE = b"use"
USE_EVERY, HEAT_EVERY = 3600, 10  # seconds


class Use:
    """Of the folders of one node."""

    def __init__(self, packs: Packs) -> None:
        self._packs = packs

    async def run(self) -> None:
        """Note by the hour how full each holder is, and tell which packs are read much."""
        while True:
            for _ in range(USE_EVERY // HEAT_EVERY):
                await trio.sleep(HEAT_EVERY)
                for working in self._packs.working.values():
                    hot: dict[bytes, list[str]] = {}
                    for pack, zone in working.heat.hot(trio.current_time()):
                        hot.setdefault(pack, []).append(zone)
                    working.folder.say_hot(hot)
            with contextlib.suppress(StoreFull):
                self.note(time.time())

    def note(self, now: float) -> None:
        """Note how full each holder is, Unix seconds. Raises StoreFull."""
        for device, (used, offered) in self.now().items():
            key = USE + device
            self._packs.store.write(
                [("pack", key, record(self._packs.store.get("pack", key), Sample(now, used, offered)))], sync=False
            )

    def now(self) -> dict[DeviceId, tuple[int, int]]:
        """Return how much each holder holds of what it offers, bytes, as far as this device takes part in it."""
        found: dict[DeviceId, tuple[int, int]] = {}
        for working in self._packs.working.values():
            ledger = working.folder.ledger
            for device, about in ledger.about.items():
                if about.offer and not about.plain:
                    pieces = [(ledger.form(pack), index) for pack, index in ledger.claimed_by(device)]
                    size = sum(form.size_of(index) for form, index in pieces if form is not None)
                    used, offered = found.get(device, (0, 0))
                    found[device] = used + size, max(offered, about.offer)
        return found

    def forecasts(self) -> dict[DeviceId, Forecast | None]:
        """Return when each holder runs full, None where too little is known yet."""
        return {
            device: forecast(samples(self._packs.store.get("pack", USE + device)), now=time.time())
            for device in self.now()
        }
