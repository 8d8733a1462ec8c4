"""Deletions that nobody saw, too many to be believed: held until a person confirms them, or the files are back.

Which is to say: a disk that came up empty, a restore gone wrong, a folder moved away by hand while nobody watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from shoal.crdt.model import NodeId
from shoal.node.folder.safety import MANY, is_mass_disappearance
from shoal.node.folder.scan import folders_above


class HeldDeletions:
    """The nodes of one folder that are gone, and stay in the document for now. `count`: how many are gone with some
    nodes, what was in them included, but for those that moved."""

    def __init__(self, count: Callable[[Iterable[NodeId], Set[NodeId]], int]) -> None:
        self._count = count
        self._missing: dict[NodeId, str] = {}
        self._paths: set[str] = set()

    @property
    def nodes(self) -> set[NodeId]:
        """Those that are known to be gone as such, not for the folder they were in."""
        return set(self._missing)

    @property
    def count(self) -> int:
        """How many are held, what was in them included."""
        return self._count(self._missing, frozenset()) if self._missing else 0

    def __bool__(self) -> bool:
        return bool(self._missing)

    def judge(self, unseen: dict[NodeId, str], others: set[NodeId], moved: Set[NodeId], known: int) -> set[NodeId]:
        """Return which of the nodes that a look at everything found gone, and nobody saw go, are to be held. `others`:
        what is gone because something else has its name; `moved`: what of all that is elsewhere now; `known`: how many
        nodes there are."""
        if not is_mass_disappearance(self._count(unseen.keys() | others, moved), known):
            # What of those held before is gone yet stays held, few as it may be.
            unseen = {node: path for node, path in unseen.items() if self.covers(path)}
        self._set(unseen)
        return self.nodes

    def covers(self, path: str) -> bool:
        """Return whether what was at the path is held."""
        return bool(self._paths) and any(each in self._paths for each in (path, *folders_above(path)))

    def of(self, paths: set[str]) -> set[str]:
        """Return those of the paths that are held as such."""
        return paths & self._paths

    def release(self, nodes: Iterable[NodeId]) -> None:
        """These were seen to go after all, or are confirmed."""
        gone = set(nodes)
        self._set({node: path for node, path in self._missing.items() if node not in gone})

    def _set(self, missing: dict[NodeId, str]) -> None:
        self._missing = missing
        self._paths = set(missing.values())


class Sightings:
    """Paths of which the watcher told, and that were not looked at since. What is gone of these was seen to go:
    somebody deleted or moved it, and no disk went missing."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self.lost = False  # whether some may not have been told of, since everything was last looked at

    def add(self, paths: Iterable[str]) -> None:
        """The watcher told of these."""
        self._told.update(paths)

    def moved(self, old: str, new: str) -> None:
        """What had the path `old` when it was told of has the path `new`."""
        if old in self._told:
            self._told.add(new)

    def take(self, paths: Iterable[str] | None = None) -> set[str]:
        """Return those of `paths` that were told of, all by default, as they are looked at now."""
        taken = set(self._told) if paths is None else self._told.intersection(paths)
        self._told -= taken
        return taken

    def explain(self, paths: Iterable[str], told: set[str]) -> bool:
        """Return whether what is gone of `paths` was seen to go as far as can be told: of very many deletions at once
        the kernel tells of the first some thousand alone. `told`: what was taken for this look."""
        paths = set(paths)
        seen = len(paths & told) + len(paths & self._told - told)
        return seen * 2 > len(paths) or (self.lost and seen > MANY)

    def __contains__(self, path: str) -> bool:
        return path in self._told
