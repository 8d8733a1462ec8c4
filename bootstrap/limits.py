"""How many strangers may hold a connection: at once, from one address, and not yet upgraded."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Any

TOTAL = 1000
FROM_ONE_ADDRESS = 64
SEED_TOTAL, SEED_FROM_ONE = 4000, 256  # of a seed: a company's devices may all come from one address


def network_of(address: str) -> str:
    """Return what one customer of a network has: an IPv4 address, or the /64 of one of IPv6."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


class InboundLimits:
    """Counts inbound connections while their handler runs and refuses those over the limits."""

    def __init__(self, total: int = TOTAL, from_one_address: int = FROM_ONE_ADDRESS) -> None:
        self._total = total
        self._from_one = from_one_address
        self._by_address: Counter[str] = Counter()

    def admit(self, address: str) -> bool:
        """Count a connection in, or return False when there is no room for it."""
        address = network_of(address)
        if self._by_address.total() >= self._total or self._by_address[address] >= self._from_one:
            return False
        self._by_address[address] += 1
        return True

    def release(self, address: str) -> None:
        """Count a connection out."""
        address = network_of(address)
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def guard(self, network: Any) -> None:
        """Stand before a swarm's inbound handler."""
        inner = network._do_handle_inbound_connection

        async def guarded(connection: Any, *args: Any) -> None:
            remote = connection.get_remote_address()
            address = str(remote[0]) if remote else ""
            if not self.admit(address):
                await connection.close()
                return
            try:
                await inner(connection, *args)
            finally:
                self.release(address)

        network._do_handle_inbound_connection = guarded
