"""The API's routes for the seeds of this account, and for being one."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from shoal.node.api import metrics
from shoal.node.api.views import shown
from shoal.node.daemon import Node
from shoal.node.errors import UserError
from shoal.node.joining import folder_label
from shoal.node.links import read_card
from shoal.node.seed_service import SeedService
from shoal.node.shares import Person, short_id


class AddSeed(BaseModel):
    """A seed's card, and what to call it."""

    card: str
    name: str | None = Field(default=None, min_length=1, max_length=64)


class Change(BaseModel):
    """What is changed of a seed's policy."""

    open: bool | None = None
    quota: int | None = Field(default=None, ge=0)


class Allow(BaseModel):
    """The card of an account that this seed is to serve."""

    card: str


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    def seed_view(person: Person) -> dict[str, Any]:
        shares = node.sharing.shares
        roster = shares.roster_of(person.id)
        devices = set(roster.devices) if roster is not None else set()
        held = [each for each in shares.all.values() if each.role(person.id) == "holder"]
        return {
            "name": shown(person.name),
            "id": short_id(person.id),
            "connected": bool(devices & set(node.host.connected())),
            "last_seen_ms": max((node.last_seen_ms(device) for device in devices), default=0),
            "folders": [
                {
                    "folder": shown(
                        entry.name if (entry := node.account.entry(each.folder)) else folder_label(each.folder)
                    ),
                    "accepted": person.id in each.accepted,
                    "up_to_date": any(
                        node.sessions[device].holds_all(each.folder) for device in devices if device in node.sessions
                    ),
                }
                for each in held
            ],
        }

    @app.get("/api/seeds")
    async def get_seeds() -> list[dict[str, Any]]:
        return [seed_view(person) for person in node.seeds.all()]

    @app.post("/api/seeds")
    async def add_seed(body: AddSeed) -> dict[str, Any]:
        return seed_view(await node.seeds.add(body.card, body.name))

    @app.delete("/api/seeds/{name}")
    async def remove_seed(name: str) -> dict[str, Any]:
        return {"removed": node.seeds.remove(name).name}

    def service() -> SeedService:
        if node.service is None:
            raise UserError("no-seed", "this node is no seed", "start it with: shoal seed up")
        return node.service

    @app.get("/api/seed")
    async def get_seed() -> dict[str, Any]:
        here = service()
        return {
            "card": node.joining.own_card(),
            "open": here.policy.is_open,
            "quota": here.policy.quota,
            "accounts": [
                {
                    "name": shown(name),
                    "id": short_id(account),
                    "allowed": account in here.policy.allowed,
                    "used": here.used(account),
                    "folders": sum(each.founder == account for each in node.sharing.shares.held()),
                }
                for account, name in here.accounts().items()
            ],
            **metrics.figures(node),
        }

    @app.patch("/api/seed")
    async def change(body: Change) -> dict[str, Any]:
        service().set(is_open=body.open, quota=body.quota)
        return await get_seed()

    @app.post("/api/seed/allowed")
    async def allow(body: Allow) -> dict[str, Any]:
        card = read_card(body.card)
        service().allow(card.account, card.name)
        await node.joining.add_contact(body.card, None)
        return {"allowed": shown(card.name), "id": short_id(card.account)}

    @app.delete("/api/seed/allowed/{name}")
    async def deny(name: str) -> dict[str, Any]:
        here = service()
        found = [each for each, called in here.accounts().items() if name in (called, short_id(each))]
        if len(found) != 1:
            what = "several accounts are" if found else "no account here is"
            raise UserError("no-such-account", f"{what} called {name!r}", "give its id: shoal seed status", status=404)
        here.deny(found[0])
        return {"denied": name}
