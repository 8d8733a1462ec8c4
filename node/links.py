"""What people hand each other: a card, by which somebody is known, and a link, by which somebody joins a folder.

    card    shoal://contact/ACCOUNT?n=NAME&a=ADDRESS&a=ADDRESS
    link    shoal://share/SEED?u=ACCOUNT&a=ADDRESS&a=ADDRESS

ACCOUNT is an account's id and SEED the private half of an invite's key, in base 32. A card is no secret, though who has
one can ask which devices somebody has; whoever has a link can join the folder, as long as it is valid.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, urlsplit

from shoal.bootstrap.peerid import device_from_text
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.pairing_link import SCHEME
from shoal.node.shares import clean_name


@dataclass(frozen=True, slots=True)
class Card:
    """Somebody's account, what it calls itself, and where its devices may be."""

    account: bytes
    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShareLink:
    """An invite to a folder of `account`."""

    seed: bytes = field(repr=False)
    account: bytes
    addresses: tuple[str, ...]


def make_card(card: Card) -> str:
    """Return a card as text."""
    return f"{SCHEME}://contact/{_base32(card.account)}?n={quote(card.name, safe='')}{_places(card.addresses)}"


def make_share_link(link: ShareLink) -> str:
    """Return a link as text."""
    return f"{SCHEME}://share/{_base32(link.seed)}?u={_base32(link.account)}{_places(link.addresses)}"


def is_card(text: str) -> bool:
    """Return whether a text is meant for a card."""
    return text.strip().lower().startswith(f"{SCHEME}://contact")


def is_share_link(text: str) -> bool:
    """Return whether a text is meant for a link to a folder."""
    return text.strip().lower().startswith(f"{SCHEME}:") and not is_card(text)


def read_card(text: str) -> Card:
    """Raises UserError."""
    with _told("bad-card", "that is no contact card", "they show theirs with: shoal contact card"):
        path, query = _parts(text, "contact")
        return Card(_bytes(path), clean_name(query.get("n", [""])[0]), _addresses(query))


def read_share_link(text: str) -> ShareLink:
    """Raises UserError."""
    with _told("bad-link", "that is no link to a shared folder", "they make one with: shoal share FOLDER --link"):
        path, query = _parts(text, "share")
        return ShareLink(_bytes(path), _bytes(query.get("u", [""])[0]), _addresses(query))


@contextmanager
def _told(code: str, message: str, hint: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(code, f"{message}: {error}", hint, EXIT_USAGE, 400) from error


def _parts(text: str, what: str) -> tuple[str, dict[str, list[str]]]:
    parts = urlsplit(text.strip())
    if parts.scheme != SCHEME or parts.netloc != what:
        raise ValueError(f"it does not begin with {SCHEME}://{what}/")
    return parts.path.strip("/"), parse_qs(parts.query)


def _addresses(query: dict[str, list[str]]) -> tuple[str, ...]:
    addresses = tuple(query.get("a", ())[:8])
    for address in addresses:
        device_from_text(address.rpartition("/p2p/")[2])  # ValueError
    return addresses


def _places(addresses: Sequence[str]) -> str:
    return "".join(f"&a={quote(address, safe='/:')}" for address in addresses)


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _bytes(text: str) -> bytes:
    """Return 32 bytes. Raises ValueError."""
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 32:
        raise ValueError("a part of it is missing or was changed")
    return data
