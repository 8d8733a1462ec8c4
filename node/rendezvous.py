"""The keys under which the devices of an account, and the members of a folder, find each other in the DHT.

    key = multihash (SHA-256) of SHA-256(b"shoal rendezvous" + discovery key + week)
    week = Unix seconds / 604,800, 8 bytes, big-endian

Only who has the account's or the folder's secret can say which key that is, and from one week's none can tell the
next: nobody else can list the members, or follow them from week to week. The discovery keys change with the secrets.
"""

from __future__ import annotations

import hashlib

from shoal.dht.keyspace import Key

CONTEXT = b"shoal rendezvous"
WEEK = 7 * 24 * 3600  # seconds
EARLY = 24 * 3600  # seconds before a week begins, or after it ended, in which its key is used, too: clocks differ


def rendezvous_key(discovery: bytes, week: int) -> Key:
    """Return the key of a week."""
    digest = hashlib.sha256(CONTEXT + discovery + week.to_bytes(8)).digest()
    return Key(b"\x12\x20" + hashlib.sha256(digest).digest())


def weeks(now: float) -> list[int]:
    """Return the weeks whose keys are used now, Unix seconds: the present one first."""
    this = max(0, int(now)) // WEEK
    since = now - this * WEEK
    if since < EARLY and this:
        return [this, this - 1]
    return [this, this + 1] if WEEK - since < EARLY else [this]


def rendezvous_keys(discoveries: list[bytes], now: float) -> list[Key]:
    """Return the keys to announce oneself under, and to look under: those of the present week first."""
    return [rendezvous_key(each, week) for week in weeks(now) for each in discoveries]
