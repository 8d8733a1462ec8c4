"""People: what they do in a folder, and what is known of each text that they wrote.

Each act draws from a `Random` of its own, so that a script without some of its acts is still the same script.
"""

from __future__ import annotations

import random
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.sim.device import ROOT, Device

from shoal.node.folder.signature import Signature

NAMES = ["a", "b", "c", "d.txt"]
TWINS = [
    "A",
    "B",
    "D.TXT",
    "\u00e9",
    "e\u0301",
    "\u00c9",
    "a:b",
    "con",
]  # of those, of each other, and what some disks refuse


@dataclass
class Texts:
    """Every text ever written is another one. `destroyed`: those that a person overwrote or removed by hand, on which
    devices; `handled`: those whose files, or the folders they were in, somebody moved or touched, likewise; `before`:
    what a text was written over; `with_folder`: those that went with the folder they were in; `movers`: the devices on
    which a folder was moved, with all that others had put in it, or were yet to."""

    written: set[bytes] = field(default_factory=set)
    destroyed: dict[bytes, set[int]] = field(default_factory=dict)
    handled: dict[bytes, set[int]] = field(default_factory=dict)
    before: dict[bytes, bytes] = field(default_factory=dict)
    with_folder: set[bytes] = field(default_factory=set)
    movers: set[int] = field(default_factory=set)

    def may_come_back(self, text: bytes) -> bool:
        """Return whether somebody else than who destroyed it handled the file when it held this text, or what it was
        written over: a move beats a deletion that has not seen it, and so does an edit, a chmod or a touch."""
        handlers: set[int] = set()
        for each in self._way_back(text):
            handlers |= self.handled.get(each, set())
        # Nobody may have heard of what came after it, and went with its folder, or was moved out of that before.
        if any(text in self._way_back(gone) for gone in (*self.with_folder, *self.handled)):
            handlers |= self.movers
        destroyers = self.destroyed.get(text, set())
        return not destroyers or any(handlers - {destroyer} for destroyer in destroyers)

    def handle(self, text: bytes, device: int) -> None:
        """Take note that a file with this text was moved or touched on a device, where it is (again)."""
        self.handled.setdefault(text, set()).add(device)
        self.destroyed.get(text, set()).discard(device)

    def _way_back(self, text: bytes) -> Iterator[bytes]:
        way: bytes | None = text
        while way is not None:
            yield way
            way = self.before.get(way)


