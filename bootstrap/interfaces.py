"""The addresses of this machine's interfaces, to stand for 0.0.0.0 and ::."""

from __future__ import annotations

import ifaddr


def interface_addresses(address: str) -> list[str]:
    """Return `address` (a TCP multiaddr) as peers can dial it: a wildcard host becomes every usable interface's own."""
    for wildcard, family in (("/ip4/0.0.0.0/", 4), ("/ip6/::/", 6)):
        if address.startswith(wildcard):
            rest = address.removeprefix(wildcard)
            return [f"/ip{family}/{host}/{rest}" for host in _hosts(family)]
    return [address]


def _hosts(family: int) -> list[str]:
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if family == 4 and ip.is_IPv4:
                found.append(str(ip.ip))
            elif family == 6 and ip.is_IPv6 and not str(ip.ip[0]).startswith("fe80"):
                found.append(str(ip.ip[0]))
    loopback = [host for host in found if host.startswith("127.") or host == "::1"]
    return [host for host in found if host not in loopback] or loopback
