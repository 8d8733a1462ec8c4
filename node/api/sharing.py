"""The API's routes for contacts, and for folders that are shared with other people."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from shoal.crdt.catalog import FolderEntry
from shoal.crdt.folder_roster import FolderRoster
from shoal.crdt.folder_statements import ROLES, Role
from shoal.node.api import views
from shoal.node.daemon import Node
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.joining import folder_label
from shoal.node.links import is_share_link
from shoal.node.shares import Person, short_id

MAX_DAYS = 3650


class AddContact(BaseModel):
    """Somebody's card, and what to call them."""

    card: str
    name: str | None = Field(default=None, max_length=64)


class Share(BaseModel):
    """With whom, as a contact's name or a card, and as what; `part`: the path of what is shared alone, empty for
    all."""

    whom: str
    part: str = ""
    role: str = "reader"


class MakeLink(BaseModel):
    """What the link makes of who opens it, of the folder or a `part` of it; `valid_s`: seconds, `uses`: how many may; 0
    for no end of either."""

    role: str = "reader"
    part: str = ""
    valid_s: int = Field(default=7 * 86400, ge=0, le=MAX_DAYS * 86400)
    uses: int = Field(default=1, ge=0, le=1_000_000)


class Unshare(BaseModel):
    """From whom; None for who asks: it leaves."""

    whom: str | None = None
    links: bool = False


class Accept(BaseModel):
    """A folder that somebody shares, or a link to one. `name`: what to call it here; `path`: where to keep it, None for
    not yet."""

    what: str
    name: str | None = Field(default=None, min_length=1, max_length=200)
    path: str | None = None


class Decline(BaseModel):
    """A folder that somebody shares."""

    what: str


def role_named(text: str) -> Role:
    """Return the role of that name. Raises UserError."""
    for role in ROLES[1:]:
        if role == text:
            return role
    raise UserError("bad-role", f"{text!r} is no role", "choose one of owner, writer, reader, holder", EXIT_USAGE, 400)


def add_routes(app: FastAPI, node: Node) -> None:
    """Add the routes."""

    def person(found: Person) -> dict[str, Any]:
        roster = node.sharing.shares.roster_of(found.id)
        devices = roster.devices.items() if roster is not None else ()
        return {
            "name": found.name,
            "id": short_id(found.id),
            "account": found.id.hex(),
            "is_contact": found.is_contact,
            "met": roster is not None,
            "devices": [
                {"name": record.name, "connected": device in node.sessions}
                for device, record in devices
                if not record.is_paper
            ],
        }

    def share_view(roster: FolderRoster) -> dict[str, Any]:
        me, shares = node.account.id, node.sharing.shares
        entry, held = node.account.entry(roster.folder), node.holding.all.get(roster.folder)
        return {
            "folder": entry.name if entry is not None else folder_label(roster.folder),
            "id": roster.folder.hex(),
            "role": roster.role(me),
            "held_entries": held.entries if held is not None else None,
            "people": [
                {
                    "name": node.sharing.own_name if account == me else shares.name_of(account),
                    "is_you": account == me,
                    "id": short_id(account),
                    "role": role,
                    "accepted": account in roster.accepted,
                    "founder": account == roster.founder,
                }
                for account, role in sorted(roster.roles.items(), key=lambda pair: (-ROLES.index(pair[1]), pair[0]))
            ],
            "links": [
                {"id": i.hash.hex()[:8], "role": i.role, "expires_ms": i.expires_ms, "uses": i.uses, "used": i.used}
                for i in roster.invites()
            ],
        }

    @app.get("/api/contacts/card")
    async def card() -> dict[str, Any]:
        return {"card": node.joining.own_card(), "name": node.sharing.own_name}

    @app.get("/api/contacts")
    async def get_contacts() -> list[dict[str, Any]]:
        return [person(found) for found in node.joining.contacts()]

    @app.post("/api/contacts")
    async def add_contact(body: AddContact) -> dict[str, Any]:
        return person(await node.joining.add_contact(body.card, body.name))

    @app.delete("/api/contacts/{name}")
    async def remove_contact(name: str) -> dict[str, Any]:
        return {"removed": node.joining.remove_contact(name).name}

    @app.get("/api/shares")
    async def get_shares() -> dict[str, Any]:
        me, shares = node.account.id, node.sharing.shares
        mine = [each for each in shares.all.values() if me in each.accepted and (each.said_of_roles or each.invites())]
        return {
            "shared": sorted((share_view(each) for each in mine), key=lambda each: each["folder"] or ""),
            "offered": [
                {
                    "folder": each.name or folder_label(each.roster.folder),
                    "id": each.roster.folder.hex(),
                    "role": each.role,
                    "by": each.by,
                }
                for each in node.sharing.offered()
            ],
        }

    async def to_share(name: str, part: str) -> FolderEntry:
        return await node.subfolders.split(name, part) if part else node.joining.folder(name)

    @app.post("/api/folders/{name}/share")
    async def share(name: str, body: Share) -> dict[str, Any]:
        role, folder = role_named(body.role), await to_share(name, body.part)
        whom = await node.joining.share(folder.id, body.whom, role)
        roster = node.sharing.shares.of(folder.id)
        return {
            "folder": folder.name,
            "with": whom.name,
            "role": role,
            "accepted": roster is not None and whom.id in roster.accepted,
        }

    @app.post("/api/folders/{name}/link")
    async def make_link(name: str, body: MakeLink) -> dict[str, Any]:
        role, folder = role_named(body.role), await to_share(name, body.part)
        expires_ms = node.now_ms() + 1000 * body.valid_s if body.valid_s else 0
        link = node.joining.make_link(folder.id, role, expires_ms, body.uses)
        return {"folder": folder.name, "link": link, "role": role, "expires_ms": expires_ms, "uses": body.uses}

    @app.post("/api/folders/{name}/unshare")
    async def unshare(name: str, body: Unshare) -> dict[str, Any]:
        if not body.links and body.whom is None:
            node.sharing.leave(node.joining.share_named(name))
            return {"folder": name, "left": True}
        folder = node.joining.folder(name)
        if body.links:
            return {"folder": folder.name, "links": node.sharing.cancel_invites(folder.id)}
        whom = node.joining.find(body.whom or "")
        roster = node.sharing.shares.of(folder.id)
        brought = roster.vouched_by(whom.id) if roster is not None else {}
        node.sharing.give(folder.id, whom.id, "none")
        names = sorted(node.sharing.shares.name_of(account) for account in brought)
        return {"folder": folder.name, "from": whom.name, "brought_and_stay": names}

    @app.post("/api/shares/accept")
    async def accept(body: Accept) -> dict[str, Any]:
        if body.path is not None:
            node.check_folder_path(body.path, create=True)
        if is_share_link(body.what):
            roster = await node.joining.redeem(body.what)
        else:
            roster = node.joining.offer_named(body.what).roster
        entry = node.account.folders().get(roster.folder)
        if entry is None and roster.folder not in node.holding.all:
            entry = node.sharing.accept(roster, body.name)
        role = roster.role(node.account.id)
        if entry is None:
            return {"folder": folder_label(roster.folder), "role": role, "path": None}
        path = None
        if body.path is not None and entry.id not in node.folders:
            path = views.shown((await node.folder_join(entry.name, body.path)).path)
        return {"folder": entry.name, "role": role, "path": path}

    @app.post("/api/shares/decline")
    async def decline(body: Decline) -> dict[str, Any]:
        offer = node.joining.offer_named(body.what)
        node.sharing.leave(offer.roster)
        return {"folder": offer.name, "by": offer.by}
