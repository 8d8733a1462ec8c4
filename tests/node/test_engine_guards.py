"""Guards against taking a missing disk, or a folder that came back empty, for a person's deletions."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, running, settle
from trio_typing import TaskStatus

from shoal.crdt.model import NodeId
from shoal.node.folder.held import HeldDeletions


def fill(root: Path, count: int = 150) -> None:
    for number in range(count):
        (root / f"f{number}").write_text(str(number))


def files(root: Path) -> int:
    return sum(1 for path in root.rglob("f*") if path.is_file() and ".shoal" not in path.parts)


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not is_so():  # noqa: ASYNC110 - many things make it so
            await trio.sleep(0.02)


async def restarted(one: Device, other: Device) -> tuple[Device, Device]:
    devices = Device(1, one.root, one.store), Device(2, other.root, other.store)
    join(*devices)
    return devices


@contextlib.contextmanager
def mounted(disk: Path, at: Path) -> Iterator[None]:
    done = subprocess.run(["mount", "--bind", disk, at], capture_output=True)
    if done.returncode:
        pytest.skip("nothing can be mounted here: it needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=False, capture_output=True)


async def test_a_disk_unmounted_while_up_stops_the_folder_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.node.folder.engine.MARKER_EVERY", 0.1)
    monkeypatch.setattr("shoal.node.folder.engine.RETRY", 0.1)
    disk, at = tmp_path / "disk", tmp_path / "at"
    disk.mkdir()
    at.mkdir()
    with mounted(disk, at):
        one, other = Device(1, at), Device(2, tmp_path / "other")
        join(one, other)
        fill(at)
        async with running(one, other):
            await settle(one, other)
            await trio.run_process(["umount", "-l", str(at)])
            await until(lambda: one.engine.state().status == "stopped")
            assert "marker" in one.engine.state().reason
            (other.root / "new").mkdir()
            (other.root / "new" / "f").write_text("made meanwhile")
            await trio.sleep(0.6)
            assert list(at.iterdir()) == []
            assert files(other.root) == 151
            with mounted(disk, at):
                await until(lambda: (at / "new" / "f").exists())
                await settle(one, other)
                assert listing(at) == listing(other.root)
                assert files(at) == 151


async def test_a_folder_whose_marker_went_while_down_stops_and_goes_on_when_it_is_back(
    pair: tuple[Device, Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.node.folder.engine.RETRY", 0.1)
    one, other = pair
    fill(one.root)
    async with running(one, other):
        await settle(one, other)
    one.root.rename(tmp_path / "moved away")
    one.root.mkdir()
    root, store, there = one.root, one.store, other
    other = Device(2, there.root, there.store)
    (tmp_path / "moved away" / ".shoal").rename(tmp_path / "kept")
    one = Device(1, root, store)  # which marks the folder
    shutil.rmtree(root / ".shoal")
    join(one, other)
    async with running(one, other):
        await until(lambda: one.engine.state().status == "stopped")
        assert files(other.root) == 150
        root.rmdir()
        (tmp_path / "moved away").rename(root)
        (tmp_path / "kept").rename(root / ".shoal")
        await until(lambda: one.engine.state().status == "idle")
        await settle(one, other)
    assert files(one.root) == files(other.root) == 150


async def test_many_deletions_that_were_seen_are_carried_out(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "many").mkdir()
    fill(one.root / "many", 300)
    fill(one.root, 20)
    async with running(one, other):
        await settle(one, other)
        shutil.rmtree(one.root / "many")
        await trio.sleep(0.6)
        await settle(one, other)
        assert one.engine.state().held == 0
    assert files(other.root) == 20
    assert not (other.root / "many").exists()


async def test_more_deletions_than_the_kernel_tells_of_are_carried_out(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "many").mkdir()
    fill(one.root / "many", 500)
    async with running(one, other):
        await settle(one, other)
        shutil.rmtree(one.root / "many")
        one.engine.looking.saw({f"many/f{number}" for number in range(150)})  # and no more: its queue was full
        one.engine.looking.lost_track()
        await trio.sleep(0.6)
        await settle(one, other)
        assert one.engine.state().held == 0
    assert files(other.root) == 0


async def test_many_deletions_that_were_seen_are_carried_out_by_a_scan_too(pair: tuple[Device, Device]) -> None:
    one, other = pair
    fill(one.root, 300)
    async with running(one, other):
        await settle(one, other)
        for number in range(290):
            (one.root / f"f{number}").unlink()
        (one.root / ".shoalignore").write_text("*.log")  # the rules changed: all is looked at
        one.engine.looking.saw({f"f{number}" for number in range(290)})
        await one.engine.scan()
        await trio.sleep(0.6)
        await settle(one, other)
        assert one.engine.state().held == 0
    assert files(other.root) == 10


async def deaf(
    root: str,
    saw: Callable[[set[str]], None],
    lost_track: Callable[[], None],
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Watch, and see nothing."""
    task_status.started()
    await trio.sleep_forever()


