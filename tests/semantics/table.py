"""The rows as docs/SEMANTICS.md has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.semantics.case import Case, tree
from tests.semantics.rows import AFTERWARDS, FOLDER_AND_BELOW, MOVES, OTHER_DISKS, SAME_PLACE, THREE

PAGE = Path(__file__).parents[2] / "docs" / "SEMANTICS.md"
BEGIN = "<!-- rows: written by `python -m tests.semantics` -->"
SECTIONS = (
    ("Two devices, on one file or beside it", SAME_PLACE),
    ("Two devices, on a folder and on what is in it", FOLDER_AND_BELOW),
    ("Swaps, chains, folders in each other, other kinds, modes, case", MOVES),
    ("What is done after such a meeting", AFTERWARDS),
    ("Three devices", THREE),
    ("Disks that cannot hold all names", OTHER_DISKS),
)


def all_cases() -> list[Case]:
    """Return every row's case."""
    return [case for _, cases in SECTIONS for case in cases]


def rows() -> str:
    """Return the tables."""
    return "\n\n".join(_section(title, cases) for title, cases in SECTIONS) + "\n"


def _section(title: str, cases: Sequence[Case]) -> str:
    most = max(len(case.acts) for case in cases)
    names = [f"device {name}" for name in "ABC"[:most]]
    lines = [f"### {title}", "", _line("before", *names, "all devices afterwards", "test")]
    lines.append(_line(*["---"] * (most + 3)))
    for case in cases:
        acts: list[str] = [_quoted(act.split("; ")) for act in case.acts]
        for at, disk in case.disks:
            acts[at] = f"{disk}: {acts[at]}"
        lines.append(_line(_tree(case.start), *acts, _outcome(case), case.id))
    return "\n".join(lines).replace("e\u0301", "e\u00b4")


def _outcome(case: Case) -> str:
    said = [_both(*outcome) for outcome in case.outcomes]
    if case.then:
        said[0] = f"then A: `{case.then}`: {said[0]}"
    said[1:] = [f"or {other}" for other in said[1:]]
    return "; ".join(said) + (f". {case.why}" if case.why else "")


def _both(usual: str, other: str) -> str:
    return _tree(usual) if usual == other else f"{_tree(usual)}; there: {_tree(other)}"


def _tree(text: str) -> str:
    """Return a tree, without the folders that something is in."""
    found = tree(text)
    parts = []
    for path, said in found.items():
        if path.endswith("/"):
            if not any(other != path and other.startswith(path) for other in found):
                parts.append(f"`{path}`")
        else:
            plain = said == path.rpartition("/")[2]
            parts.append(f"`{path}`" if plain else f"`{path}` = {said}")
    return ", ".join(parts) or "nothing"


def _quoted(parts: Sequence[str]) -> str:
    return ", ".join(f"`{part}`" for part in parts)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
