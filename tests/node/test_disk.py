from __future__ import annotations

import os
from pathlib import Path

import pytest

from shoal.node.folder import disk


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_read_only_folder_is_written_and_is_read_only_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    monkeypatch.setattr(os, "access", lambda path, wanted: mode(Path(path)) & 0o300 == 0o300)  # what root is not told
    with disk.writable(str(folder)):
        assert mode(folder) == 0o755
        (folder / "name").touch()
    assert mode(folder) == 0o555


def test_a_folder_that_is_renamed_meanwhile_is_read_only_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, moved = tmp_path / "folder", tmp_path / "moved"
    folder.mkdir(mode=0o555)
    monkeypatch.setattr(os, "access", lambda path, wanted: False)
    with disk.writable(str(folder)):
        folder.rename(moved)
    assert mode(moved) == 0o555


def test_its_mode_comes_back_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    monkeypatch.setattr(os, "access", lambda path, wanted: False)
    with pytest.raises(OSError, match="gone"), disk.writable(str(folder), str(tmp_path / "nowhere")):
        raise OSError("gone")
    assert mode(folder) == 0o500


def test_a_rename_never_lands_on_something(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        disk.rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "b"


def test_a_folder_that_became_a_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    disk.guarded(str(tmp_path), ["real"])
    with pytest.raises(NotADirectoryError):
        disk.guarded(str(tmp_path), ["link"])


def test_reading_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    assert disk.read_piece(str(tmp_path / "link"), 0, 6) is None
    with pytest.raises(OSError, match="symbolic links"):
        disk.write_piece(str(tmp_path / "link"), 0, b"x")
    assert (tmp_path / "secret").read_text() == "secret"
