"""Very many deletions that were held and are confirmed go everywhere, and nothing of them comes back."""

from __future__ import annotations

import shutil

import trio
from engines import Device, listing, running, settle


async def test_what_is_confirmed_to_be_deleted_is_gone_on_the_device_that_deleted_it_too(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    for number in range(1500):
        folder = one.root / "all" / str(number % 30)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_text(str(number))
    async with running(one, other):
        await settle(one, other)
        (one.root / "all" / "1").rename(one.root / "all" / "one")
        await trio.sleep(0.6)
        await settle(one, other)
    shutil.rmtree(one.root / "all")
    (one.root / "after").write_text("written since")
    async with running(one, other):
        with trio.fail_after(20):
            while not one.engine.confirm_deletes():  # noqa: ASYNC110 - nothing tells that they are held
                await trio.sleep(0.1)
        await trio.sleep(1)
        await settle(one, other)
    assert listing(one.root) == listing(other.root)
    assert [path.name for path in one.root.iterdir() if path.name != ".shoal"] == ["after"]
