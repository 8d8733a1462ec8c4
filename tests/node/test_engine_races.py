"""A person saves a file in the very moment in which another device's change is put on disk: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from engines import Device, listing, running, settle

from shoal.node.folder.disk import Disk
from shoal.node.folder.linux import Linux


def save(path: Path, text: str) -> None:
    """Save as editors do: whole, under the old name."""
    fresh = path.with_name(".saving")
    fresh.write_text(text)
    fresh.rename(path)


def interrupt(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *acts: Callable[[], object]) -> None:
    """Do one of `acts` right before each of the first calls of a function about `f`."""
    real, left = getattr(module, name), list(acts)

    def call(*arguments: Any, **options: Any) -> Any:
        if left and any(str(argument).endswith("/f") for argument in arguments):
            left.pop(0)()
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, call)


def texts(root: Path) -> set[str]:
    return {path.read_text() for path in root.iterdir() if path.is_file()}


def kept(root: Path) -> set[str]:
    return {path.read_text() for path in (root / ".shoal" / "versions").iterdir()}


async def change(pair: tuple[Device, Device], act: Callable[[Path], object]) -> None:
    """Have the first device hold `f`, then change it there, and wait for the end of it."""
    one, other = pair
    (one.root / "f").write_text("base")
    async with running(one, other):
        await settle(one, other)
        act(one.root / "f")
        await trio.sleep(0.6)
        await settle(one, other)
    assert listing(one.root) == listing(other.root)


async def test_a_save_before_a_file_is_replaced_becomes_a_conflict(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair[1].root / "f"
    interrupt(monkeypatch, Linux, "exchange", lambda: save(path, "mine"))
    await change(pair, lambda path: path.write_text("theirs"))
    assert texts(pair[0].root) == {"mine", "theirs"}


async def test_a_second_save_while_the_first_is_put_back_stays_and_the_first_is_kept(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair[1].root / "f"
    interrupt(monkeypatch, Linux, "exchange", lambda: save(path, "mine"), lambda: save(path, "mine again"))
    await change(pair, lambda path: path.write_text("theirs"))
    assert texts(pair[0].root) == {"mine again", "theirs"}
    assert "mine" in kept(pair[1].root)


async def test_a_save_right_after_a_file_was_replaced_is_an_edit_of_what_came(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair[1].root / "f"
    real = Linux.exchange

    def exchange(self: Linux, one: str, target: str) -> bool:
        done = real(self, one, target)
        if target == str(path) and "theirs" in path.read_text():
            path.write_text("mine, after")
        return done

    monkeypatch.setattr(Linux, "exchange", exchange)
    await change(pair, lambda path: path.write_text("theirs"))
    assert texts(pair[0].root) == {"mine, after"}


async def test_a_save_before_a_file_is_removed_survives(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair[1].root / "f"
    real, saved = Linux.rename, False

    def rename(disk: Linux, source: str, target: str) -> None:
        nonlocal saved
        if source == str(path) and not saved:
            saved = True
            save(path, "mine")
        real(disk, source, target)

    monkeypatch.setattr(Linux, "rename", rename)
    await change(pair, Path.unlink)
    assert saved
    assert texts(pair[0].root) == {"mine"}


async def test_a_save_before_time_and_mode_are_set_survives(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair[1].root / "f"
    interrupt(monkeypatch, Disk, "set_meta", lambda: save(path, "mine"))
    await change(pair, lambda path: path.chmod(0o600))
    assert "mine" in texts(pair[0].root)


async def test_a_save_before_a_file_is_renamed_goes_with_it_or_stays_but_is_not_lost(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair[1].root / "f"
    interrupt(monkeypatch, Linux, "rename_new", lambda: save(path, "mine"))
    await change(pair, lambda path: path.rename(path.with_name("g")))
    assert "mine" in texts(pair[0].root)


async def test_what_a_crash_leaves_in_the_middle_of_a_swap_is_kept(pair: tuple[Device, Device]) -> None:
    _, other = pair
    (other.root / ".shoal" / "tmp" / "0-1.swap").write_text("mine")
    async with running(other):
        await settle(other)
    assert "mine" in kept(other.root)


async def test_a_file_removed_right_before_it_is_replaced_leaves_no_temporary(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair[1].root / "f"
    interrupt(monkeypatch, Linux, "exchange", path.unlink)
    await change(pair, lambda path: path.write_text("theirs"))
    assert texts(pair[0].root) == {"theirs"}
    assert not list((pair[1].root / ".shoal" / "tmp").iterdir())