class Person:
    """Does things on a device: `act`."""

    def __init__(self, device: Device, texts: Texts, fancies: str | None = None) -> None:
        """`fancies`: seeds what is drawn for a person who likes names that some disks cannot hold."""
        self._fancies = fancies
        self._fancy = random.Random()
        self.device = device
        self.fs = device.fs
        self.texts = texts
        self._chance = random.Random()
        self._act = ""  # a name for the one that goes on
        self._count = 0
        self._signatures: set[Signature] = set()

    def act(self, chance: random.Random, name: str, path: str | None = None) -> str:
        """Do one thing, drawn by `chance`, perhaps to what is at `path`; return what it was. `name`: another for each
        act."""
        self._chance, self._act, self._count = chance, name, 0
        if path is not None:
            acts = [self.edit, self.edit, self.save, self.save, self.remove, self.move, self.chmod, self.create]
        else:
            acts = [self.create, self.create, self.edit, self.edit, self.save, self.save, self.mkdir, self.move]
            acts += [self.move, self.remove, self.swap, self.chmod, self.replace_kind]
        act = chance.choice(acts)
        if self._fancies is not None:
            self._fancy = random.Random(f"{self._fancies} {name}")
            if self._fancy.random() < 0.2:
                act = self._fancy.choice([self.respell, self.respell, self.move_up, self.there_and_back])
        return self._by_hand(act, path)

    def edit_again(self, chance: random.Random, name: str, path: str) -> str:
        """Write a file once more, if it is still there."""
        self._chance, self._act, self._count = chance, name, 0
        return self._by_hand(self.edit, path)

    def _by_hand(self, act: Callable[[str | None], str], path: str | None) -> str:
        self.device.by_hand = True
        try:
            said = act(path)
        except OSError as error:
            said = f"{act.__name__}: {error.strerror}"
        finally:
            self.fs.settle_journal()  # what people do is durable, and with it, as on ext4, all names of before
            self.device.by_hand = False
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

    def exists(self, path: str) -> bool:
        """Return whether something has the name."""
        try:
            self.fs.lstat(path)
        except OSError:
            return False
        return True

    def _any(self, paths: list[str], path: str | None) -> str | None:
        """Return the one that was asked for, or any; None where there is none."""
        if path in paths:
            return path
        return self._chance.choice(paths) if paths else None

    def _place(self) -> str:
        folder, name = self._chance.choice(self.folders()), self._chance.choice(NAMES)
        if self._fancies is not None and self._fancy.random() < 0.4:
            name = self._fancy.choice(TWINS)
        return f"{folder}/{name}"

    # -- what becomes of texts ---------------------------------------------------------------------------------------

    def _write(self, path: str, over: bytes | None = None) -> None:
        self._count += 1
        text = f"{self._act}.{self._count}".encode().ljust(12) * self._chance.choice([1, 1, 1, 2])
        file = self.fs.open(path, "write")
        self._signatures.add(file.stat())
        file.truncate(0)
        while file.stat()._replace(size=len(text)) in self._signatures:
            text += text[:12]  # its clock went back: nothing on the disk would tell this text from one of before
        file.write(text, 0)  # raises where the disk is full: then it was never written
        self._signatures.add(file.stat())
        self.texts.written.add(text)
        if over is not None:
            self.texts.before[text] = over
        file.sync()

    def _destroy(self, path: str) -> None:
        if stat.S_ISREG(self.fs.lstat(path).mode):
            self.texts.destroyed.setdefault(self.text(path), set()).add(self.device.number)

    def _handle(self, path: str) -> None:
        found = self.fs.lstat(path).mode
        inside = self.paths(path) if stat.S_ISDIR(found) else [path]
        if stat.S_ISDIR(found):
            self.texts.movers.add(self.device.number)
        for each in inside:
            if stat.S_ISREG(self.fs.lstat(each).mode):
                self.texts.handle(self.text(each), self.device.number)

    # -- what they do ------------------------------------------------------------------------------------------------

    def create(self, path: str | None) -> str:
        place = path if path is not None and path.startswith(ROOT + "/") else self._place()
        if self.exists(place) or place.startswith(f"{ROOT}/.shoal"):
            return "nothing"
        self._write(place)
        return f"create {place}"

    def edit(self, path: str | None) -> str:
        path = self._any(self.files(), path)
        if path is None:
            return "nothing"
        self._destroy(path)
        self._write(path, over=self.text(path))
        return f"edit {path}"

    def save(self, path: str | None) -> str:
        """Save as editors do: whole, under the old name."""
        path = self._any(self.files(), path)
        if path is None or self.exists(f"{path}~"):
            return "nothing"
        self._write(f"{path}~", over=self.text(path))
        self._destroy(path)
        self.fs.rename(f"{path}~", path)
        return f"save {path}"

    def mkdir(self, path: str | None) -> str:
        place = self._place()
        self.fs.mkdir(place)
        return f"mkdir {place}"

    def move(self, path: str | None) -> str:
        path, place = self._any(self.paths(), path), self._place()
        if path is None or self.exists(place):
            return "nothing"
        self._handle(path)
        self.fs.rename(path, place)
        return f"move {path} to {place}"

    def remove(self, path: str | None) -> str:
        path = self._any(self.paths(), path)
        if path is None:
            return "nothing"
        self._remove(path)
        return f"remove {path}"

    def _remove(self, path: str) -> None:
        if stat.S_ISDIR(self.fs.lstat(path).mode):
            for inside in sorted(self.paths(path), key=len, reverse=True):
                if stat.S_ISREG(self.fs.lstat(inside).mode):
                    self.texts.with_folder.add(self.text(inside))
                self._remove(inside)
            self.fs.rmdir(path)
        else:
            self._destroy(path)
            self.fs.unlink(path)

    def swap(self, path: str | None) -> str:
        paths = self.paths()
        if len(paths) < 2:
            return "nothing"
        one, other = self._chance.sample(paths, 2)
        self._handle(one)
        self._handle(other)
        self.fs.exchange(one, other)
        return f"swap {one} and {other}"

    def chmod(self, path: str | None) -> str:
        path = self._any(self.paths(), path)
        if path is None:
            return "nothing"
        mode = self._chance.choice([0o600, 0o644, 0o755]) | (0o100 if path in self.folders() else 0)
        self._handle(path)
        self.fs.open(path, "look").chmod(mode)
        return f"chmod {mode:o} {path}"

    def replace_kind(self, path: str | None) -> str:
        path = self._any(self.paths(), path)
        if path is None:
            return "nothing"
        was_folder = stat.S_ISDIR(self.fs.lstat(path).mode)
        self._remove(path)
        if was_folder:
            self._write(path)
        else:
            self.fs.mkdir(path)
            self._write(f"{path}/in")
        return f"replace by the other kind {path}"

    def respell(self, path: str | None) -> str:
        """Rename to what a disk may take for the same name; also where a plain rename would do nothing."""
        path = self._any(self.paths(), path)
        if path is None:
            return "nothing"
        folder, _, name = path.rpartition("/")
        ways = [name.swapcase(), unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]
        place = f"{folder}/{self._fancy.choice(ways)}"
        if place == path or (self.exists(place) and not self._is_same(path, place)):
            return "nothing"
        self._handle(path)
        if self._fancy.random() < 0.5:
            self.fs.rename(path, place)
        else:
            self.fs.rename(path, f"{folder}/~")
            self.fs.rename(f"{folder}/~", place)
        return f"respell {path} as {place}"

    def _is_same(self, path: str, place: str) -> bool:
        return self.fs.lstat(path).inode == self.fs.lstat(place).inode

    def move_up(self, path: str | None) -> str:
        """Move out of a folder, to the one above, under its name or the folder's twin's."""
        inside = [each for each in self.paths() if each.count("/") > ROOT.count("/") + 1]
        path = self._any(inside, path)
        if path is None or path not in inside:
            return "nothing"
        folder, _, name = path.rpartition("/")
        above, _, outer = folder.rpartition("/")
        place = f"{above}/{self._fancy.choice([name, outer.swapcase(), name.swapcase()])}"
        if self.exists(place):
            return "nothing"
        self._handle(path)
        self.fs.rename(path, place)
        return f"move up {path} to {place}"

    def there_and_back(self, path: str | None) -> str:
        """Have a folder where a file was, and a file again; or the other way round."""
        path = self._any(self.paths(), path)
        if path is None:
            return "nothing"
        said = [self.replace_kind(path), self.replace_kind(path)]
        return " and ".join(said)
