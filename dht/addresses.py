"""Multiaddrs as text and as bytes, and which of them are worth to be told to others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from multiaddr import Multiaddr

MOST_BYTES = 256
_IPS = ("ip4", "ip6")


@lru_cache(maxsize=8192)
def encode(text: str) -> bytes | None:
    """Return a multiaddr's bytes; None for what is none."""
    try:
        return bytes(Multiaddr(text).to_bytes())
    except Exception:  # the library raises many kinds
        return None


@lru_cache(maxsize=8192)
def decode(data: bytes) -> str | None:
    """Return a multiaddr's text; None for what is none, or has a part that is not known here."""
    if len(data) > MOST_BYTES:
        return None
    try:
        return str(Multiaddr(data))
    except Exception:  # the library raises many kinds
        return None


def encode_all(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Return those that are multiaddrs, as bytes."""
    return tuple(data for data in map(encode, texts) if data is not None)


def decode_all(datas: Iterable[bytes]) -> tuple[str, ...]:
    """Return those that can be read, as text."""
    return tuple(text for text in map(decode, datas) if text is not None)


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a multiaddr begins with."""
    parts = address.split("/", 3)
    if len(parts) < 3 or parts[1] not in _IPS:
        return None
    try:
        return ipaddress.ip_address(parts[2])
    except ValueError:
        return None


def told_to_all(addresses: Iterable[str]) -> list[str]:
    """Return the addresses to tell the world: those in the public network, and names; where there are none, those of
    local networks; loopback only if there is nothing else."""
    every = list(addresses)
    for fits in (is_public, _is_in_a_network):
        chosen = [address for address in every if fits(address)]
        if chosen:
            return chosen
    return every


def is_public(address: str) -> bool:
    """Return whether a multiaddr begins with an address of the public network, or with a name."""
    ip = ip_of(address)
    return address.startswith("/dns") if ip is None else ip.is_global


def _is_in_a_network(address: str) -> bool:
    ip = ip_of(address)
    return ip is not None and not ip.is_loopback and not ip.is_link_local
