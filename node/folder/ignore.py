"""What is not synced: `.shoalignore` in the folder's root, with the rules of `.gitignore`, and Shoal's own things."""

from __future__ import annotations

import os

import pathspec

from shoal.node.folder.local import PRIVATE

RULES = ".shoalignore"


class IgnoreRules:
    """The rules as they stood when last read. The rules file itself is synced."""

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, RULES)
        self._mark: tuple[int, int] | None = None
        self._spec: pathspec.GitIgnoreSpec | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it changed. An unreadable one leaves the rules as they were."""
        try:
            stat = os.stat(self._path)
            if self._mark == (stat.st_mtime_ns, stat.st_size):
                return
            with open(self._path, encoding="utf-8", errors="replace") as file:
                self._spec = pathspec.GitIgnoreSpec.from_lines(file.read().splitlines())
            self._mark = stat.st_mtime_ns, stat.st_size
        except FileNotFoundError:
            self._mark, self._spec = None, None
        except (OSError, ValueError):
            return

    def ignores(self, path: str, *, is_dir: bool) -> bool:
        """Return whether a relative path is left out."""
        if path == PRIVATE or path.startswith(PRIVATE + "/"):
            return True
        return self._spec is not None and self._spec.match_file(path + "/" if is_dir else path)
