"""What is left out on a device: it leaves that disk alone, only when another keeps it, and comes back when wanted."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import trio
from engines import Device, conflict, join, listing, part, running, settle


def populate(root: Path) -> None:
    (root / "photos" / "2025").mkdir(parents=True)
    (root / "photos" / "2025" / "a.jpg").write_bytes(b"a" * 1000)
    (root / "photos" / "2025" / "b.jpg").write_bytes(b"b" * 1000)
    (root / "photos" / "cover").write_text("cover")
    (root / "notes").mkdir()
    (root / "notes" / "todo").write_text("todo")


def leave_out(device: Device, path: str) -> None:
    device.engine.chooser.choose_path(path, wanted=False)


def get(device: Device, path: str) -> None:
    device.engine.chooser.choose_path(path, wanted=True)


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if ".shoal" not in path.parts)


def restarted(*devices: Device) -> list[Device]:
    again = [Device(number, device.root, device.store) for number, device in enumerate(devices, 1)]
    join(*again)
    return again


async def passed(*devices: Device) -> None:
    """Wait until what can leave has left, and all is quiet."""
    await settle(*devices)
    for device in devices:
        with trio.fail_after(20):
            event = device.engine.leaver.hurry()
            device.engine.wake()
            await event.wait()
    await settle(*devices)


ALL = ["notes", "notes/todo", "photos", "photos/2025", "photos/2025/a.jpg", "photos/2025/b.jpg", "photos/cover"]


async def test_what_is_left_out_leaves_this_disk_alone(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        before = listing(one.root)
        leave_out(other, "photos")
        await passed(other, one)
        assert names(other.root) == ["notes", "notes/todo"]
        assert listing(one.root) == before
        assert other.engine.state().kept == 0
        assert not list((other.root / ".shoal" / "versions").iterdir()), "the point is to free space"
        get(other, "photos")
        await settle(one, other)
    assert listing(other.root) == listing(one.root) == before


async def test_what_nobody_else_has_stays_until_somebody_does(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        (other.root / "photos" / "new.jpg").write_bytes(b"new")
        await trio.sleep(0.5)
        leave_out(other, "photos")
        await passed(other)
        assert names(other.root) == [*ALL[:5], "photos/2025/b.jpg", "photos/cover", "photos/new.jpg"]
        assert other.engine.state().kept == 4
        join(one, other)
        await settle(one, other)
        await passed(other, one)
        assert names(other.root) == ["notes", "notes/todo"]
        assert (one.root / "photos" / "new.jpg").read_bytes() == b"new"


async def test_two_that_leave_out_the_same_at_once_both_keep_it(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        leave_out(one, "photos")
        leave_out(other, "photos")
        await passed(one, other)
        assert names(one.root) == names(other.root) == ALL
        get(one, "photos")
        await passed(other, one)
        assert names(one.root) == ALL
        assert names(other.root) == ["notes", "notes/todo"]


async def test_nothing_of_what_is_left_out_before_the_first_sync_is_fetched(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    populate(one.root)
    leave_out(other, "photos")
    join(one, other)
    async with running(one, other):
        await settle(one, other)
    assert names(other.root) == ["notes", "notes/todo"]
    assert other.fetched == len("todo")


async def test_only_one_sub_folder_comes_where_all_else_is_left_out(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    populate(one.root)
    leave_out(other, "")
    get(other, "photos/2025")
    join(one, other)
    async with running(one, other):
        await settle(one, other)
        assert names(other.root) == ["photos", "photos/2025", "photos/2025/a.jpg", "photos/2025/b.jpg"]
        (other.root / "mine").write_text("made here")
        await trio.sleep(0.5)
        await settle(one, other)
        (one.root / "theirs").write_text("made there")
        await trio.sleep(0.5)
        await passed(other, one)
        assert (one.root / "mine").read_text() == "made here"
        assert (other.root / "mine").exists(), "what a person makes here stays here"
        assert not (other.root / "theirs").exists()


async def test_one_file_of_what_is_left_out_comes_with_the_folders_it_is_in(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        leave_out(other, "photos")
        await passed(other, one)
        get(other, "photos/2025/a.jpg")
        await settle(one, other)
        assert names(other.root) == ["notes", "notes/todo", "photos", "photos/2025", "photos/2025/a.jpg"]
        (one.root / "photos" / "2025" / "a.jpg").write_text("edited")
        (one.root / "photos" / "2025" / "c.jpg").write_text("new")
        await trio.sleep(0.5)
        await settle(one, other)
        assert (other.root / "photos" / "2025" / "a.jpg").read_text() == "edited"
        assert not (other.root / "photos" / "2025" / "c.jpg").exists()
        leave_out(other, "photos")
        await passed(other, one)
        assert names(other.root) == ["notes", "notes/todo"]


async def test_it_stays_left_out_through_renames_and_restarts(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        leave_out(other, "photos")
        await passed(other, one)
    (one.root / "photos").rename(one.root / "pictures")
    (one.root / "pictures" / "more").write_text("more")
    one, other = restarted(one, other)
    async with running(one, other):
        await trio.sleep(0.3)
        await settle(one, other)
    assert names(other.root) == ["notes", "notes/todo"]
    assert (one.root / "pictures" / "2025" / "a.jpg").exists()


async def test_what_a_peer_moves_out_comes_and_what_it_moves_in_leaves(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        leave_out(other, "photos")
        await passed(other, one)
        (one.root / "photos" / "2025").rename(one.root / "best")
        (one.root / "notes").rename(one.root / "photos" / "notes")
        await trio.sleep(0.5)
        await passed(other, one)
        assert names(other.root) == ["best", "best/a.jpg", "best/b.jpg"]
    assert (one.root / "photos" / "notes" / "todo").read_text() == "todo"


async def test_something_of_its_name_is_told_and_left_alone_until_it_is_wanted(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        leave_out(other, "photos")
        await passed(other, one)
        before = listing(one.root)
        (other.root / "photos").mkdir()
        (other.root / "photos" / "cover").write_text("another cover")
        await trio.sleep(0.5)
        await settle(one, other)
        assert [problem.path for problem in other.engine.state().problems] == ["photos"]
        assert listing(one.root) == before
        get(other, "photos")
        await trio.sleep(0.5)
        await settle(one, other)
        assert listing(one.root) == listing(other.root)
        covers = {path.read_text() for path in (one.root / "photos").glob("cover*")}
        assert covers == {"cover", "another cover"}, "neither had seen the other"


@pytest.mark.parametrize("stops", [False, True], ids=["running", "stopped"])
async def test_what_is_left_out_and_vanishes_is_no_deletion(stops: bool, pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        leave_out(other, "photos")
        await passed(other)
        if not stops:
            shutil.rmtree(other.root / "photos")
            await trio.sleep(0.5)
    if stops:
        shutil.rmtree(other.root / "photos")
    one, other = restarted(one, other)
    get(other, "photos")  # before anybody has looked at the disk
    async with running(one, other):
        await trio.sleep(0.3)
        await settle(one, other)
    assert names(one.root) == names(other.root) == ALL


async def test_records_that_a_crash_brings_back_are_no_deletions(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        leave_out(other, "photos")
        crashed = copy.deepcopy(other.store)  # nothing later got to the disk, but for what was removed from the folder
        await passed(other, one)
        assert not (other.root / "photos").exists()
    one, other = Device(1, one.root, one.store), Device(2, other.root, crashed)
    join(one, other)
    assert other.engine.index.find("photos/cover") is not None
    get(other, "photos")
    async with running(one, other):
        await trio.sleep(0.3)
        await settle(one, other)
    assert names(one.root) == names(other.root) == ALL


async def test_a_deleted_folder_takes_nothing_along_that_is_left_out_in_it(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        leave_out(other, "photos/2025")
        await passed(other, one)
        shutil.rmtree(other.root / "photos")
        await trio.sleep(0.6)
        await settle(one, other)
    assert names(one.root) == ["notes", "notes/todo", "photos", "photos/2025", "photos/2025/a.jpg", "photos/2025/b.jpg"]


async def test_an_edit_of_what_could_not_leave_yet_is_told_and_then_leaves(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        part(one, other)
        leave_out(other, "photos")
        await passed(other)
        (other.root / "photos" / "cover").write_text("a better cover")
        await trio.sleep(0.5)
        join(one, other)
        await settle(one, other)
        await passed(other, one)
        assert (one.root / "photos" / "cover").read_text() == "a better cover"
        assert names(other.root) == ["notes", "notes/todo"]


@pytest.mark.parametrize("lie", ["lost", "damaged"])
async def test_a_device_that_only_says_that_it_has_a_file_is_not_believed(
    pair: tuple[Device, Device], lie: str
) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        known = one.engine.index.get(one.engine.index.find("photos/2025/a.jpg"))  # type: ignore[arg-type]
        one.engine.leaver.holds = lambda asked: [True] * len(asked)  # type: ignore[method-assign]
        if lie == "lost":
            one.engine.leaver._prove = lambda *asked: b""  # type: ignore[method-assign]
        else:
            right = one.engine.leaver._prove
            one.engine.leaver._prove = lambda challenge, held, path, record: (  # type: ignore[method-assign]
                bytes(32) if record == known else right(challenge, held, path, record)
            )
        leave_out(other, "photos")
        await passed(other, one)
        left = names(other.root)
        assert "photos/2025/a.jpg" in left
        assert ("photos/2025/b.jpg" in left) == (lie == "lost")


async def test_a_file_saved_between_the_answer_and_the_removal_stays(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        ask = other.engine.leaver.held_elsewhere

        async def saved_meanwhile(asked: object) -> object:
            answers = await ask(asked)  # type: ignore[arg-type]
            (other.root / "photos" / "cover").write_text("saved just now")
            other.engine.leaver.held_elsewhere = ask
            return answers

        other.engine.leaver.held_elsewhere = saved_meanwhile  # type: ignore[assignment]
        leave_out(other, "photos")
        await trio.sleep(0.5)
        await passed(other, one)
    assert (one.root / "photos" / "cover").read_text() == "saved just now"
    assert names(other.root) == ["notes", "notes/todo"]


async def test_a_conflict_in_what_is_left_out_keeps_both_versions(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(one, other):
        await conflict(one, other)
        leave_out(other, "f")
        await passed(other, one)
        assert names(other.root) == []
        assert {path.read_text() for path in one.root.glob("f*")} == {"from one", "from the other"}
        get(other, "f")
        await settle(one, other)
    assert listing(one.root) == listing(other.root)


async def test_ignored_files_in_what_is_left_out_stay_and_are_told(pair: tuple[Device, Device]) -> None:
    one, other = pair
    populate(one.root)
    async with running(one, other):
        await settle(one, other)
        (other.root / ".shoalignore").write_text("*.tmp\n")
        (other.root / "photos" / "x.tmp").write_text("mine alone")
        await trio.sleep(0.5)
        leave_out(other, "photos")
        await passed(other, one)
        assert names(other.root) == [".shoalignore", "notes", "notes/todo", "photos", "photos/x.tmp"]
        assert [problem.path for problem in other.engine.state().problems] == ["photos"]
