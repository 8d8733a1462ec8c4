"""Sealed replicas: packs of a folder's chunks at seeds and friends that cannot read them, and all of it back."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Node, Seed, pair, running, say, until

pytestmark = pytest.mark.e2e


def fill(folder: Path, seed: int, count: int = 12, most: int = 400_000) -> dict[str, str]:
    """Write files of random bytes; return their digests by name."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number % 3}" / f"file {number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(1, most)))
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    """Return what is in a folder: names and digests."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".shoal" not in path.parts
    }


def durability(node: Node, folder: str) -> dict[str, Any]:
    """Return what a node says of a folder's replicas."""
    return next(each for each in node.json("durability") if each["folder"] == folder)


def is_held(node: Node, folder: str) -> Callable[[], bool]:
    """Return whether all of a folder is packed, and held as its policy says."""

    def held() -> bool:
        said = durability(node, folder)
        return bool(said["packs"]) and not said["chunks_not_packed"] and not said["not_as_policy"]

    return held


def pieces_at(node: Node) -> list[Path]:
    """Return the pieces of packs on a holder's disk."""
    return [path for path in (node.home / "packs").rglob("*") if path.suffix[1:].isdigit()]


def kinds(node: Node) -> set[str]:
    """Return the kinds of what is in a node's audit log."""
    return {each["kind"] for each in node.json("audit")}


