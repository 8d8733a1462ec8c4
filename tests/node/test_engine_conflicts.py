"""Conflicts on real folders: texts that merge, a person's word, and copies that people work on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from engines import Device, conflict, join, listing, part, running, settle

from shoal.crdt.model import ROOT, NodeView
from shoal.node.folder import apply
from shoal.node.folder.planner import Park
from shoal.node.folder.resolving import Unresolved

BASE = "".join(f"line {number}\n" for number in range(10))
FIRST = BASE.replace("line 1\n", "line one\n")
LAST = BASE.replace("line 8\n", "line eight\n")
BOTH = FIRST.replace("line 8\n", "line eight\n")


async def diverge(devices: Sequence[Device], texts: Sequence[str], name: str = "f", base: str = BASE) -> None:
    """Have running devices change a file while apart, then meet."""
    (devices[0].root / name).write_text(base)
    await settle(*devices)
    await trio.sleep(0.3)
    part(*devices)
    for device, text in zip(devices, texts, strict=True):
        (device.root / name).write_text(text)
    await trio.sleep(0.7)
    join(*devices)
    await settle(*devices)


def names(device: Device) -> list[str]:
    return sorted(path.name for path in device.root.iterdir() if path.name != ".shoal")


def kept(device: Device) -> set[bytes]:
    return {path.read_bytes() for path in (device.root / ".shoal" / "versions").iterdir()}


def versions(device: Device) -> dict[str, NodeView]:
    """Return what the document shows, by name."""
    return {view.name: view for view in device.replica.children(bytes(16))}  # type: ignore[arg-type]


def the_copy(device: Device) -> NodeView:
    (copy,) = [view for view in versions(device).values() if view.copy_of is not None]
    return copy


async def test_changes_of_different_lines_are_merged_on_both_devices(pair: tuple[Device, Device]) -> None:
    async with running(*pair):
        await diverge(pair, (FIRST, LAST))
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == BOTH
        assert listing(pair[0].root) == listing(pair[1].root)


async def test_changes_of_the_same_line_stay_a_conflict(pair: tuple[Device, Device]) -> None:
    async with running(*pair):
        await diverge(pair, (FIRST, FIRST.replace("one", "uno")))
        assert len(names(pair[0])) == 2


async def test_three_devices_that_change_three_lines_all_end_with_all_changes(tmp_path: Path) -> None:
    devices = [Device(number, tmp_path / str(number)) for number in (1, 2, 3)]
    join(*devices)
    async with running(*devices):
        await diverge(devices, (FIRST, LAST, BASE.replace("line 5\n", "line five\n")))
        for device in devices:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == BOTH.replace("line 5\n", "line five\n")


async def test_a_merge_loses_no_bytes_and_is_told_of(pair: tuple[Device, Device]) -> None:
    told: list[tuple[str, str]] = []
    pair[0].engine.on_event = lambda kind, text: told.append((kind, text))
    async with running(*pair):
        await diverge(pair, (FIRST, LAST))
    assert FIRST.encode() in kept(pair[0])
    assert LAST.encode() in kept(pair[1])
    assert "conflict" not in {kind for kind, _ in told}


async def test_a_conflict_is_told_of_once(pair: tuple[Device, Device]) -> None:
    told: list[str] = []
    pair[0].engine.on_event = lambda kind, text: told.append(kind)
    async with running(*pair):
        await conflict(*pair)
        await pair[0].engine.scan()
    assert told.count("conflict") == 1


async def test_keeping_the_copy_makes_it_the_file_everywhere_and_loses_nothing(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        copy = the_copy(one)
        loser, winner = (one.root / copy.name).read_bytes(), (one.root / "f").read_bytes()
        await one.engine.resolver.keep(copy.copy_of, copy.version)  # type: ignore[arg-type]
        await settle(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_bytes() == loser
            assert {winner, loser} <= kept(device) | {loser}
        assert not one.replica.conflicted
        assert not other.replica.conflicted


async def test_keeping_the_file_removes_the_copy_everywhere(pair: tuple[Device, Device]) -> None:
    async with running(*pair):
        await conflict(*pair)
        view = versions(pair[1])["f"]
        winner = (pair[0].root / "f").read_bytes()
        loser = (pair[0].root / the_copy(pair[0]).name).read_bytes()
        await pair[1].engine.resolver.keep(view.id, view.version)
        await settle(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_bytes() == winner
            assert loser in kept(device)


async def test_keeping_both_makes_the_copy_a_file_of_its_own(pair: tuple[Device, Device]) -> None:
    one, _ = pair
    async with running(*pair):
        await conflict(*pair)
        copy = the_copy(one)
        texts = {(one.root / name).read_text() for name in names(one)}
        inode = (one.root / copy.name).stat().st_ino
        made = await one.engine.resolver.keep_both(versions(one)["f"].id, lambda copy, taken: "f (other)")
        await settle(*pair)
        assert made == ["f (other)"]
        assert (one.root / "f (other)").stat().st_ino == inode
        for device in pair:
            assert names(device) == ["f", "f (other)"]
            assert {(device.root / name).read_text() for name in names(device)} == texts
            assert not device.replica.conflicted
        (one.root / "f (other)").write_text("edited")
        await trio.sleep(0.6)
        await settle(*pair)
        assert (pair[1].root / "f (other)").read_text() == "edited"
        assert len(names(one)) == 2


async def test_keeping_a_file_from_elsewhere_settles_with_its_content(
    pair: tuple[Device, Device], tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    merged.write_text("by hand")
    async with running(*pair):
        await conflict(*pair)
        await pair[0].engine.resolver.keep_file(versions(pair[0])["f"].id, str(merged))
        await settle(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == "by hand"
    assert merged.read_text() == "by hand"


async def test_two_people_who_settle_differently_have_a_conflict_again_and_lose_nothing(
    pair: tuple[Device, Device],
) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        part(*pair)
        view, copy = versions(one)["f"], the_copy(one)
        await one.engine.resolver.keep(view.id, view.version)
        await other.engine.resolver.keep(view.id, copy.version)
        await trio.sleep(0.3)
        join(*pair)
        await settle(*pair)
        assert listing(one.root) == listing(other.root)
        assert {(one.root / name).read_text() for name in names(one)} == {"from one", "from the other"}


async def test_settling_beside_an_edit_of_what_is_kept_leaves_the_edit(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(*pair):
        await conflict(*pair)
        part(*pair)
        view = versions(one)["f"]
        await one.engine.resolver.keep(view.id, view.version)
        (other.root / "f").write_text("edited meanwhile")
        await trio.sleep(0.7)
        join(*pair)
        await settle(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == "edited meanwhile"


async def test_a_conflict_that_is_over_cannot_be_settled(pair: tuple[Device, Device]) -> None:
    async with running(*pair):
        (pair[0].root / "f").write_text("x")
        await settle(*pair)
        view = versions(pair[0])["f"]
        with pytest.raises(Unresolved, match="no conflict"):
            await pair[0].engine.resolver.keep(view.id, view.version)


async def test_the_same_edit_on_both_sides_and_one_more_on_one_is_no_conflict(pair: tuple[Device, Device]) -> None:
    one, other = pair
    async with running(*pair):
        await diverge(pair, ("same", "same"), base="base")
        (one.root / "f").write_text("more")
        await trio.sleep(0.6)
        await settle(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == "more"
        (other.root / "f").unlink()
        await trio.sleep(0.8)
        await settle(*pair)
        assert names(one) == names(other) == []


async def test_the_same_edit_on_both_sides_is_deleted_by_one_deletion(pair: tuple[Device, Device]) -> None:
    async with running(*pair):
        await diverge(pair, ("same", "same"), base="base")
        (pair[0].root / "f").unlink()
        await trio.sleep(0.8)
        await settle(*pair)
        assert names(pair[0]) == names(pair[1]) == []


async def test_the_same_edit_apart_and_then_another_on_one_side_is_no_conflict(pair: tuple[Device, Device]) -> None:
    one, _ = pair
    (one.root / "f").write_text("base")
    async with running(*pair):
        await settle(*pair)
        part(*pair)
        for device in pair:
            (device.root / "f").write_text("same")
        await trio.sleep(0.7)
        (one.root / "f").write_text("more")
        await trio.sleep(0.7)
        join(*pair)
        await settle(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == "more"


async def twins(pair: tuple[Device, Device], mine: str, theirs: str) -> None:
    """Have one device rename a file to a name under which the other makes a new one."""
    one, other = pair
    (one.root / "g").write_text(mine)
    await settle(*pair)
    part(*pair)
    (one.root / "g").rename(one.root / "f")
    (other.root / "f").write_text(theirs)
    await trio.sleep(0.7)


async def test_two_files_of_one_name_and_content_made_apart_are_one_file(pair: tuple[Device, Device]) -> None:
    async with running(*pair):
        await twins(pair, "same", "same")
        join(*pair)
        await settle(*pair)
        for device in pair:
            assert names(device) == ["f"]
            assert (device.root / "f").read_text() == "same"
        (pair[1].root / "f").unlink()
        await trio.sleep(0.8)
        await settle(*pair)
        assert names(pair[0]) == names(pair[1]) == []


async def test_two_files_of_one_name_and_other_content_are_two(pair: tuple[Device, Device]) -> None:
    async with running(*pair):
        await twins(pair, "mine", "theirs")
        join(*pair)
        await settle(*pair)
        assert {(pair[0].root / name).read_text() for name in names(pair[0])} == {"mine", "theirs"}
        assert listing(pair[0].root) == listing(pair[1].root)


async def test_a_twin_that_is_deleted_elsewhere_meanwhile_leaves_the_file(pair: tuple[Device, Device]) -> None:
    """Neither deletion was of the file that is one for both."""
    one, other = pair
    async with running(*pair):
        await twins(pair, "same", "same")
        third = Device(3, one.root.parent / "third")
        async with running(third):
            join(one, third)
            await settle(one, third)
            part(one, third)
            (third.root / "f").unlink()
            await trio.sleep(0.7)
            join(one, other)
            await settle(one, other)
            join(one, other, third)
            await settle(one, other, third)
            assert [names(device) for device in (one, other, third)] == [["f"], ["f"], ["f"]]


async def test_a_copy_that_nothing_can_be_done_for_now_is_not_tried_without_end(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    async with running(one, other):
        await conflict(one, other)
        (copy,) = one.replica.copies(one.engine.index.find("f") or ROOT)
        record = one.engine.index.get(copy.id)
        assert record is not None
        tries = 0

        def plan_in_vain(*arguments: object) -> list[Park]:
            nonlocal tries
            tries += 1
            return [Park(record)]

        monkeypatch.setattr(apply, "plan", plan_in_vain)
        monkeypatch.setattr(apply.Applier, "_carry_out", lambda self, step, steps: False)
        one.replica.mark_dirty([copy.id])
        await trio.sleep(1)
        assert 1 <= tries <= 20
