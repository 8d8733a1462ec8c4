"""Conflict copies that people work on: they are never in conflict with names of their own, and no work is lost."""

from __future__ import annotations

import trio
from engines import Device, conflict, join, listing, part, running, settle

from shoal.crdt.model import ROOT


def names(device: Device) -> list[str]:
    return sorted(path.name for path in device.root.iterdir() if path.name != ".shoal")


def texts(device: Device) -> set[str]:
    return {(device.root / name).read_text() for name in names(device)}


def copy_name(device: Device) -> str:
    (copy,) = [view.name for view in device.replica.children(ROOT) if view.copy_of is not None]
    return copy


async def meet(*devices: Device) -> None:
    await trio.sleep(0.7)
    join(*devices)
    await settle(*devices)


async def test_a_copy_that_is_edited_stays_the_copy(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        text, name = (one.root / "f").read_text(), copy_name(one)
        (one.root / name).write_text("the copy, edited")
        await meet(*pair)
        for device in pair:
            assert (device.root / "f").read_text() == text
            assert (device.root / copy_name(device)).read_text() == "the copy, edited"
        assert len(names(other)) == 2


async def test_a_copy_that_two_devices_edit_at_once_makes_one_more_copy_of_the_file(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        text, name = (one.root / "f").read_text(), copy_name(one)
        part(*pair)
        (one.root / name).write_text("edited here")
        (other.root / name).write_text("edited there")
        await meet(*pair)
        assert listing(one.root) == listing(other.root)
        assert texts(one) == {text, "edited here", "edited there"}
        assert all(each.count("(conflict ") < 2 for each in names(one))
        view = next(view for view in one.replica.children(ROOT) if view.name == "f")
        assert len(view.conflicts) == 2


async def test_a_copy_that_is_renamed_here_and_edited_there_keeps_both(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        text, name = (one.root / "f").read_text(), copy_name(one)
        copied = (one.root / name).read_text()
        part(*pair)
        (one.root / name).rename(one.root / "mine")
        (other.root / name).write_text("edited there")
        await meet(*pair)
        assert listing(one.root) == listing(other.root)
        assert texts(one) == {text, copied, "edited there"}


async def test_a_copy_that_is_deleted_here_while_the_file_is_edited_there_is_gone(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        part(*pair)
        (one.root / copy_name(one)).unlink()
        (other.root / "f").write_text("edited there")
        await meet(*pair)
        assert names(one) == names(other) == ["f"]
        assert (one.root / "f").read_text() == "edited there"


async def test_a_copy_that_is_edited_here_while_the_conflict_is_settled_there_stays(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        part(*pair)
        (one.root / copy_name(one)).write_text("the copy, edited")
        view = next(view for view in other.replica.children(ROOT) if view.name == "f")
        await other.engine.resolver.keep(view.id, view.version)
        await meet(*pair)
        assert listing(one.root) == listing(other.root)
        assert "the copy, edited" in texts(one)


def swap(device: Device) -> None:
    copy = copy_name(device)
    (device.root / "f").rename(device.root / ".shoal" / "between")
    (device.root / copy).rename(device.root / "f")
    (device.root / ".shoal" / "between").rename(device.root / copy)


async def test_a_copy_that_changes_names_with_its_file_has_the_name_everywhere_and_the_file_is_the_copy(
    pair: tuple[Device, Device],
) -> None:
    one, _ = pair
    async with running(*pair):
        await conflict(*pair)
        file, copy = (one.root / "f").read_text(), (one.root / copy_name(one)).read_text()
        swap(one)
        await meet(*pair)
        for device in pair:
            assert (device.root / "f").read_text() == copy
            assert (device.root / copy_name(device)).read_text() == file


async def test_two_devices_that_change_names_of_file_and_copy_at_once_keep_both_texts(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        both = texts(one)
        part(*pair)
        swap(one)
        swap(other)
        await meet(*pair)
        assert listing(one.root) == listing(other.root)
        assert texts(one) == both
        assert len(names(one)) == 2


async def test_a_copy_that_is_moved_over_its_file_is_the_file_everywhere_and_no_copy_is_left(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        copy = copy_name(one)
        text = (one.root / copy).read_text()
        (one.root / copy).rename(one.root / "f")
        await meet(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == text
    assert listing(one.root) == listing(other.root)


async def test_a_file_that_is_moved_over_its_copy_is_the_file_everywhere_and_no_copy_is_left(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        text = (one.root / "f").read_text()
        (one.root / "f").rename(one.root / copy_name(one))
        await meet(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == text
    assert listing(one.root) == listing(other.root)


async def test_a_copy_that_its_file_was_made_the_same_as_is_gone_everywhere(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        text = (one.root / copy_name(one)).read_text()
        (one.root / "f").write_text(text)
        await meet(*pair)
        for device in (one, other):
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == text
