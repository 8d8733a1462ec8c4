"""What a row of docs/SEMANTICS.md is made of.

A tree is written as `d/; d/f; n=new by A`: folders end in a slash, a file's text stands after the sign, and is the
file's last name where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Disk = Literal["folding", "storing", "refusing"]
"""folding: `a` and `A` are one name, and so are the two forms of an accented letter; storing: likewise, and the form in
two signs is the one that is stored; refusing: as on Windows, and `:` and the like are in no name."""

Tree = dict[str, str]  # path -> text, empty for a folder, whose path ends in a slash


@dataclass(frozen=True)
class Case:
    """`start`: what all have; `acts`: what each device does while apart; `outcome`: what all show in the end, `either`:
    what they may show as well, where the greater device decides; `races`: it is who hears of what first that decides;
    `then`: what the first does after they met, before the outcome. The acts are the methods of `world.Hand`. `disks`:
    of those that have other disks than Linux's usual ones, by device; `there`: what such a device shows, if it is
    something else, and `either_there` likewise."""

    id: str
    start: str
    acts: tuple[str, ...]
    outcome: str
    either: tuple[str, ...] = ()
    why: str = ""
    then: str = ""
    races: bool = False
    disks: tuple[tuple[int, Disk], ...] = ()
    there: str = ""
    either_there: tuple[str, ...] = ()

    @property
    def outcomes(self) -> tuple[tuple[str, str], ...]:
        """What may come of it: on usual disks, and on the others."""
        usual = self.outcome, *self.either
        others = self.there, *(self.either_there or ("",) * len(self.either))
        return tuple((one, other or one) for one, other in zip(usual, others, strict=True))


def tree(text: str) -> Tree:
    """Read a tree as it is written in a case."""
    found: Tree = {}
    for part in filter(None, text.split("; ")):
        path, _, said = part.partition("=")
        found[path] = "" if path.endswith("/") else said or path.rpartition("/")[2]
    return found


def written(found: Tree) -> str:
    """Return how a tree is written in a case."""
    parts = []
    for path, text in sorted(found.items()):
        plain = path.endswith("/") or text == path.rpartition("/")[2]
        parts.append(path if plain else f"{path}={text}")
    return "; ".join(parts)
