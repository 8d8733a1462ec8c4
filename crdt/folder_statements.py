"""What accounts say of a folder that they share: signed statements, each linked by hash to the newest its author knew.

    root      = BLAKE3 of CBOR ["shoal shared folder", folder id, founder's account]
    statement = CBOR [kind, root, links, what it says..., time_ms, account, device, signature]
    role      says account, role, cuts, invite         an account has this role from now on; "none": it is out
    accept    says nothing                             the author's account takes part
    invite    says public key, role, expires_ms, uses  who has the private half may have the role
    cancel    says invite                              which nobody may redeem any more
    key       says boxes, sealed, former               the folder's secrets, for the devices that may read
    cut       says subject device, cuts                of the author's account, and revoked: what was known of it
    part      says node, folder id                     this part of it is a folder of its own
    links     = [hashes of the newest statements known], of the first ones: the root
    cuts      = [[device, incarnation, length, hash]...]: what was known of the logs of who may write no more
    invite    = hash of the invite that somebody redeemed; empty where an owner chose the account
    boxes     = [[device, a key sealed to it (libsodium's sealed box)]...]
    sealed    = XChaCha20-Poly1305 under that key, bound to the root, of CBOR [name, [[epoch, secret]...]]
    former    = BLAKE3 of the ids of all devices that the readers' accounts had revoked by then
    signature = Ed25519 by the device over b"shoal share" + CBOR of all before it

The founder is who had the folder first: it is an owner for good. `folder_roster` says which statements count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, get_args

import blake3

from shoal.crdt import codec
from shoal.crdt.catalog import Secrets, secrets_from
from shoal.crdt.keys import DeviceKey, Unsealable, open_sealed, seal, verify_signature
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import ROOT, DeviceId, FolderId, NodeId
from shoal.crdt.remembered import Remembered
from shoal.crdt.statements import MAX_LINKS, boxes_for, open_box_of, read_boxes, read_links

CONTEXT = b"shoal share"
MAX_STATEMENT = 1024 * 1024
MOST_CUTS = 256  # logs; nobody makes himself irremovable by writing in more
MAX_OTHER = 32 * 1024  # of one that gives no keys
MAX_NAME = 255
MAX_USES = 1_000_000
ACCOUNT = 32  # bytes of an account's id

Role = Literal["none", "holder", "reader", "writer", "owner"]
ROLES: tuple[Role, ...] = get_args(Role)
"""In order of what they may: a holder keeps sealed replicas, a reader reads, a writer writes, an owner says who may."""

Kind = Literal["role", "accept", "invite", "cancel", "key", "cut", "part"]


def rank(role: Role) -> int:
    """Return the place of a role among `ROLES`."""
    return ROLES.index(role)


def root_of(folder: FolderId, founder: bytes) -> bytes:
    """Return what the first statements on a folder link to."""
    return blake3.blake3(codec.encode(["shoal shared folder", folder, founder])).digest()


@dataclass(frozen=True, slots=True)
class Said:
    """A statement whose signature is good. `account`, `device`: its author; `subject`: the account that a role is for,
    or the device that a cut is about, or the folder that a part is, whose node there is `part`; `invite`: of a role or
    a cancel, the hash of one; `public`: an invite's Ed25519 key; `cuts`: by log."""

    encoded: bytes = field(repr=False)
    hash: bytes
    kind: Kind
    root: bytes
    links: tuple[bytes, ...]
    account: bytes
    device: DeviceId
    time_ms: int
    subject: bytes = b""
    role: Role = "none"
    cuts: Mapping[LogId, LogHead] = field(default_factory=dict, repr=False)
    invite: bytes = b""
    public: bytes = b""
    expires_ms: int = 0
    uses: int = 0
    boxes: tuple[tuple[DeviceId, bytes], ...] = field(default=(), repr=False)
    sealed: bytes = field(default=b"", repr=False)
    former: bytes = b""
    part: NodeId = ROOT


@dataclass(frozen=True, slots=True)
class Author:
    """Who says something: a device, in the name of its account."""

    account: bytes
    key: DeviceKey


def say(author: Author, kind: Kind, root: bytes, links: Sequence[bytes], says: Sequence[Any], now_ms: int) -> bytes:
    """Return a statement."""
    fields = [kind, root, list(links), *says, now_ms, author.account, author.key.id]
    return codec.encode([*fields, author.key.sign(CONTEXT + codec.encode(fields))])


def read(encoded: bytes) -> Said | None:
    """Read a statement and check its signature; None when it is none that holds."""
    return _remembered(encoded)


