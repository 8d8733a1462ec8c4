"""What is not synced: rules as in `.gitignore`, and Shoal's own things.

Two files have rules: `.shoalignore` in the folder's root, which is synced like any file and counts on all devices, and
`.shoal/ignore`, which is this device's own. Both are one list, the device's own last: of several rules that match, the
last one counts, so it may take back (`!name`) what the synced ones leave out. What is in a folder that is left out is
left out, whatever the rules say of it. Rules keep back what is new here; what the folder has already stays synced.
"""

from __future__ import annotations

import os
import re

import pathspec

from shoal.node.folder.disk import Disk
from shoal.node.folder.local import PARKING, PRIVATE
from shoal.node.folder.signature import Signature

RULES = ".shoalignore"
OWN_RULES = f"{PRIVATE}/ignore"
RULE_FILES = (RULES, OWN_RULES)

_INSIDE = re.compile(r"/\*\*(/?)$")


class IgnoreRules:
    """The rules as they stood when last read. `faults`: of the files, by path, what is wrong in them."""

    def __init__(self, disk: Disk, root: str) -> None:
        self._disk = disk
        self._root = root
        self._seen: dict[str, Signature | None] = {}
        self._lines: dict[str, list[str]] = {}
        self._spec: pathspec.GitIgnoreSpec | None = None
        self.faults: dict[str, str] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read again what changed; return whether the rules are others now. A file that cannot be read leaves its rules
        as they were."""
        before, faults = dict(self._lines), dict(self.faults)
        for path in RULE_FILES:
            self._read(path)
        if (self._lines, self.faults) == (before, faults):
            return False
        lines = [line for path in RULE_FILES for line in self._lines.get(path, ())]
        self._spec = pathspec.GitIgnoreSpec.from_lines(lines) if lines else None
        return True

    def _read(self, path: str) -> None:
        full = os.path.join(self._root, path)
        try:
            found = self._disk.look(full)
            if found is None:
                self._lines.pop(path, None)
                self.faults.pop(path, None)
            elif found != self._seen.get(path):
                self._lines[path] = self._sound(path, self._disk.read_text(full).splitlines())
            self._seen[path] = found
        except OSError as error:
            self.faults[path] = f"its rules cannot be read: {error.strerror}"

    def _sound(self, path: str, lines: list[str]) -> list[str]:
        """Return the lines that are rules."""
        self.faults.pop(path, None)
        sound = []
        for number, line in enumerate(lines, 1):
            try:
                pathspec.GitIgnoreSpec.from_lines([line])
                # In git, what ends so matches what is in a folder and not the folder; in pathspec, both.
                sound.append(_INSIDE.sub(r"/*\1", line))
            except (ValueError, re.error):  # which pathspec lets through
                self.faults[path] = f"line {number} is no rule: {line!r}; the others count"
        return sound

    def ignores(self, path: str, *, is_dir: bool) -> bool:
        """Return whether a relative path is left out. What is in a folder that waits for its name is no less a person's
        than elsewhere."""
        path = path.removeprefix(PARKING)
        if path == PRIVATE or path.startswith(PRIVATE + "/"):
            return True
        return self._spec is not None and self._spec.match_file(path + "/" if is_dir else path)
