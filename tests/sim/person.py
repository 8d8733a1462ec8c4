"""People: what they do in a folder, and what is known of each text that they wrote."""

from __future__ import annotations

import random
import stat
from dataclasses import dataclass, field

from tests.sim.device import ROOT, Device

NAMES = ["a", "b", "c", "d.txt"]


@dataclass
class Texts:
    """Every text ever written is another one. `destroyed`: those that a person overwrote or removed by hand;
    `handled`: those whose files others moved, touched or edited meanwhile."""

    count: int = 0
    written: set[bytes] = field(default_factory=set)
    destroyed: set[bytes] = field(default_factory=set)


class Person:
    """Does random things on a device."""

    def __init__(self, device: Device, texts: Texts, seed: int) -> None:
        self.device = device
        self.fs = device.fs
        self.texts = texts
        self.chance = random.Random(f"person {seed} {device.number}")
        self.log: list[str] = []

    def act(self) -> str:
        """Do one thing; return what it was."""
        choices = [self.create, self.create, self.edit, self.save, self.mkdir, self.move, self.move, self.remove]
        choices += [self.swap, self.chmod, self.replace_kind, self.edit]
        act = self.chance.choice(choices)
        self.device.by_hand = True
        try:
            said = act()
        except OSError as error:
            said = f"{act.__name__}: {error.strerror}"
        finally:
            self.device.by_hand = False
        self.fs.settle()
        return said

    # -- what there is -----------------------------------------------------------------------------------------------

    def paths(self, root: str = ROOT) -> list[str]:
        """Return all paths in the folder."""
        found = []
        for name, signature in sorted(self.fs.scan(root)):
            if (root, name) == (ROOT, ".shoal"):
                continue
            path = f"{root}/{name}"
            found.append(path)
            if stat.S_ISDIR(signature.mode):
                found += self.paths(path)
        return found

    def files(self) -> list[str]:
        """Return the paths of files."""
        return [path for path in self.paths() if stat.S_ISREG(self.fs.lstat(path).mode)]

    def folders(self) -> list[str]:
        """Return the paths of folders, the root included."""
        return [ROOT, *(path for path in self.paths() if stat.S_ISDIR(self.fs.lstat(path).mode))]

    def text(self, path: str) -> bytes:
        """Return what is in a file."""
        return self.fs.open(path, "read").read(1 << 20, 0)

    def _place(self) -> str:
        return f"{self.chance.choice(self.folders())}/{self.chance.choice(NAMES)}"

    def _exists(self, path: str) -> bool:
        try:
            self.fs.lstat(path)
        except OSError:
            return False
        return True

    def _write(self, path: str) -> bytes:
        self.texts.count += 1
        text = f"{self.device.number} {self.texts.count:06}".encode() * self.chance.choice([1, 1, 2])
        self.texts.written.add(text)
        file = self.fs.open(path, "write")
        file.truncate(0)
        file.write(text, 0)
        return text

    def _destroy(self, path: str) -> None:
        found = self.fs.lstat(path)
        if stat.S_ISREG(found.mode):
            self.texts.destroyed.add(self.text(path))

    # -- what they do ------------------------------------------------------------------------------------------------

    def create(self) -> str:
        place = self._place()
        if self._exists(place):
            return "nothing"
        self._write(place)
        return f"create {place}"

    def edit(self) -> str:
        files = self.files()
        if not files:
            return "nothing"
        path = self.chance.choice(files)
        self._destroy(path)
        self._write(path)
        return f"edit {path}"

    def save(self) -> str:
        """Save as editors do: whole, under the old name."""
        files = self.files()
        if not files:
            return "nothing"
        path = self.chance.choice(files)
        fresh = f"{path}~"
        self._write(fresh)
        self._destroy(path)
        self.fs.rename(fresh, path)
        return f"save {path}"

    def mkdir(self) -> str:
        place = self._place()
        self.fs.mkdir(place)
        return f"mkdir {place}"

    def move(self) -> str:
        paths = self.paths()
        if not paths:
            return "nothing"
        path, place = self.chance.choice(paths), self._place()
        if self._exists(place):
            return "nothing"
        self.fs.rename(path, place)
        return f"move {path} to {place}"

    def remove(self) -> str:
        paths = self.paths()
        if not paths:
            return "nothing"
        path = self.chance.choice(paths)
        self._remove(path)
        return f"remove {path}"

    def _remove(self, path: str) -> None:
        if stat.S_ISDIR(self.fs.lstat(path).mode):
            for inside in sorted(self.paths(path), key=len, reverse=True):
                self._remove(inside)
            self.fs.rmdir(path)
        else:
            self._destroy(path)
            self.fs.unlink(path)

    def swap(self) -> str:
        paths = self.paths()
        if len(paths) < 2:
            return "nothing"
        one, other = self.chance.sample(paths, 2)
        self.fs.exchange(one, other)
        return f"swap {one} and {other}"

    def chmod(self) -> str:
        paths = self.paths()
        if not paths:
            return "nothing"
        path = self.chance.choice(paths)
        mode = self.chance.choice([0o600, 0o644, 0o755]) | (0o100 if path in self.folders() else 0)
        self.fs.open(path, "look").chmod(mode)
        return f"chmod {mode:o} {path}"

    def replace_kind(self) -> str:
        paths = self.paths()
        if not paths:
            return "nothing"
        path = self.chance.choice(paths)
        was_folder = stat.S_ISDIR(self.fs.lstat(path).mode)
        self._remove(path)
        if was_folder:
            self._write(path)
        else:
            self.fs.mkdir(path)
            self._write(f"{path}/in")
        return f"replace by the other kind {path}"
