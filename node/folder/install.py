"""Finished temporaries take their names: what they replace is kept, and what a person saved meanwhile stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from os.path import dirname

from shoal.crdt.model import NodeView
from shoal.node.folder.disk import Disk, is_same
from shoal.node.folder.local import LocalNode
from shoal.node.folder.marker import PART, SWAP
from shoal.node.folder.signature import Signature


@dataclass(frozen=True, slots=True)
class Target:
    """A file to put in place."""

    view: NodeView
    temporary: str
    path: str  # absolute
    replaces: LocalNode | None
    keep_as: str  # absolute; where what it replaces is kept

    @property
    def swap(self) -> str:
        """Where the temporary is while it changes places with what it replaces."""
        return self.temporary.removesuffix(PART) + SWAP


class Installer:
    """Puts a folder's files in place. Its calls belong in a thread, or in turns."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def finish(self, targets: Sequence[Target]) -> list[Signature | OSError]:
        """Give the temporaries their lengths, modes and times; return for each its signature, or what went wrong."""
        results: list[Signature | OSError] = []
        with self._disk.fs.held():
            for target in targets:
                assert target.view.version.content is not None
                try:
                    results.append(self._disk.finish_temporary(target.temporary, target.view.version.content))
                except OSError as error:
                    results.append(error)
        return results

    def take_names(self, ready: Sequence[tuple[Target, Signature | OSError]]) -> list[Signature | OSError | None]:
        """Put finished temporaries in their places; return for each its signature there; None where the disk was not
        as expected, which is left as it is; or the error. Those that failed are temporaries still."""
        with self._disk.fs.held():
            results: list[Signature | OSError | None] = []
            for directory, there in groupby(ready, lambda pair: dirname(pair[0].path)):
                results += self._take_names(directory, list(there))
            return results

    def _take_names(
        self, directory: str, ready: Sequence[tuple[Target, Signature | OSError]]
    ) -> list[Signature | OSError | None]:
        results: list[Signature | OSError | None] = []
        try:
            with self._disk.writable(directory):
                for target, made in ready:
                    try:
                        results.append(made if isinstance(made, OSError) else self._take_name(target, made))
                    except FileExistsError:
                        results.append(None)
                    except OSError as error:
                        results.append(error)
        except OSError as error:  # of the folder itself
            results += [error] * (len(ready) - len(results))
        return results

    def _take_name(self, target: Target, made: Signature) -> Signature | None:
        """A file that a person saved over it at once is seen as a change: the signature says then that it is to be
        read."""
        if target.replaces is None:
            self._disk.rename_new(target.temporary, target.path)
        elif not self._replace(target, made, target.replaces.signature):
            return None
        found = self._disk.look(target.path)
        return found if found is not None and is_same(found, made) else made._replace(ctime_ns=0)

    def _replace(self, target: Target, made: Signature, expected: Signature) -> bool:
        """Replace the file that was `expected`, and keep it; return False when it is another by now, which stays."""
        fs, path, temporary, kept = self._disk.fs, target.path, target.temporary, target.keep_as
        if self._disk.look(path) != expected:
            return False
        there = self._disk.look(kept)
        if there is not None and not is_same(there, expected):
            fs.rename(kept, f"{kept}-{there.inode}-{there.ctime_ns}")
        try:
            fs.link(path, kept)  # before: a crash at any line leaves it under some name
        except FileExistsError:
            pass
        except OSError:  # no hard links here: the name is without a file for a moment
            return self._replace_without_links(target, expected)
        swap = target.swap  # may come to hold what nobody else has: never just removed
        fs.rename(temporary, swap)
        try:
            exchanged = fs.exchange(swap, path)
        except OSError:  # its name is gone: what came is a temporary again
            fs.rename(swap, temporary)
            raise
        if not exchanged:
            fs.rename(swap, path)
            return True
        if is_same(self._disk.look(swap), expected):
            fs.unlink(swap)
            return True
        # Someone saved the file after we had looked: what they saved goes back to its name, and what came, away.
        fs.exchange(swap, path)
        there = fs.lstat(swap)
        if is_same(there, made):
            fs.rename(swap, temporary)
        else:  # they saved it once more, over what came: that one stays
            fs.exchange(swap, path)
            fs.rename(swap, f"{kept}-{there.inode}-{there.ctime_ns}")
        return False

    def _replace_without_links(self, target: Target, expected: Signature) -> bool:
        self._disk.fs.rename(target.path, target.keep_as)
        if not is_same(self._disk.look(target.keep_as), expected):
            self._disk.rename_new(target.keep_as, target.path)
            return False
        self._disk.rename_new(target.temporary, target.path)
        return True
