from __future__ import annotations

import os
from pathlib import Path

import pytest

from shoal.crdt.model import DirContent, FileContent
from shoal.node.folder.disk import Disk
from shoal.node.folder.linux import Linux
from shoal.node.folder.signature import Signature

disk = Disk(Linux())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_read_only_folder_is_written_and_is_read_only_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    monkeypatch.setattr(
        os, "access", lambda path, wanted, **where: mode(Path(path)) & 0o300 == 0o300
    )  # what root is not told
    with disk.writable(str(folder)):
        assert mode(folder) == 0o755
        (folder / "name").touch()
    assert mode(folder) == 0o555


def test_a_folder_that_is_renamed_meanwhile_is_read_only_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, moved = tmp_path / "folder", tmp_path / "moved"
    folder.mkdir(mode=0o555)
    monkeypatch.setattr(os, "access", lambda path, wanted, **where: False)
    with disk.writable(str(folder)):
        folder.rename(moved)
    assert mode(moved) == 0o555


def test_its_mode_comes_back_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    monkeypatch.setattr(os, "access", lambda path, wanted, **where: False)
    with pytest.raises(OSError, match="gone"), disk.writable(str(folder), str(tmp_path / "nowhere")):
        raise OSError("gone")
    assert mode(folder) == 0o500


def test_a_rename_never_lands_on_something(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        disk.rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "b"


def test_reading_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    assert disk.read_piece(str(tmp_path / "link"), 0, 6) is None
    with pytest.raises(OSError, match="symbolic links"):
        disk.write_piece(str(tmp_path / "link"), 0, b"x")
    assert (tmp_path / "secret").read_text() == "secret"


def test_setuid_and_setgid_bits_are_neither_read_nor_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o2755)
    signature = Signature.of(folder.lstat())
    assert disk.read_content(str(folder), b"", signature) == DirContent(0o755)
    assert disk.set_meta(str(folder), DirContent(0o700), signature)
    assert mode(folder) == 0o2700


def test_setting_time_and_mode_is_refused_where_another_file_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    signature = Signature.of(path.lstat())
    path.write_text("another")
    assert not disk.set_meta(str(path), FileContent(3, 0o600, 5, b""), signature)
    assert mode(path) == 0o644


def test_two_names_swap_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert disk.fs.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("b", "a")
