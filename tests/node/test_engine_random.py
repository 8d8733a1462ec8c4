"""Two real folders, random acts of two people, together and apart: both end the same, and no written words are lost."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, settle

NAMES = ["a", "b", "c", "d.txt", "E"]


class Person:
    """Does random things in a folder. `destroyed`: the words that went by this person's own hand."""

    def __init__(self, chance: random.Random, root: Path, name: str) -> None:
        self.chance = chance
        self.root = root
        self.name = name
        self.count = 0
        self.destroyed: set[str] = set()

    def act(self) -> None:
        """Do one thing."""
        folders = [self.root, *(path for path in self._all() if path.is_dir())]
        files = [path for path in self._all() if path.is_file()]
        place = self.chance.choice(folders) / self.chance.choice(NAMES)
        some = self.chance.choice(self._all() or [place])
        try:
            match self.chance.randrange(9):
                case 0 | 1:
                    if not place.exists():
                        self._write(place)
                case 2:
                    place.mkdir(exist_ok=True)
                case 3 if files:
                    self._write(self.chance.choice(files))
                case 4 if files:
                    fresh = self.root / ".shoal" / f"editor-{self.name}"
                    self._write(fresh)
                    target = self.chance.choice(files)
                    self.destroyed |= words_in(target)
                    os.replace(fresh, target)
                case 5 | 6:
                    if not place.exists() and place != some and some not in place.parents:
                        some.rename(place)
                case 7:
                    self.destroyed |= words_in(some)
                    shutil.rmtree(some) if some.is_dir() else some.unlink()
                case 8 if len(files) > 1:
                    one, other = self.chance.sample(files, 2)
                    spare = self.root / ".shoal" / f"swap-{self.name}"
                    one.rename(spare)
                    other.rename(one)
                    spare.rename(other)
        except OSError:  # the engine was quicker
            pass

    def _all(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if ".shoal" not in path.parts)

    def _write(self, path: Path) -> None:
        self.destroyed |= words_in(path)
        self.count += 1
        path.write_text(f"{self.name} {self.count}")


def words_in(path: Path) -> set[str]:
    files = path.rglob("*") if path.is_dir() else [path]
    return {file.read_text() for file in files if file.is_file() and file.parent.name != ".shoal"}


async def live(seed: int, base: Path, rounds: int) -> None:
    chance = random.Random(seed)
    one, other = Device(1, base / "one"), Device(2, base / "other")
    people = Person(chance, one.root, "one"), Person(chance, other.root, "other")
    settled: set[str] = set()  # words that were live on both at some time
    for _ in range(rounds):
        join(one, other)
        together = chance.random() < 0.5
        acts = [chance.choice(people) for _ in range(chance.randrange(1, 12))]
        if not together:
            for person in acts:
                person.act()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.engine.run)
            nursery.start_soon(other.engine.run)
            await trio.sleep(0.1)
            if together:
                for person in acts:
                    person.act()
                    await trio.sleep(chance.choice([0, 0, 0.01, 0.1, 0.3]))
            await trio.sleep(0.7)
            await settle(one, other)
            nursery.cancel_scope.cancel()
        assert listing(one.root) == listing(other.root), f"seed {seed}"
        for device in (one, other):
            assert not list((device.root / ".shoal" / "tmp").iterdir()), f"seed {seed}"
        kept = words_in(one.root) | words_in(other.root)  # in .shoal/versions, too
        given_up = people[0].destroyed & people[1].destroyed
        assert settled <= kept | given_up, f"seed {seed}: lost {settled - kept - given_up}"
        settled |= set().union(*(words_in(path) for path in visible(one.root)))
        one, other = Device(1, one.root, one.store), Device(2, other.root, other.store)


def visible(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and ".shoal" not in path.parts]


@pytest.mark.parametrize("seed", range(4))
async def test_random_lives_end_the_same(seed: int, tmp_path: Path) -> None:
    await live(seed, tmp_path, rounds=4)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 200))
async def test_many_random_lives_end_the_same(seed: int, tmp_path: Path) -> None:
    await live(seed, tmp_path, rounds=8)
