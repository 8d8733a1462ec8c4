"""A pairing code and where its device is, as one link: `shoal://pair/271-48213-90756?a=ADDRESS&a=ADDRESS`.

It is as secret as the code: whoever has it first, within ten minutes, adds a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs, quote, urlsplit

from shoal.node.errors import EXIT_USAGE, UserError

SCHEME = "shoal"
ADDRESSES = 3  # in a link, so that its QR code stays small


def chosen_addresses(addresses: Sequence[str]) -> list[str]:
    """Return the addresses for a link: one of each kind first, those of the machine itself last."""
    kinds: dict[str, list[str]] = {"direct": [], "circuit": [], "own": []}
    for address in addresses:
        is_own = "/127." in address or "/::1/" in address
        kinds["circuit" if "/p2p-circuit" in address else "own" if is_own else "direct"].append(address)
    first = [kinds[kind][0] for kind in ("direct", "circuit") if kinds[kind]]
    return list(dict.fromkeys([*first, *kinds["direct"], *kinds["circuit"], *kinds["own"]]))[:ADDRESSES]


def make_link(code: str, addresses: Sequence[str]) -> str:
    """Return the link."""
    return f"{SCHEME}://pair/{code}" + "".join(
        f"{'&' if place else '?'}a={quote(address, safe='/:')}"
        for place, address in enumerate(chosen_addresses(addresses))
    )


def is_link(text: str) -> bool:
    """Return whether a text is a link, and no bare code."""
    return text.strip().lower().startswith(f"{SCHEME}:")


def read_link(text: str) -> tuple[str, list[str]]:
    """Return the code and the addresses of a link. Raises UserError."""
    try:
        parts = urlsplit(text.strip())
        addresses = parse_qs(parts.query).get("a", [])
    except ValueError:
        parts, addresses = urlsplit(""), []
    code = parts.path.strip("/")
    if parts.netloc != "pair" or not code:
        raise UserError(
            "bad-link", f"{text!r} is no link for pairing", "the other device shows one: shoal pair", EXIT_USAGE
        )
    return code, addresses
