"""What kind of names the folder's disk can hold: found out at each start, as a folder may be moved to another disk.

A few files are made in `.shoal/tmp` and looked for under other names; on a disk that holds all names as they are that
is two files and five lookups. What is found holds for the whole folder: a folder in it that folds names by a rule of
its own (`chattr +F` on ext4) is not recognised, only kept from doing harm (`scan`).
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import replace
from os.path import join

from shoal.node.folder.disk import Disk
from shoal.node.folder.local import PARKED, PRIVATE, LocalIndex
from shoal.node.name_rules import FORBIDDEN, Case, NameRules
from shoal.node.replica import Replica

TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}  # not with the name

_STEM = "Kind-a"
_LETTER = f"{_STEM}\u00e9"
_LETTER_IN_TWO = f"{_STEM}e\u0301"
_SHARP_S = f"{_STEM}\u00df"
_ODD_SIGNS = f"{_STEM}{FORBIDDEN}\x01"
_NOT_UTF8 = f"{_STEM}\udcff"
_ALL_ODD = f"{_ODD_SIGNS}\udcff. "
_TRAILING = f"{_STEM}t. "
_RESERVED = "aux"


def find_rules(disk: Disk, root: str) -> NameRules:
    """Return what names the disk of the folder `root` takes. Raises OSError where that cannot be tried."""
    probe = _Probe(disk, join(root, PRIVATE, "tmp"))
    try:
        return probe.find()
    finally:
        probe.tidy()


class _Probe:
    def __init__(self, disk: Disk, place: str) -> None:
        self._disk = disk
        self._place = place
        self._made: set[str] = set()

    def find(self) -> NameRules:
        if not self._make(_LETTER):
            return NameRules(forbids=True, trims=True, reserves=True, utf8=True, case="full", forms=True)
        case = self._case()
        forms = self._is_there(_LETTER_IN_TWO)
        stored = self._disk.fs.names(self._place) if forms or case != "told" else []
        rules = NameRules(
            case=case,
            forms=forms,
            stores="NFD" if _LETTER_IN_TWO in stored else "",
            ignores=case != "told" and self._is_there(f"{_STEM}\u200d\u00e9"),
            lowers=_STEM.lower() in {name[: len(_STEM)] for name in stored},
        )
        return self._with_refusals(rules)

    def _case(self) -> Case:
        if not self._is_there(_LETTER.replace("a", "A")):
            return "told"
        if not self._is_there(_LETTER.replace("\u00e9", "\u00c9")):
            return "ascii"
        return "full" if self._make(_SHARP_S) and self._is_there(f"{_STEM}ss") else "simple"

    def _with_refusals(self, rules: NameRules) -> NameRules:
        if self._make(_ALL_ODD) and not self._is_there(_ALL_ODD.rstrip(". ")):
            return rules
        return replace(
            rules,
            forbids=not self._make(_ODD_SIGNS),
            trims=not self._make(_TRAILING) or self._is_there(_TRAILING.rstrip(". ")),
            reserves=not self._make(_RESERVED),
            utf8=not self._make(_NOT_UTF8),
        )

    def _make(self, name: str) -> bool:
        """Return whether the disk takes the name. Raises OSError where it takes nothing now."""
        try:
            self._disk.fs.open(join(self._place, name), "write").close()
        except OSError as error:
            if error.errno in TROUBLE:
                raise
            return False
        except ValueError:  # no name at all to this file system
            return False
        self._made.add(name)
        return True

    def _is_there(self, name: str) -> bool:
        try:
            return self._disk.look(join(self._place, name)) is not None
        except OSError:
            return False

    def tidy(self) -> None:
        """Remove what was made. What a crash leaves, the next one finds, takes for its own, and removes."""
        for name in self._made:
            with contextlib.suppress(OSError):
                self._disk.fs.unlink(join(self._place, name))


def move_in(disk: Disk, root: str, index: LocalIndex, replica: Replica) -> None:
    """The folder is on a disk of another kind than it was when last looked at. What such a disk cannot hold was lost on
    the way there, which is no deletion: stage that it is to come again. What is to be named otherwise is marked."""
    for record in index.odd_ones():
        directory = index.path(record.parent)
        if directory is None:
            continue
        try:
            names = set(disk.fs.names(join(root, directory) if directory else root))
        except OSError:
            continue
        alike = index.alike(record.parent, record.name)
        others = {name for name in names if index.rules.key(name) == index.rules.key(record.name)} - alike.keys()
        if record.name in names or (others and record.name == min(alike)):
            continue
        for gone in index.subtree(record.id):
            index.remove(gone.id)
            replica.stage_dirty(gone.id)
    for record in index.records():
        view = replica.view(record.id)
        if record.parent != PARKED and view is not None and view.name != record.name:
            replica.stage_dirty(view.copy_of or record.id)