PATCHES = """
import importlib.abc
import importlib.util
import sys


def flips(service, shelf):
    async def read(self, folder, pack, part, offset, length, before=shelf.Shelf.read):
        return bytes(byte ^ 1 for byte in await before(self, folder, pack, part, offset, length))
    shelf.Shelf.read = read
    async def check(self, *part):
        return True
    shelf.Shelf.check = check
    async def prove(self, folder, pack, part, block):
        data = await self.held(folder, pack, part, 0, 1 << 30)
        leaves = sys.modules["shoal.transfer.merkle"].leaves(data)
        return data[:65536], list(sys.modules["shoal.transfer.merkle"].proof(leaves, 0))
    service.Giver.prove = prove


def drops(service, shelf):
    async def keep(self, folder, pack, part, root, data):
        self._note(folder, (pack, part), len(data))
    shelf.Shelf.keep = keep


def withholds(service, shelf):
    async def read(self, *asked):
        return None
    service.Giver.read = read


def is_mute(service, shelf):
    async def prove(self, *asked):
        await sys.modules["trio"].sleep_forever()
    service.Giver.prove = prove


def invents(service, shelf):
    async def keep(self, folder, pack, part, root, data, before=shelf.Shelf.keep):
        self._note(folder, (pack, part), len(data))
    shelf.Shelf.keep = keep
    async def read(self, *asked):
        return b"invented" * (asked[-1] // 8) + b"!" * (asked[-1] % 8)
    service.Giver.read = read


def loader(how):
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "shoal.node.packs.service":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            execute = spec.loader.exec_module

            def changed(module):
                execute(module)
                globals()[how](module, sys.modules["shoal.node.packs.shelf"])

            spec.loader.exec_module = changed
            return spec

    sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def seeds(tmp_path: Path) -> Iterator[list[Seed]]:
    made = [Seed(tmp_path / f"seed{number}") for number in range(2)]
    with running(*made):
        yield made


def test_a_folder_comes_back_from_a_seed_alone_by_the_paper_key(tmp_path: Path, seeds: list[Seed]) -> None:
    one, new = Node(tmp_path / "one"), Node(tmp_path / "new")
    known = fill(tmp_path / "photos", 1)
    (tmp_path / "photos" / "canary name").write_text("canary content " * 2000)
    known = digests(tmp_path / "photos")
    with running(one):
        words = one.json("account", "paper-key")["words"]
        one.run("folder", "add", str(tmp_path / "photos"))
        one.run("folder", "policy", "photos", "--copies", "2", "--grace", "30s")
        one.run("seed", "add", seeds[0].card)
        until(is_held(one, "photos"), 60)
        assert one.json("verify", "photos")["proven_as_policy"] == durability(one, "photos")["packs"]
    for path in seeds[0].home.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert b"canary" not in data, f"the seed can read {path}"
    shutil.rmtree(tmp_path / "photos")
    with running(new):
        say(new, words, "recover", "--seed", seeds[0].card).check_returncode()
        new.run("folder", "join", "photos", str(tmp_path / "back"))
        until(lambda: digests(tmp_path / "back") == known, 60)


def test_a_lost_holder_is_replaced_by_another_without_anybody_doing_anything(tmp_path: Path, seeds: list[Seed]) -> None:
    one = Node(tmp_path / "one")
    fill(tmp_path / "f", 2)
    with running(one):
        one.run("folder", "add", str(tmp_path / "f"))
        one.run("folder", "policy", "f", "--copies", "2", "--grace", "4s")
        for seed in seeds:
            one.run("seed", "add", seed.card)
        until(is_held(one, "f"), 60)
        until(lambda: sum(bool(pieces_at(seed)) for seed in seeds) >= 1)
        holder = max(seeds, key=lambda seed: len(pieces_at(seed)))
        other = next(seed for seed in seeds if seed is not holder)
        before = durability(one, "f")["packs"]
        holder.kill()
        shutil.rmtree(holder.home)
        until(lambda: len(pieces_at(other)) == before, 60)
        until(is_held(one, "f"), 30)


def test_a_piece_that_went_bad_on_a_holders_disk_is_noticed_and_had_anew(tmp_path: Path, seeds: list[Seed]) -> None:
    one = Node(tmp_path / "one")
    fill(tmp_path / "f", 3)
    with running(one):
        one.run("folder", "add", str(tmp_path / "f"))
        one.run("folder", "policy", "f", "--copies", "3", "--grace", "60s")
        for seed in seeds:
            one.run("seed", "add", seed.card)
        until(is_held(one, "f"), 60)
        (path,) = pieces_at(seeds[0])
        good = path.read_bytes()
        path.write_bytes(os.urandom(len(good)))
        one.run("verify", "f", check=False)
        until(lambda: path.exists() and path.read_bytes() == good, 30)
        assert "piece-damaged" in kinds(seeds[0])
        assert all(each["believed"] for each in durability(one, "f")["holders"])


@pytest.mark.parametrize("how", ["flips", "drops", "withholds", "invents", "is_mute"])
def test_a_holder_that_lies_is_named_and_replaced_and_no_reader_sees_wrong_data(tmp_path: Path, how: str) -> None:
    liar, honest = Seed(tmp_path / "liar"), Seed(tmp_path / "honest")
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(PATCHES + f"\nloader({how!r})\n")
    liar.environment = {**os.environ, "PYTHONPATH": str(tmp_path / "patch")}
    one, new = Node(tmp_path / "one"), Node(tmp_path / "new")
    known = fill(tmp_path / "f", 6)
    with running(liar):
        with running(one):
            words = one.json("account", "paper-key")["words"]
            one.run("folder", "add", str(tmp_path / "f"))
            one.run("folder", "policy", "f", "--copies", "2", "--grace", "15s")
            one.run("seed", "add", liar.card)
            until(lambda: "holder-failed" in kinds(one), 120)
            liar_name = next(each["name"] for each in durability(one, "f")["holders"] if not each["believed"])
            assert liar_name == "liar"
            assert "liar" in next(each["text"] for each in one.json("audit") if each["kind"] == "holder-failed")
            with running(honest):
                one.run("seed", "add", honest.card)
                until(lambda: bool(pieces_at(honest)) and is_held(one, "f")(), 60)
        honest.up()
        with running(new):
            say(new, words, "recover", "--seed", liar.card).check_returncode()
            new.run("seed", "add", honest.card)
            new.run("folder", "join", "f", str(tmp_path / "back"))
            until(lambda: digests(tmp_path / "back") == known, 60)
        honest.down()


def test_the_pieces_of_an_erasure_code_survive_the_loss_of_as_many_as_it_allows(tmp_path: Path) -> None:
    made = [Seed(tmp_path / f"seed{number}") for number in range(4)]
    one, new = Node(tmp_path / "one"), Node(tmp_path / "new")
    known = fill(tmp_path / "f", 4)
    with running(*made):
        with running(one):
            words = one.json("account", "paper-key")["words"]
            one.run("folder", "add", str(tmp_path / "f"))
            one.run("folder", "policy", "f", "--erasure", "2+2", "--grace", "60s")
            for seed in made:
                one.run("seed", "add", seed.card)
            until(is_held(one, "f"), 90)
        assert all(pieces_at(seed) for seed in made)
        for seed in made[:2]:
            seed.kill()
            shutil.rmtree(seed.home)
        with running(new):
            say(new, words, "recover", "--seed", made[2].card).check_returncode()
            new.run("folder", "join", "f", str(tmp_path / "back"))
            until(lambda: digests(tmp_path / "back") == known, 60)


def test_packs_that_are_mostly_of_no_use_any_more_are_replaced_by_smaller_ones(
    tmp_path: Path, seeds: list[Seed]
) -> None:
    one = Node(tmp_path / "one")
    known = fill(tmp_path / "f", 8, count=4, most=100_000)
    (tmp_path / "f" / "large").write_bytes(os.urandom(3_000_000))
    with running(one):
        one.run("folder", "add", str(tmp_path / "f"))
        one.run("folder", "policy", "f", "--copies", "2", "--grace", "3s")
        one.run("folder", "versions", "f", "--days", "0", "--daily-days", "0")
        one.run("seed", "add", seeds[0].card)
        until(is_held(one, "f"), 60)
        (tmp_path / "f" / "large").unlink()
        one.run("scan")
        until(lambda: 0 < sum(path.stat().st_size for path in pieces_at(seeds[0])) < 1_000_000, 90)
        assert is_held(one, "f")()
    assert digests(tmp_path / "f") == known


def test_a_device_of_ones_own_holds_packs_of_folders_that_it_does_not_have(tmp_path: Path) -> None:
    one, store = Node(tmp_path / "one"), Node(tmp_path / "store")
    fill(tmp_path / "f", 5)
    with running(one, store):
        pair(one, store)
        store.run("offer", "1GB", "--zone", "cellar")
        one.run("folder", "add", str(tmp_path / "f"))
        one.run("folder", "policy", "f", "--copies", "2")
        until(is_held(one, "f"), 60)
        until(lambda: bool(pieces_at(store)))
        zones = {each["name"]: each["zone"] for each in durability(one, "f")["holders"]}
        assert zones["store"] == "cellar"


def test_what_a_device_holds_sealed_becomes_its_files_when_nobody_else_is_left(tmp_path: Path) -> None:
    one, store = Node(tmp_path / "one"), Node(tmp_path / "store")
    known = fill(tmp_path / "f", 9)
    with running(store):
        with running(one):
            pair(one, store)
            store.run("offer", "1GB")
            one.run("folder", "add", str(tmp_path / "f"))
            one.run("folder", "policy", "f", "--copies", "2")
            until(is_held(one, "f"), 60)
            until(lambda: "f" in {each["folder"] for each in store.json("durability")})
        shutil.rmtree(one.home)
        shutil.rmtree(tmp_path / "f")
        store.run("folder", "join", "f", str(tmp_path / "back"))
        until(lambda: digests(tmp_path / "back") == known, 60)


def test_who_offers_nothing_any_more_keeps_what_nobody_else_holds(tmp_path: Path) -> None:
    one, store = Node(tmp_path / "one"), Node(tmp_path / "store")
    fill(tmp_path / "f", 10)
    with running(one, store):
        pair(one, store)
        store.run("offer", "1GB")
        one.run("folder", "add", str(tmp_path / "f"))
        one.run("folder", "policy", "f", "--copies", "2", "--grace", "2s")
        until(is_held(one, "f"), 60)
        held = pieces_at(store)
        store.run("offer", "0")
        until(lambda: durability(one, "f")["policy"]["holders_short"] == 1)
        time.sleep(8)
        assert pieces_at(store) == held
        assert one.json("verify", "f")["pieces_failed"] == 0


def test_a_folder_goes_from_copies_to_a_code_and_back_and_nobody_is_taken_for_a_liar(tmp_path: Path) -> None:
    made = [Seed(tmp_path / f"seed{number}") for number in range(4)]
    one, new = Node(tmp_path / "one"), Node(tmp_path / "new")
    known = fill(tmp_path / "f", 11)
    with running(*made):
        with running(one):
            words = one.json("account", "paper-key")["words"]
            one.run("folder", "add", str(tmp_path / "f"))
            one.run("folder", "policy", "f", "--copies", "3", "--grace", "5s")
            for seed in made:
                one.run("seed", "add", seed.card)
            until(is_held(one, "f"), 60)
            for policy, parts in ((("--erasure", "2+2"), 4), (("--copies", "2"), 1)):
                one.run("folder", "policy", "f", *policy)
                until(is_held(one, "f"), 60)
                until(lambda parts=parts: sum(len(pieces_at(seed)) for seed in made) == parts, 60)
                verified = one.json("verify", "f")
                assert verified["proven_as_policy"] == verified["packs"]
                assert all(each["believed"] for each in durability(one, "f")["holders"])
                assert not {"holder-failed", "holder-lied"} & kinds(one)
        with running(new):
            say(new, words, "recover", "--seed", made[0].card).check_returncode()
            for seed in made[1:]:
                new.run("seed", "add", seed.card)
            new.run("folder", "join", "f", str(tmp_path / "back"))
            until(lambda: digests(tmp_path / "back") == known, 60)


def test_a_holder_that_was_mended_may_be_believed_again(tmp_path: Path, seeds: list[Seed]) -> None:
    one = Node(tmp_path / "one")
    (tmp_path / "f").mkdir()
    with running(one):
        one.run("folder", "add", str(tmp_path / "f"))
        assert "did not fail" in one.error("folder", "believe", "f", "seed0")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("offer", "much"), "is no size"),
        (("folder", "policy", "f", "--erasure", "6-3"), "is no erasure code"),
        (("folder", "policy", "f", "--copies", "2", "--erasure", "6+3"), "not both"),
        (("folder", "policy", "f", "--grace", "soon"), "is no length of time"),
        (("folder", "policy", "f", "--copies", "2", "--min-zones", "3"), "zones"),
        (("folder", "policy", "nothing"), "no folder"),
        (("verify", "nothing"), "no folder"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path: Path, command: tuple[str, ...], says: str) -> None:
    node = Node(tmp_path / "node")
    (tmp_path / "f").mkdir()
    with running(node):
        node.run("folder", "add", str(tmp_path / "f"))
        done = node.run(*command, check=False)
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