def _checked(encoded: bytes) -> Said | None:
    try:
        signed = codec.as_list(codec.decode(encoded, MAX_STATEMENT))
        said = _read(encoded, signed[:-1])
        whole = CONTEXT + codec.encode(signed[:-1])
        if said.kind != "key" and len(encoded) > MAX_OTHER:
            return None
        return said if verify_signature(said.device, whole, codec.as_bytes(signed[-1], 64)) else None
    except codec.Malformed:
        return None


_remembered = Remembered(_checked, MAX_STATEMENT)


def _read(encoded: bytes, fields: list[Any]) -> Said:
    match fields:
        case [str(kind), root, links, *says, time_ms, account, device]:
            digest = blake3.blake3(encoded).digest()
            author = codec.as_bytes(account, ACCOUNT), DeviceId(codec.as_bytes(device, 32)), codec.as_int(time_ms)
            about = codec.as_bytes(root, 32), read_links(links), *author
        case _:
            raise codec.Malformed("no statement")
    match kind, says:
        case "role", [subject, role, cuts, invite]:
            return Said(
                encoded,
                digest,
                "role",
                *about,
                subject=codec.as_bytes(subject, ACCOUNT),
                role=_role(role),
                cuts=_cuts(cuts),
                invite=_optional(invite),
            )
        case "accept", []:
            return Said(encoded, digest, "accept", *about)
        case "invite", [public, role, expires_ms, uses]:
            return Said(
                encoded,
                digest,
                "invite",
                *about,
                public=codec.as_bytes(public, 32),
                role=_role(role),
                expires_ms=codec.as_int(expires_ms),
                uses=codec.as_int(uses, most=MAX_USES),
            )
        case "cancel", [invite]:
            return Said(encoded, digest, "cancel", *about, invite=codec.as_bytes(invite, 32))
        case "key", [boxes, sealed, former]:
            return Said(
                encoded,
                digest,
                "key",
                *about,
                boxes=read_boxes(boxes),
                sealed=codec.as_bytes(sealed),
                former=codec.as_bytes(former, 32),
            )
        case "cut", [device, cuts]:
            return Said(encoded, digest, "cut", *about, subject=codec.as_bytes(device, 32), cuts=_cuts(cuts))
        case "part", [node, folder]:
            part = NodeId(codec.as_bytes(node, 16))
            return Said(encoded, digest, "part", *about, subject=codec.as_bytes(folder, 16), part=part)
    raise codec.Malformed("a statement of no known kind")


def _role(value: Any) -> Role:
    for role in ROLES:
        if value == role:
            return role
    raise codec.Malformed("no role")


def _optional(value: Any) -> bytes:
    return b"" if value == b"" else codec.as_bytes(value, 32)


def _cuts(value: Any) -> dict[LogId, LogHead]:
    cuts: dict[LogId, LogHead] = {}
    rows = [codec.as_list(row, length=4) for row in codec.as_list(value)]
    for device, incarnation, length, digest in rows:
        log = LogId(DeviceId(codec.as_bytes(device, 32)), codec.as_bytes(incarnation, 16))
        cuts[log] = LogHead(codec.as_int(length, least=1), codec.as_bytes(digest, 32))
    if len(cuts) != len(rows) or list(cuts) != sorted(cuts):
        raise codec.Malformed("cuts that are not in order")
    return cuts


def cut_rows(cuts: Mapping[LogId, LogHead]) -> list[list[Any]]:
    """Return cuts as a statement has them: of very many logs the longest. What is left out is said again by writers."""
    longest = sorted(cuts.items(), key=lambda pair: (-pair[1].length, pair[0]))[:MOST_CUTS]
    return [[log.device, log.incarnation, head.length, head.hash] for log, head in sorted(longest) if head.length]


def seal_secrets(
    root: bytes, name: str, secrets: Secrets, devices: Iterable[DeviceId], key: bytes
) -> tuple[list[list[bytes]], bytes]:
    """Return the boxes and the sealed secrets of a key statement. `key`: 32 random bytes."""
    plain = codec.encode([name, [list(pair) for pair in secrets]])
    return boxes_for(devices, key), seal(key, plain, CONTEXT + root)


def open_secrets(said: Said, key: DeviceKey) -> tuple[str, Secrets]:
    """Return the folder's name and secrets, by epoch, in order. Raises Unsealable where they are not for this device,
    or are no secrets."""
    plain = open_sealed(open_box_of(key, said.boxes), said.sealed, CONTEXT + said.root)
    try:
        name, pairs = codec.as_list(codec.decode(plain, MAX_STATEMENT), length=2)
        return codec.as_text(name, MAX_NAME), secrets_from(pairs)
    except codec.Malformed as error:
        raise Unsealable(f"what was sealed is no folder's secrets: {error}") from error


def links_of(tips: Iterable[bytes], root: bytes) -> list[bytes]:
    """Return what a new statement links to; `tips`: those that matter most first."""
    return sorted(islice(tips, MAX_LINKS)) or [root]
