"""What is not synced: `.shoalignore` in the folder's root, with the rules of `.gitignore`, and Shoal's own things."""

from __future__ import annotations

import os

import pathspec

from shoal.node.folder.disk import Disk
from shoal.node.folder.local import PRIVATE

RULES = ".shoalignore"


class IgnoreRules:
    """The rules as they stood when last read. The rules file itself is synced."""

    def __init__(self, disk: Disk, root: str) -> None:
        self._disk = disk
        self._path = os.path.join(root, RULES)
        self._mark: tuple[int, int] | None = None
        self._spec: pathspec.GitIgnoreSpec | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it changed. An unreadable one leaves the rules as they were."""
        try:
            found = self._disk.fs.lstat(self._path)
            if self._mark == (found.mtime_ns, found.size):
                return
            self._spec = pathspec.GitIgnoreSpec.from_lines(self._disk.read_text(self._path).splitlines())
            self._mark = found.mtime_ns, found.size
        except FileNotFoundError:
            self._mark, self._spec = None, None
        except (OSError, ValueError):
            return

    def ignores(self, path: str, *, is_dir: bool) -> bool:
        """Return whether a relative path is left out."""
        if path == PRIVATE or path.startswith(PRIVATE + "/"):
            return True
        return self._spec is not None and self._spec.match_file(path + "/" if is_dir else path)
