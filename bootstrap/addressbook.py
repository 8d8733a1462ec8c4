"""Where peers were last reached. The newest success comes first; py-libp2p's own book is overwritten by identify."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cbor2

from shoal.bootstrap.circuit_addresses import MARK
from shoal.crdt.model import DeviceId

KEPT = 16  # addresses of a peer


@dataclass(slots=True)
class _Known:
    addresses: list[str] = field(default_factory=list)
    seen_ms: int = 0


class AddressBook:
    """Addresses by device. `save` gets the whole book as bytes after each change that matters."""

    def __init__(self, saved: bytes | None, save: Callable[[bytes], None]) -> None:
        self._save = save
        self._known: dict[DeviceId, _Known] = {}
        if saved is not None:
            for device, (addresses, seen_ms) in cbor2.loads(saved).items():
                self._known[DeviceId(device)] = _Known(list(addresses), seen_ms)

    def addresses(self, device: DeviceId) -> list[str]:
        """Return what to dial, best first."""
        known = self._known.get(device)
        return list(known.addresses) if known is not None else []

    def seen_ms(self, device: DeviceId) -> int:
        """Return when the device was last connected, Unix milliseconds; 0: never."""
        known = self._known.get(device)
        return known.seen_ms if known is not None else 0

    def learn(self, device: DeviceId, addresses: Iterable[str]) -> bool:
        """Take hints (mDNS, the peer's own word, a person's); return whether any was new."""
        known = self._known.setdefault(device, _Known())
        fresh = [a for a in dict.fromkeys(map(_bare, addresses)) if a not in known.addresses]
        if fresh:
            known.addresses = (fresh + known.addresses)[:KEPT]
            self._write()
        return bool(fresh)

    def worked(self, device: DeviceId, address: str, now_ms: int) -> None:
        """The device answered at this address."""
        known = self._known.setdefault(device, _Known())
        bare = _bare(address)
        known.addresses = [bare, *(a for a in known.addresses if a != bare)][:KEPT]
        known.seen_ms = now_ms
        self._write()

    def seen(self, device: DeviceId, now_ms: int) -> None:
        """The device is, or was until now, connected."""
        self._known.setdefault(device, _Known()).seen_ms = now_ms
        self._write()

    def _write(self) -> None:
        self._save(cbor2.dumps({device: [k.addresses, k.seen_ms] for device, k in self._known.items()}))


def _bare(address: str) -> str:
    """Return an address without the id of the device itself: that of a relay stays."""
    way, mark, _ = address.partition(MARK)
    return way + mark if mark else address.split("/p2p/")[0]
