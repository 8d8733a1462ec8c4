"""The devices of an account: a DAG of signed statements, linked by hash, rooted in the statement of the first device.

    statement = CBOR [fields..., signature];   hash = BLAKE3 of the statement;   account id = hash of the first one
    genesis   fields = ["genesis", device, name, time_ms]
    add       fields = ["add", account, [hashes of the newest statements known], device, name, time_ms, by]
    signature = Ed25519 by the genesis device, or `by`, over b"shoal roster" + CBOR of the fields

A statement holds when its signature does, all that it links to hold, and its signer was a device of the account in what
it links to. The set of statements that hold is the same in whatever order they came, so rosters merge by union.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import blake3

from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, verify_signature
from shoal.crdt.model import DeviceId

CONTEXT = b"shoal roster"
MAX_STATEMENT = 16 * 1024
MAX_NAME = 64


class NoGenesis(Exception):
    """The statements do not hold exactly one account."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device of the account. `name`: for people; `added_ms`: what the signer's clock said."""

    name: str
    added_ms: int


@dataclass(frozen=True, slots=True)
class _Statement:
    hash: bytes
    parents: tuple[bytes, ...]  # none: the genesis
    device: DeviceId
    name: str
    time_ms: int
    by: DeviceId
    account: bytes | None


def genesis(key: DeviceKey, name: str, now_ms: int) -> bytes:
    """Return the statement that makes an account whose first device is `key`'s."""
    return _signed(key, ["genesis", key.id, name[:MAX_NAME], now_ms])


def add_device(roster: Roster, device: DeviceId, name: str, key: DeviceKey, now_ms: int) -> bytes:
    """Return the statement by which `key`'s device adds another to the account."""
    return _signed(key, ["add", roster.account, roster.tips(), device, name[:MAX_NAME], now_ms, key.id])


class Roster:
    """The devices that the statements which hold make. `refused` counts those that do not hold."""

    def __init__(self, account: bytes, holding: dict[bytes, tuple[bytes, _Statement]], refused: int) -> None:
        self.account = account
        self.refused = refused
        self._holding = holding
        self.statements: tuple[bytes, ...] = tuple(sorted(encoded for encoded, _ in holding.values()))
        self.devices: dict[DeviceId, DeviceRecord] = {}
        for _, said in sorted(holding.values(), key=lambda pair: (pair[1].time_ms, pair[0]), reverse=True):
            self.devices[said.device] = DeviceRecord(said.name, said.time_ms)  # of several, the oldest

    @classmethod
    def from_statements(cls, statements: Iterable[bytes], account: bytes | None = None) -> Roster:
        """Make the roster of `account` (None: that of the only genesis among them). Raises NoGenesis."""
        read: dict[bytes, tuple[bytes, _Statement]] = {}
        refused = 0
        for encoded in set(statements):
            said = _read(encoded)
            if said is None:
                refused += 1
            else:
                read[said.hash] = encoded, said
        roots = [hash_ for hash_, (_, said) in read.items() if not said.parents and account in (None, hash_)]
        if len(roots) != 1:
            raise NoGenesis(f"{len(roots)} accounts in one set of statements")
        holding = {roots[0]: read.pop(roots[0])}
        known = {roots[0]: frozenset({holding[roots[0]][1].device})}  # the devices in a statement's past, its own too
        grown = True
        while grown:
            grown = False
            for hash_, (encoded, said) in list(read.items()):
                if said.account != roots[0] or not all(parent in holding for parent in said.parents):
                    continue
                del read[hash_]
                past = frozenset[DeviceId]().union(*(known[parent] for parent in said.parents))
                if said.by in past:
                    holding[hash_] = encoded, said
                    known[hash_] = past | {said.device}
                    grown = True
                else:
                    refused += 1
        return cls(roots[0], holding, refused + len(read))

    def tips(self) -> list[bytes]:
        """Return the hashes of the statements that no other links to: what a new one links to."""
        linked = {parent for _, said in self._holding.values() for parent in said.parents}
        return sorted(hash_ for hash_ in self._holding if hash_ not in linked)


def _signed(key: DeviceKey, fields: list[Any]) -> bytes:
    return codec.encode([*fields, key.sign(CONTEXT + codec.encode(fields))])


def _read(encoded: bytes) -> _Statement | None:
    """Read a statement and check its signature; None when it is not one."""
    try:
        *fields, signature = codec.as_list(codec.decode(encoded, MAX_STATEMENT))
        digest = blake3.blake3(encoded).digest()
        match fields:
            case ["genesis", bytes(device), str(name), int(time_ms)]:
                said = _Statement(digest, (), DeviceId(device), name, time_ms, DeviceId(device), None)
            case ["add", bytes(account), [_, *_] as parents, bytes(device), str(name), int(time_ms), bytes(by)]:
                if not all(isinstance(parent, bytes) for parent in parents):
                    return None
                said = _Statement(digest, tuple(parents), DeviceId(device), name, time_ms, DeviceId(by), account)
            case _:
                return None
    except Exception:  # a stranger's bytes
        return None
    fits = len(said.device) == 32 and len(name) <= MAX_NAME
    return said if fits and verify_signature(said.by, CONTEXT + codec.encode(fields), signature) else None
