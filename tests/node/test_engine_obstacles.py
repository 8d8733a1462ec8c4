"""Things in the way: what is not synced, cannot be read, was removed by hand, or points elsewhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
from engines import Device, join, listing, running, settle

from shoal.crdt.model import ROOT
from shoal.node.folder.linux import Linux
from shoal.node.folder.signature import Signature


async def test_a_folder_moved_into_one_that_took_a_files_name_arrives(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "X").write_text("a file")
    (one.root / "d").mkdir()
    (one.root / "d" / "in").write_text("in")
    async with running(one, other):
        await settle(one, other)
        (one.root / "X").unlink()
        (one.root / "X").mkdir()
        (one.root / "d").rename(one.root / "X" / "d")
        await trio.sleep(0.6)
        await settle(one, other)
    assert (other.root / "X" / "d" / "in").read_text() == "in"
    assert listing(one.root) == listing(other.root)


async def test_what_a_link_points_at_is_not_synced(pair: tuple[Device, Device], tmp_path: Path) -> None:
    one, other = pair
    outside = tmp_path / "outside"
    outside.mkdir()
    (one.root / "link").symlink_to(outside)
    async with running(one, other):
        await settle(one, other)
        (outside / "secret").write_text("secret")
        one.engine.looking.saw({"link/secret"})
        await trio.sleep(0.3)
        await settle(one, other)
    assert one.engine.index.find("link/secret") is None
    assert [view.name for view in one.replica.children(ROOT)] == ["link"]


async def test_what_cannot_be_looked_at_is_not_taken_for_deleted(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    (one.root / "d").mkdir()
    (one.root / "d" / "f").write_text("f")
    async with running(one, other):
        await settle(one, other)
        real = Linux.lstat

        def lstat(self: Linux, path: str) -> Signature:
            if path == str(one.root / "d" / "f"):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return real(self, path)

        monkeypatch.setattr(Linux, "lstat", lstat)
        one.engine.looking.saw({"d/f"})
        await trio.sleep(0.5)
        assert one.engine.state().problems[0].path == "d/f"
        await settle(one, other)
    assert (other.root / "d" / "f").read_text() == "f"


async def test_a_pipe_where_a_file_is_due_is_told_and_costs_no_endless_fetching(pair: tuple[Device, Device]) -> None:
    one, other = pair
    os.mkfifo(other.root / "f")
    (one.root / "f").write_bytes(os.urandom(100_000))
    async with running(one, other):
        await trio.sleep(4)
        assert other.fetched <= 8 * 100_000
        assert other.engine.state().problems
        (other.root / "f").unlink()
        other.engine.retry_now()
        await settle(one, other)
    assert (other.root / "f").is_file()


async def test_shoals_places_removed_by_hand_are_made_again(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "f").write_text("one")
    async with running(one, other):
        await settle(one, other)
        os.rmdir(other.root / ".shoal" / "versions")
        os.rmdir(other.root / ".shoal" / "tmp")
        (one.root / "g").write_text("wake")
        (one.root / "f").write_text("two")
        await trio.sleep(0.6)
        await settle(one, other)
    assert (other.root / "f").read_text() == "two"


async def test_rules_hold_back_what_is_new_and_not_what_the_folder_has(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "x.log").write_text("known")
    async with running(one, other):
        await settle(one, other)
        (one.root / ".shoalignore").write_text("*.log\n")
        await trio.sleep(0.5)
        await settle(one, other)
        (other.root / "y.log").write_text("new")
        (one.root / "x.log").write_text("known, edited")
        await trio.sleep(0.5)
        await settle(one, other)
    assert (other.root / "x.log").read_text() == "known, edited"
    assert not (one.root / "y.log").exists()
    # The folder is had again from nothing, with the ignored file in its place.
    again = Device(3, other.root)
    join(one, again)
    async with running(one, again):
        await settle(one, again)


async def test_a_big_folder_renamed_while_nobody_looked_is_no_mass_deletion(pair: tuple[Device, Device]) -> None:
    one, other = pair
    (one.root / "many").mkdir()
    for number in range(200):
        (one.root / "many" / f"f{number}").write_text(str(number))
    async with running(one, other):
        await settle(one, other)
    (one.root / "many").rename(one.root / "lots")
    one, other = Device(1, one.root, one.store), Device(2, other.root, other.store)
    join(one, other)
    async with running(one, other):
        await settle(one, other)
        assert one.engine.state().held == 0
    assert len(list((other.root / "lots").iterdir())) == 200
