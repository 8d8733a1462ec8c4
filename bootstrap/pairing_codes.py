"""One-time pairing codes: `271-48213-90756`. The first group says which offer is meant, and is no secret; the other two
are the password, 33 bits of chance for one guess."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

SECONDS = 600


@dataclass(frozen=True, slots=True)
class Code:
    """A pairing code. `plate`: three public digits; `secret`: ten digits."""

    plate: str
    secret: str

    def __str__(self) -> str:
        return f"{self.plate}-{self.secret[:5]}-{self.secret[5:]}"


def new_code() -> Code:
    """Draw a code."""
    return Code(f"{secrets.randbelow(1000):03d}", f"{secrets.randbelow(10**10):010d}")


def parse_code(text: str) -> Code:
    """Read a code as a person types it: spaces and dashes do not matter. Raises ValueError."""
    digits = "".join(c for c in text if c not in " -\u2013\u2014\t")
    if len(digits) != 13 or not (digits.isascii() and digits.isdigit()):
        raise ValueError("a pairing code has 13 digits, like 271-48213-90756")
    return Code(digits[:3], digits[3:])
