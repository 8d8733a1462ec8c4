"""What of permissions and extended attributes a device keeps, and that it does not take the rest from others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from engines import Device, settle
from engines import running as up
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.facts import MalformedFact, content_fields, read_content
from shoal.crdt.model import MAX_ATTRIBUTES, DirContent, FileContent, FolderId
from shoal.node.folder.metadata import MODES, Metadata, Modes, Policy
from shoal.node.store import MemoryStore, Staging


def policy(modes: Modes = "all", attributes: bool = True) -> Metadata:
    metadata = Metadata(Staging(MemoryStore()), FolderId(bytes(16)))
    metadata.set(Policy(modes, attributes))
    return metadata


def file(mode: int, attributes: tuple[tuple[bytes, bytes], ...] = ()) -> FileContent:
    return FileContent(0, mode, 0, b"", attributes)


@given(st.sampled_from(MODES), st.integers(0, 0o777), st.integers(0, 0o777))
def test_what_is_placed_and_seen_again_says_what_was_there(modes: Modes, wanted: int, was: int) -> None:
    metadata = policy(modes)
    assert metadata.seen(file(metadata.mode_here(file(wanted))), (), file(wanted)) == file(wanted)
    assert metadata.seen(DirContent(metadata.mode_here(DirContent(was))), None, DirContent(was)) == DirContent(was)


def test_a_device_that_keeps_no_modes_carries_on_those_of_the_others() -> None:
    assert policy("none").seen(file(0o777), (), file(0o640)) == file(0o640)
    assert policy("none").seen(file(0o777), (), None) == file(0o644)


def test_a_device_that_keeps_exec_bits_tells_of_them_alone() -> None:
    assert policy("exec").seen(file(0o777), (), file(0o640)) == file(0o750)
    assert policy("exec").seen(file(0o600), (), file(0o750)) == file(0o640)


def test_attributes_that_cannot_be_told_are_carried_on() -> None:
    before = file(0o644, ((b"user.a", b"1"),))
    assert policy().seen(file(0o644), None, before) == before
    assert policy(attributes=False).seen(file(0o644), ((b"user.b", b"2"),), before) == before


@given(
    st.dictionaries(st.binary(min_size=1, max_size=50).filter(lambda name: b"\0" not in name), st.binary(max_size=50))
)
def test_attributes_are_read_as_they_were_written(values: dict[bytes, bytes]) -> None:
    content = file(0o644, tuple(sorted((b"user." + name, value) for name, value in values.items())))
    size = sum(len(name) + len(value) for name, value in content.attributes)
    if size <= MAX_ATTRIBUTES:
        assert read_content(content_fields(content)) == content
    else:
        with pytest.raises(MalformedFact):
            read_content(content_fields(content))


@pytest.mark.parametrize(
    "bad", [[], [[b"trusted.a", b""]], [[b"user.b", b""], [b"user.a", b""]], [[b"user.a"]], [b"x"]]
)
def test_attributes_that_nobody_would_write_are_refused(bad: list[object]) -> None:
    with pytest.raises(MalformedFact):
        read_content([0, 0, 0o644, 0, b"", bad])


async def test_extended_attributes_arrive_with_the_file_and_after_it(pair: tuple[Device, Device]) -> None:
    one, other = pair
    path = one.root / "f"
    path.write_text("text")
    try:
        os.setxattr(path, "user.tag", b"red")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    async with up(one, other):
        await settle(one, other)
        assert os.getxattr(other.root / "f", "user.tag") == b"red"
        os.setxattr(path, "user.tag", b"blue")
        os.setxattr(path, "user.more", b"1")
        one.engine.scan_soon()
        await trio.sleep(0.3)
        await settle(one, other)
        assert os.getxattr(other.root / "f", "user.tag") == b"blue"
        os.removexattr(other.root / "f", "user.tag")
        other.engine.scan_soon()
        await trio.sleep(0.3)
        await settle(one, other)
        assert os.listxattr(path) == ["user.more"]


async def test_a_device_that_keeps_its_own_modes_leaves_those_of_the_others(pair: tuple[Device, Device]) -> None:
    one, other = pair
    other.engine.metadata.set(Policy("none"))
    path, there = one.root / "f", other.root / "f"
    path.write_text("text")
    path.chmod(0o600)
    async with up(one, other):
        await settle(one, other)
        assert _mode(there) == 0o644
        there.write_text("edited")
        await trio.sleep(0.3)
        await settle(one, other)
    assert path.read_text() == "edited"
    assert _mode(path) == 0o600


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