async def test_a_mass_disappearance_met_by_chance_is_held_too(pair: tuple[Device, Device]) -> None:
    one, other = pair
    fill(one.root)
    async with running(one, other):
        await settle(one, other)
    one, other = await restarted(one, other)
    one.engine._watch = deaf
    async with running(one, other):
        await settle(one, other)
        for number in range(140):
            (one.root / f"f{number}").unlink()
        chunks = [ref for view in one.replica.children(NodeId(bytes(16))) for ref in view.version.content.refs()]  # type: ignore[union-attr]
        for chunk, _ in chunks:
            await one.engine.read_chunks([chunk])
        await trio.sleep(0.8)
        assert one.engine.state().held == 140
        assert files(other.root) == 150


async def test_held_files_that_come_back_are_not_deleted_and_the_rest_stays_held(
    pair: tuple[Device, Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.node.folder.looking.COME_BACK", 0.1)
    one, other = pair
    fill(one.root)
    async with running(one, other):
        await settle(one, other)
    shutil.copytree(one.root, tmp_path / "copy")
    for number in range(150):
        (one.root / f"f{number}").unlink()
    one, other = await restarted(one, other)
    async with running(one, other):
        await until(lambda: one.engine.state().held == 150)
        assert one.engine.state().status == "held"
        for number in range(120):
            shutil.copy2(tmp_path / "copy" / f"f{number}", one.root)
        await until(lambda: one.engine.state().held == 30)
        assert files(other.root) == 150
        for number in range(120, 150):
            shutil.copy2(tmp_path / "copy" / f"f{number}", one.root)
        await until(lambda: one.engine.state().held == 0)
        await settle(one, other)
    assert files(other.root) == files(one.root) == 150


async def test_held_deletions_are_confirmed(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "many").mkdir()
    fill(one.root / "many")
    async with running(one, other):
        await settle(one, other)
    shutil.rmtree(one.root / "many")
    one, other = await restarted(one, other)
    async with running(one, other):
        await until(lambda: one.engine.state().held == 151)
        assert one.engine.confirm_deletes() == 151
        await trio.sleep(0.5)
        await settle(one, other)
    assert list(other.root.iterdir()) == [other.root / ".shoal"]


def test_what_was_held_stays_held_though_it_is_few() -> None:
    held = HeldDeletions(lambda nodes, moved: len(set(nodes) - moved))
    nodes = {NodeId(number.to_bytes(16)): f"d/{number}" for number in range(1, 301)}
    few = dict(list(nodes.items())[:5])
    assert held.judge(few, set(), set(), 300) == set()
    assert held.judge(nodes, set(), set(), 300) == set(nodes)
    assert held.judge(few, set(), set(), 300) == set(few)
    assert held.covers("d/1")
    assert held.covers("d/1/inside")
    assert not held.covers("d/10")
    held.release(few)
    assert not held


async def test_an_empty_file_system_with_the_marker_alone_is_held(pair: tuple[Device, Device]) -> None:
    one, other = pair
    fill(one.root)
    async with running(one, other):
        await settle(one, other)
    for path in one.root.glob("f*"):
        os.unlink(path)
    one, other = await restarted(one, other)
    async with running(one, other):
        await until(lambda: one.engine.state().held == 150)
        (other.root / "f1").write_text("edited while it is held there")
        await until(lambda: (one.root / "f1").exists() or one.engine.state().status == "held")
        assert files(other.root) == 150
