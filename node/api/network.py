"""The API's routes for the DHT, and for peers that are banned."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from shoal.bootstrap.peerid import device_from_bytes, device_from_text, peer_id_text
from shoal.crdt.model import DeviceId
from shoal.dht.keyspace import Key
from shoal.node.api.views import shown
from shoal.node.daemon import Node
from shoal.node.errors import EXIT_USAGE, UserError

MOST_KEYS = 10_000


class Find(BaseModel):
    """A key, and how many who announced it are enough."""

    key: str
    enough: int = Field(default=20, ge=1, le=100)


class Keys(BaseModel):
    """Keys to announce, or to announce no more."""

    keys: list[str] = Field(max_length=MOST_KEYS)


class Ban(BaseModel):
    """Why a peer is banned."""

    reason: str = Field(default="", max_length=200)


def read_key(text: str) -> Key:
    """Return the multihash that a text stands for: in hexadecimal, of a CID in base 32, or the SHA-256 of `text:...`.
    Raises UserError."""
    try:
        if text.startswith("text:"):
            return Key(b"\x12\x20" + hashlib.sha256(text.removeprefix("text:").encode()).digest())
        if text.startswith("b"):
            return Key(_multihash_of_cid(base64.b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))))
        key = bytes.fromhex(text)
    except (ValueError, binascii.Error, IndexError):
        key = b""
    if len(key) < 4 or len(key) > 128 or key[1] != len(key) - 2:
        raise UserError(
            "bad-key",
            f"{text[:80]!r} is no key of the DHT",
            "give a multihash in hexadecimal, a CID in base 32, or text:WORDS",
            EXIT_USAGE,
            400,
        )
    return Key(key)


def _multihash_of_cid(cid: bytes) -> bytes:
    """Return what follows the version and the codec, each a varint. Raises IndexError, ValueError."""
    if cid[0] != 1:
        raise ValueError("not a CID of version 1")
    at = 1
    while cid[at] & 0x80:
        at += 1
    return cid[at + 1 :]


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes. A peer is given by its id, or by the name of a device that is known here."""

    def dht() -> Any:
        if node.finding.mode == "off":
            raise UserError("no-dht", "this node has no part in the DHT", "start it without --dht off")
        return node.finding.dht

    @app.get("/api/dht")
    async def get_dht() -> dict[str, Any]:
        found = dht()
        return {
            "mode": node.finding.mode,
            "serves": found.serves,
            "peers": sum(each.answered is not None for each in found.routing),
            "records": found.providers.size,
            "announced": len(found.announcing.keys()),
            "announcing": found.announcing.left,
            "told": found.announcing.told,
            "questions": found.questions,
            "lookups": found.stats.lookups,
            "hops": found.stats.hops,
            "sent": found.stats.sent,
            "failed": found.stats.failed,
            "addresses": node.finding.own_addresses(),
        }

    @app.post("/api/dht/find")
    async def find(body: Find) -> list[dict[str, Any]]:
        found = await dht().find_providers(read_key(body.key), body.enough)
        return [{"peer": peer_text(each.peer), "addresses": list(each.addresses)} for each in found]

    @app.post("/api/dht/announce")
    async def announce(body: Keys) -> dict[str, Any]:
        keys = [read_key(text) for text in body.keys]
        dht().announcing.add(keys, again=True)
        return {"announced": [key.hex() for key in keys]}

    @app.post("/api/dht/withdraw")
    async def withdraw(body: Keys) -> dict[str, Any]:
        keys = [read_key(text) for text in body.keys]
        dht().announcing.remove(keys)
        return {"withdrawn": [key.hex() for key in keys]}

    @app.get("/api/bans")
    async def get_bans() -> list[dict[str, Any]]:
        return [
            {
                "peer": peer_id_text(ban.device),
                "name": shown(node.sharing.access.name_of(ban.device)),
                "since_ms": ban.since_ms,
                "reason": shown(ban.reason),
            }
            for ban in node.bans.all()
        ]

    @app.post("/api/bans/{peer}")
    async def ban(peer: str, body: Ban) -> dict[str, Any]:
        device = named(peer)
        await node.ban(device, body.reason)
        return {"banned": peer_id_text(device), "name": shown(node.sharing.access.name_of(device))}

    @app.delete("/api/bans/{peer}")
    async def lift(peer: str) -> dict[str, Any]:
        device = named(peer)
        if not node.lift_ban(device):
            raise UserError("not-banned", f"{peer!r} is not banned", "see: shoal peers bans", status=404)
        return {"lifted": peer_id_text(device), "name": shown(node.sharing.access.name_of(device))}

    def named(text: str) -> DeviceId:
        try:
            return device_from_text(text)
        except ValueError:
            pass
        known = [*node.sharing.access.sought(), *(ban.device for ban in node.bans.all())]
        found = [device for device in dict.fromkeys(known) if node.sharing.access.name_of(device) == text]
        if len(found) != 1:
            what = f"several peers are called {text!r}" if found else f"no peer {text!r} is known"
            raise UserError("no-such-peer", what, "give its id: 12D3Koo..., see shoal peers --json", status=404)
        return found[0]


def peer_text(peer: bytes) -> str:
    """Return a peer id as people write it; in hexadecimal where it is not of an Ed25519 key."""
    try:
        return peer_id_text(device_from_bytes(peer))
    except ValueError:
        return peer.hex()
