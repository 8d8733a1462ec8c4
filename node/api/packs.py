"""The API's routes for replicas: what is offered, a folder's policy, how its packs are held, and proving it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import trio
import trio.lowlevel
from fastapi import FastAPI
from pydantic import BaseModel, Field

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt.model import DeviceId
from shoal.node.api.views import shown
from shoal.node.daemon import Node
from shoal.node.errors import UserError
from shoal.node.packs.backend import BackendFailed
from shoal.node.packs.bucket import Bucket, BucketSettings, write_settings
from shoal.node.packs.folder import PackFolder
from shoal.node.packs.ledger import zone_of
from shoal.node.packs.service import Offer
from shoal.node.packs.sheet import MAX_ZONE, MOST_GRACE
from shoal.transfer.durability import yearly_loss
from shoal.transfer.placement import Policy, spare

VERIFIED_AT_ONCE = 8
MOST_OFFER = 1 << 50
REPAIR_HOURS = 12.0  # for how long a lost piece is lacking, beside the grace period: to fetch it
FAILURES = 0.05  # of a holder in a year: a disk (1.4 % by Backblaze's figures), a theft, a person who leaves


class SetOffer(BaseModel):
    """What this device offers to hold."""

    size: int = Field(ge=0, le=MOST_OFFER)
    zone: str | None = Field(default=None, max_length=MAX_ZONE)
    repair: int | None = Field(default=None, ge=0, le=MOST_OFFER)


class SetStore(BaseModel):
    """Where pieces are kept: a bucket, with its keys; or this machine, where `url` is null."""

    url: str | None = Field(max_length=1000)
    key: str = Field(default="", max_length=300, repr=False)
    secret: str = Field(default="", max_length=300, repr=False)


class SetPolicy(BaseModel):
    """How a folder's packs are to be held; what is not given stays as it is."""

    copies: int | None = Field(default=None, ge=1, le=64)
    k: int | None = Field(default=None, ge=0, le=64)
    m: int | None = Field(default=None, ge=0, le=64)
    min_zones: int | None = Field(default=None, ge=1, le=64)
    grace: int | None = Field(default=None, ge=1, le=MOST_GRACE)


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    def packs_of(name: str) -> PackFolder:
        entry = node.account.folder_named(name)
        found = node.packs.folder(entry.id) if entry is not None else None
        if found is None:
            raise UserError("no-such-folder", f"no folder {name!r} is kept or held here", "", status=404)
        return found

    def holders_short(folder: PackFolder) -> int:
        """Return how many holders more the policy wants than there are."""
        return max(0, folder.wanted(b"") - len(folder.ledger.holders()))

    def policy_view(folder: PackFolder) -> dict[str, Any]:
        said = folder.ledger.policy()
        policy = said.policy
        return {
            "copies": policy.copies if not policy.is_erasure else None,
            "erasure": f"{policy.k}+{policy.m}" if policy.is_erasure else None,
            "min_zones": policy.min_zones,
            "grace": said.grace,
            "holders_short": holders_short(folder),
        }

    def offer_view() -> dict[str, Any]:
        offer = node.packs.offer
        return {
            "size": offer.size,
            "zone": shown(offer.zone),
            "repair": offer.repair,
            "used": node.packs.shelf.used_all(),
            "bytes_since_start": dict(node.packs.counts),
        }

    def holder_view(folder: PackFolder, device: DeviceId, bytes_of: Counter[bytes]) -> dict[str, Any]:
        about = folder.ledger.about[device]
        return {
            "name": shown(node.sharing.access.name_of(device)),
            "id": peer_id_text(device),
            "zone": shown(zone_of(device, about)),
            "offer": about.offer,
            "holds": bytes_of[bytes(device)],
            "has_files": about.plain,
            "connected": device in node.sessions or device == node.key.id,
            "present": folder.is_present(device),
            "believed": folder.is_believed(device),
        }

    async def durability(folder: PackFolder) -> dict[str, Any]:
        ledger = folder.ledger
        said, claims, plain = ledger.policy(), ledger.claims(), ledger.plain()
        zones = {bytes(device): zone_of(device, about) for device, about in ledger.about.items()}
        spares: list[int] = []
        lacking = short = size = 0
        bytes_of: Counter[bytes] = Counter()
        packs = ledger.packs()
        for number, pack in enumerate(packs):
            if number % 200 == 199:
                await trio.lowlevel.checkpoint()
            form, policy = ledger.form(pack), folder.policy_of(pack)
            if form is None or policy is None:
                continue
            size += form.size
            held = claims.get(pack, {})
            spares.append(spare(held, policy, len(plain)))
            lacking += folder.lacking(pack, claims) > 0
            short += len({zones[device] for device in held} | set(plain.values())) < said.policy.min_zones
            for device, indexes in held.items():
                bytes_of[device] += len(indexes) * form.size_of(0)
        fewest = min(spares, default=0)
        loss = None
        if packs and fewest >= 0:
            repair_days = (said.grace / 3600 + REPAIR_HOURS) / 24
            loss = yearly_loss(said.policy.needed + fewest, said.policy.needed, FAILURES, repair_days)
        return {
            "policy": policy_view(folder),
            "packs": len(packs),
            "bytes": size,
            "devices_with_files": len(plain),
            "zones": len({zones[device] for held in claims.values() for device in held} | set(plain.values())),
            "fewest_spare": fewest if spares else None,
            "not_as_policy": lacking,
            "too_few_zones": short,
            "endangered": sum(each < 1 for each in spares),
            "lost": sum(each < 0 for each in spares),
            "chunks_not_packed": folder.packs.unpacked(folder.id),
            "expected_yearly_loss": loss,
            "holders": [holder_view(folder, device, bytes_of) for device in sorted(ledger.about)],
        }

    @app.get("/api/offer")
    async def get_offer() -> dict[str, Any]:
        return offer_view()

    @app.put("/api/offer")
    async def set_offer(body: SetOffer) -> dict[str, Any]:
        before = node.packs.offer
        zone = before.zone if body.zone is None else body.zone.strip()
        node.packs.set_offer(Offer(body.size, zone, before.repair if body.repair is None else body.repair))
        return offer_view()

    @app.put("/api/offer/store")
    async def set_store(body: SetStore) -> dict[str, Any]:
        if node.packs.shelf.used_all():
            raise UserError("not-empty", "this device holds pieces where they are kept now", "first: shoal offer 0")
        settings = None if body.url is None else BucketSettings(body.url, body.key, body.secret)
        try:
            if settings is not None:
                await Bucket(settings).check()
            write_settings(node.home.path, settings)
        except (BackendFailed, OSError) as error:
            raise UserError("bad-store", str(error), "") from error
        return {"store": "this machine" if settings is None else settings.url}

    @app.get("/api/folders/{name}/policy")
    async def get_policy(name: str) -> dict[str, Any]:
        return policy_view(packs_of(name))

    @app.put("/api/folders/{name}/policy")
    async def set_policy(name: str, body: SetPolicy) -> dict[str, Any]:
        folder = packs_of(name)
        if not folder.may_declare:
            raise UserError("not-writer", f"who may only read {name!r} does not set its policy", "ask an owner")
        said = folder.ledger.policy()
        before = said.policy
        to_copies = body.copies is not None
        k = 0 if to_copies else (before.k if body.k is None else body.k)
        m = 0 if to_copies else (before.m if body.m is None else body.m)
        try:
            policy = Policy(
                body.copies or before.copies, k, m, before.min_zones if body.min_zones is None else body.min_zones
            )
        except ValueError as error:
            raise UserError("bad-policy", str(error), "", status=422) from error
        folder.set_policy(policy, said.grace if body.grace is None else body.grace)
        return policy_view(folder)

    @app.get("/api/forecast")
    async def get_forecast() -> list[dict[str, Any]]:
        use = node.packs.use.now()
        found = []
        for device, expected in node.packs.use.forecasts().items():
            used, offered = use[device]
            zone = next(
                (zone_of(device, f.ledger.about[device]) for f in node.packs.all() if device in f.ledger.about), ""
            )
            found.append(
                {
                    "name": shown(node.sharing.access.name_of(device)),
                    "zone": shown(zone),
                    "used": used,
                    "offered": offered,
                    "forecast": asdict(expected) if expected is not None else None,
                }
            )
        return found

    @app.get("/api/durability")
    async def get_durability() -> list[dict[str, Any]]:
        found = []
        for entry in sorted(node.account.folders().values(), key=lambda each: each.name):
            folder = node.packs.folder(entry.id)
            if folder is not None:
                found.append({"folder": shown(entry.name), **await durability(folder)})
        return found

    @app.post("/api/folders/{name}/verify")
    async def verify(name: str) -> dict[str, Any]:
        """Have each holder prove each piece that it says to hold, by a block picked here; what is here is read."""
        folder = packs_of(name)
        began = time.monotonic()
        ledger, auditor, own = folder.ledger, node.packs.auditor(folder.id), node.key.id
        counts: Counter[str] = Counter()
        proven: dict[bytes, dict[bytes, set[int]]] = {}
        failed: Counter[DeviceId] = Counter()
        asked = iter([(d, pack, index) for d in list(ledger.about) for pack, index in ledger.claimed_by(d)])

        async def ask() -> None:
            for device, pack, index in asked:
                form = ledger.form(pack)
                if form is None:
                    continue
                if device == own:
                    result: bool | None = await node.packs.shelf.check(folder.id, pack, form.part(index))
                else:
                    result = await auditor.challenge(device, pack, index)
                counts["proven" if result else "unreachable" if result is None else "failed"] += 1
                if result:
                    proven.setdefault(pack, {}).setdefault(bytes(device), set()).add(index)
                elif result is False:
                    failed[device] += 1

        async with trio.open_nursery() as nursery:
            for _ in range(VERIFIED_AT_ONCE):
                nursery.start_soon(ask)
        packs = ledger.packs()
        policies = {pack: policy for pack in packs if (policy := folder.policy_of(pack)) is not None}
        return {
            "folder": name,
            "packs": len(packs),
            "proven_as_policy": sum(folder.lacking(pack, proven) == 0 for pack in packs),
            "not_recoverable_from_proven": sum(
                spare(proven.get(pack, {}), policy, len(ledger.plain())) < 0 for pack, policy in policies.items()
            ),
            "pieces_proven": counts["proven"],
            "pieces_failed": counts["failed"],
            "pieces_unreachable": counts["unreachable"],
            "chunks_not_packed": folder.packs.unpacked(folder.id),
            "holders_short": holders_short(folder),
            "failed_at": {shown(node.sharing.access.name_of(device)): times for device, times in failed.items()},
            "seconds": round(time.monotonic() - began, 3),
        }

    @app.post("/api/folders/{name}/believe/{holder}")
    async def believe(name: str, holder: str) -> dict[str, Any]:
        folder = packs_of(name)
        for device in list(folder.failed):
            called = node.sharing.access.name_of(device)
            if holder in (peer_id_text(device), called):
                folder.forgive(device)
                return {"believed": shown(called)}
        raise UserError("not-failed", f"{holder!r} did not fail an audit of this device", "see: shoal durability")
