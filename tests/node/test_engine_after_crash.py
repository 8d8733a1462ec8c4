"""What a crash between the disk and the store left, found by the simulator: nothing is out of reach after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import trio
from engines import FOLDER, Device, join, part, running, settle

from shoal.crdt.model import ROOT, FileContent
from shoal.node.folder.disk import Disk
from shoal.node.folder.install import Installer
from shoal.node.folder.linux import Linux
from shoal.node.store import MemoryStore
from shoal.node.store.port import Op


class PowerCut(BaseException):
    """The power is gone."""


async def place_and_crash(device: Device, other: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    """Have the device put what the other has in its place, and lose its power right then; return it started anew."""
    real = Installer.take_names

    def take_names(self: Installer, ready: Sequence[Any]) -> Any:
        real(self, ready)
        raise PowerCut

    with monkeypatch.context() as patch, contextlib.suppress(BaseExceptionGroup):
        patch.setattr(Installer, "take_names", take_names)
        async with running(device, other):
            await settle(device, other)
    part(device, other)
    assert isinstance(device.store, MemoryStore)
    device.store.crash()
    return Device(2, device.root, device.store)


async def test_what_a_crash_left_among_the_kept_versions_can_be_had_by_others(pair: tuple[Device, Device]) -> None:
    one, _ = pair
    (one.root / "f").write_text("wanted by somebody")
    async with running(one):
        await settle(one)
    found = one.engine.index.get(next(iter(one.replica.children(ROOT))).id)
    assert found is not None
    assert isinstance(found.content, FileContent)
    # It was replaced, and the power went before the store had heard of it.
    (one.root / "f").rename(one.root / ".shoal" / "versions" / "f-as-it-was")

    again = Device(1, one.root, one.store)
    async with running(again):
        await settle(again)
        ((chunk, _),) = found.content.refs()
        assert await again.engine.read_chunks([chunk]) == [b"wanted by somebody"]


async def test_a_file_placed_right_before_a_crash_and_deleted_elsewhere_meanwhile_does_not_come_back(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    (one.root / "f").write_text("to be deleted")
    again = await place_and_crash(other, one, monkeypatch)
    assert (again.root / "f").exists()
    async with running(one):
        await settle(one)
        (one.root / "f").unlink()
        await settle_deletion(one)
        join(one, again)
        async with running(again):
            await settle(one, again)
    assert not (one.root / "f").exists()
    assert not (again.root / "f").exists()


async def settle_deletion(one: Device) -> None:
    with trio.fail_after(20):
        while one.replica.children(ROOT):  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.05)


async def test_a_file_replaced_right_before_a_crash_is_no_edit_of_this_device(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    (one.root / "f").write_text("base")
    async with running(one, other):
        await settle(one, other)
    (one.root / "f").write_text("second text")
    again = await place_and_crash(other, one, monkeypatch)
    assert (again.root / "f").read_text() == "second text"
    (one.root / "f").write_text("the third text")
    async with running(one):
        await settle(one)
        await trio.sleep(0.6)
        join(one, again)
        async with running(again):
            await settle(one, again)
    for device in (one, again):
        assert [path.read_text() for path in device.root.iterdir() if path.is_file()] == ["the third text"]


async def test_what_a_person_saved_in_the_moment_of_a_replacement_that_a_crash_cut_short_has_its_name_again(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    (one.root / "f").write_text("base")
    async with running(one, other):
        await settle(one, other)
    (one.root / "f").write_text("second text")
    real = Linux.exchange

    def exchange(self: Linux, temporary: str, path: str) -> bool:
        (other.root / "f").write_text("saved in that moment")
        real(self, temporary, path)
        raise PowerCut

    with monkeypatch.context() as patch, contextlib.suppress(BaseExceptionGroup):
        patch.setattr(Linux, "exchange", exchange)
        async with running(one, other):
            await settle(one, other)
    part(one, other)
    assert (other.root / "f").read_text() == "second text"
    again = Device(2, other.root, other.store)
    join(one, again)
    async with running(one, again):
        await settle(one, again)
    for device in (one, again):
        texts = {path.read_text() for path in device.root.iterdir() if path.is_file()}
        assert texts == {"second text", "saved in that moment"}


async def test_what_a_person_saved_in_the_moment_of_a_removal_that_a_crash_cut_short_has_its_name_again(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    (one.root / "f").write_text("base")
    async with running(one, other):
        await settle(one, other)
    real = Linux.rename

    def rename(self: Linux, source: str, target: str) -> None:
        if source == str(other.root / "f"):
            (other.root / "f").write_text("saved in that moment")
            real(self, source, target)
            raise PowerCut
        real(self, source, target)

    with monkeypatch.context() as patch, contextlib.suppress(BaseExceptionGroup):
        patch.setattr(Linux, "rename", rename)
        async with running(one, other):
            (one.root / "f").unlink()
            await settle_deletion(one)
            await settle(one, other)
    part(one, other)
    assert not (other.root / "f").exists()
    again = Device(2, other.root, other.store)
    join(one, again)
    async with running(one, again):
        await settle(one, again)
    for device in (one, again):
        assert (device.root / "f").read_text() == "saved in that moment"


async def test_a_removal_is_durable_on_disk_before_the_store_forgets_the_file(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    (one.root / "f").write_text("text")
    async with running(one, other):
        await settle(one, other)
        (child,) = other.replica.children(ROOT)
        happened: list[str] = []
        sync, write = Disk.sync_directories, MemoryStore.write

        def sync_directories(self: Disk, paths: Iterable[str]) -> None:
            happened.extend("synced" for path in paths if path == str(other.root))
            sync(self, paths)

        def write_ops(self: MemoryStore, ops: Sequence[Op], *, sync: bool) -> None:
            if self is other.store and any(FOLDER + b"n" + child.id == key and value is None for _, key, value in ops):
                happened.append("forgotten")
            write(self, ops, sync=sync)

        monkeypatch.setattr(Disk, "sync_directories", sync_directories)
        monkeypatch.setattr(MemoryStore, "write", write_ops)
        (one.root / "f").unlink()
        await settle_deletion(one)
        await settle(one, other)
    assert happened == ["synced", "forgotten"]


async def test_what_there_is_of_a_file_that_is_waited_for_stays_and_other_temporaries_go(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    (one.root / "f").write_bytes(os.urandom(1000))
    async with running(one):
        await settle(one)
    part(one, other)
    (node,) = other.replica.dirty.first(10)
    view = other.replica.view(node)
    assert view is not None
    temporaries = other.root / ".shoal" / "tmp"
    wanted = temporaries / f"{node.hex()}-{view.version.id.hex()}.part"
    older = temporaries / f"{node.hex()}-{bytes(12).hex()}.part"
    stranger = temporaries / f"{bytes(16).hex()}-{bytes(12).hex()}.part"
    for path in (wanted, older, stranger):
        path.write_bytes(b"a part")
    async with running(other):
        with trio.fail_after(20):
            while older.exists() or stranger.exists():  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.01)
    assert wanted.read_bytes() == b"a part"
