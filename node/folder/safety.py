"""When to stop and ask. Pure predicates, each against a way in which sync tools have lost people's files."""

from __future__ import annotations

MANY = 100


def is_mass_disappearance(gone: int, known: int) -> bool:
    """Return whether so much is missing at a scan that nobody saw go, that a person must confirm it.

    A volume that did not mount, a restore gone wrong, a folder moved away: to the disk they look like deletions.
    """
    return gone > MANY and gone * 2 > known
