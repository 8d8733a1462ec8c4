"""What a row of docs/SEMANTICS.md is made of."""

from __future__ import annotations

from dataclasses import dataclass

Tree = dict[str, str]  # path -> text; a folder's path ends in a slash, and its text is empty


@dataclass(frozen=True)
class Case:
    """`start`: what all have; `acts`: what each device does while apart; `outcome`: what all show in the end."""

    id: str
    start: Tree
    acts: tuple[str, ...]
    outcome: Tree
    either: Tree | None = None  # the outcome with the devices' parts changed, where it differs
    why: str = ""
