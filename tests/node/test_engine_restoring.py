"""Restores: to names that were of another kind then, and to places that a person says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from engines import Device, conflict, running, settle

from shoal.node.errors import UserError
from shoal.node.versions import Versions


def past_of(device: Device) -> Versions:
    folder: Any = SimpleNamespace(
        replica=device.replica, engine=device.engine, fetch=device._fetch, entry=SimpleNamespace(name="F")
    )
    return Versions(cast("Any", folder), lambda: device.now_ms, lambda: False)


async def test_a_file_of_before_comes_back_beside_the_folder_that_has_its_name(pair: tuple[Device, Device]) -> None:
    device, other = pair  # what the other deletes, this one keeps
    async with running(*pair):
        (other.root / "a").write_text("a file then")
        await settle(*pair)
        device.now_ms = other.now_ms = 2000
        (other.root / "a").unlink()
        await trio.sleep(0.3)
        await settle(*pair)
        (other.root / "a").mkdir()
        (other.root / "a" / "in").write_text("in the folder now")
        await trio.sleep(0.3)
        await settle(*pair)
        device.now_ms = 3000
        await past_of(device).restore("a", None, 1500, None)
        await settle(*pair)
        for each in pair:
            assert (each.root / "a" / "in").read_text() == "in the folder now"
            files = [path for path in each.root.iterdir() if path.is_file()]
            assert [path.read_text() for path in files] == ["a file then"]


@pytest.mark.parametrize("first", ["file", "folder"])
async def test_a_version_is_never_given_to_what_is_of_another_kind(tmp_path: Path, first: str) -> None:
    device = Device(1, tmp_path / "1")
    path = device.root / "a"
    async with running(device):
        for kind in ("file", "folder", "file") if first == "file" else ("folder", "file", "folder"):
            device.now_ms += 100_000
            if kind == "file":
                path.write_text("a file")
            else:
                path.mkdir()
                (path / "in").write_text("inside")
            await settle(device)
            if kind == first and device.now_ms > 300_000:
                break
            device.now_ms += 100_000
            if kind == "file":
                path.unlink()
            else:
                (path / "in").unlink()
                path.rmdir()
            await settle(device)
        past = past_of(device)
        for event in await past.history("a") + past._history.events(past._nodes("a"), device.now_ms):
            if event.version is not None and event.version.content is not None:
                try:
                    await past.restore("a", event.version.id.hex(), None, None)
                except UserError as error:
                    assert error.code in ("which-time", "no-such-version", "bytes-lacking")  # noqa: PT017
                await settle(device)
                assert path.read_text() == "a file" if first == "file" else (path / "in").read_text() == "inside"


@pytest.mark.parametrize("target", ["relative", "", "/nul\0", "/\ud800", "{root}/.shoal/versions/mine"])
async def test_a_restore_goes_to_an_absolute_path_that_is_a_persons(tmp_path: Path, target: str) -> None:
    device = Device(1, tmp_path / "1")
    async with running(device):
        (device.root / "a").write_text("a file")
        await settle(device)
        with pytest.raises(UserError, match=r"absolute|inside"):
            await past_of(device).restore("", None, 1500, target.format(root=device.root))


def texts(device: Device) -> dict[str, str]:
    return {path.name: path.read_text() for path in device.root.iterdir() if path.is_file()}


@pytest.mark.parametrize("apart", [False, True])
async def test_undo_brings_back_each_version_of_a_file_that_was_deleted_in_conflict(
    pair: tuple[Device, Device], apart: bool
) -> None:
    device, other = pair  # what the one deletes, the other keeps
    async with running(*pair):
        await conflict(*pair)
        before = texts(device)
        assert len(before) == 2
        for name in sorted(before, key=lambda name: name == "f"):  # without the file, the copy would be the file
            (device.root / name).unlink()
            if apart:  # two commits, of one act all the same
                await trio.sleep(0.3)
                await settle(*pair)
                device.now_ms += 3000
                other.now_ms = device.now_ms
        await trio.sleep(0.3)
        await settle(*pair)
        assert texts(device) == texts(other) == {}
        _, done = await past_of(other).undo("")
        await settle(*pair)
        assert done.paths == ("f",)
        after = texts(device)
        assert after == texts(other)
        assert after["f"] == before["f"]
        assert sorted(after.values()) == sorted(before.values())


async def test_undo_leaves_alone_what_was_settled_long_before_the_file_was_deleted(pair: tuple[Device, Device]) -> None:
    device, other = pair
    async with running(*pair):
        await conflict(*pair)
        (copy,) = [name for name in texts(device) if name != "f"]
        before = texts(device)["f"]
        for name in (copy, "f"):
            (device.root / name).unlink()
            await trio.sleep(0.3)
            await settle(*pair)
            device.now_ms += 1_000_000
            other.now_ms = device.now_ms
        await past_of(other).undo("")
        await settle(*pair)
        assert texts(device) == texts(other) == {"f": before}
