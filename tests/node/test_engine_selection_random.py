"""Random acts of two people who also leave things out and get them back: in the end both have all, nothing is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, settle
from tests.node.test_engine_random import Person, visible, words_in

from shoal.crdt.model import ROOT, FileContent, NodeId
from shoal.transfer.chunking import chunk_id


def choose(chance: random.Random, device: Device) -> None:
    """Leave something out, or get something."""
    nodes: list[NodeId] = [ROOT]
    for node in nodes:
        nodes += [view.id for view in device.replica.children(node) if view.copy_of is None]
    device.engine.chooser.choose(chance.choice(nodes), wanted=chance.random() < 0.4)


async def settle_but_for(destroyed: set[str], *devices: Device) -> None:
    """Settle, but for files that nobody has: people deleted the only one by hand while it was left out, and waited to
    leave, which is no deletion."""
    ids = {chunk_id(devices[0].replica.content_key, word.encode()) for word in destroyed}

    def is_lost(device: Device, node: NodeId) -> bool:
        view = device.replica.view(node)
        content = view.version.content if view is not None else None
        return isinstance(content, FileContent) and content.chunks[:32] in ids

    with trio.move_on_after(20):
        quiet = 0
        while quiet < 10:
            dirty = [(device, node) for device in devices for node in device.replica.dirty.first(100)]
            quiet = quiet + 1 if all(is_lost(device, node) for device, node in dirty) else 0
            await trio.sleep(0.05)
        return
    await settle(*devices, seconds=0.1)


async def live(seed: int, base: Path, rounds: int) -> None:
    chance = random.Random(seed)
    one, other = Device(1, base / "one"), Device(2, base / "other")
    people = Person(chance, one.root, "one"), Person(chance, other.root, "other")
    settled: set[str] = set()  # words that were live on both at some time
    for number in range(rounds):
        is_last = number == rounds - 1
        join(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.engine.run)
            nursery.start_soon(other.engine.run)
            await trio.sleep(0.1)
            for _ in range(0 if is_last else chance.randrange(1, 14)):
                if chance.random() < 0.25:
                    choose(chance, chance.choice([one, other]))
                else:
                    chance.choice(people).act()
                await trio.sleep(chance.choice([0, 0, 0.01, 0.1, 0.3]))
            for device in (one, other) if is_last else ():
                device.engine.chooser.choose(ROOT, wanted=True)
            await trio.sleep(0.7)
            await settle_but_for(people[0].destroyed | people[1].destroyed, one, other)
            nursery.cancel_scope.cancel()
        kept = words_in(one.root) | words_in(other.root)  # in .shoal/versions, too
        given_up = people[0].destroyed | people[1].destroyed
        assert settled <= kept | given_up, f"seed {seed}: lost {settled - kept - given_up}"
        settled |= set().union(*(words_in(path) for root in (one.root, other.root) for path in visible(root)))
        one, other = Device(1, one.root, one.store), Device(2, other.root, other.store)
    assert listing(one.root) == listing(other.root), f"seed {seed}"


async def test_a_random_life_with_choices_ends_the_same(tmp_path: Path) -> None:
    await live(0, tmp_path, rounds=3)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 160))
async def test_many_random_lives_with_choices_end_the_same(seed: int, tmp_path: Path) -> None:
    await live(seed, tmp_path, rounds=7)
