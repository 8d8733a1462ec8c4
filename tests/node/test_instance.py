"""A home knows whether it is a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

from shoal.node.instance import is_copy, mark_own
from shoal.node.store import MemoryStore


def test_a_home_stays_itself_when_it_is_moved(tmp_path: Path) -> None:
    store, home = MemoryStore(), tmp_path / "home"
    home.mkdir()
    assert not is_copy(store, home)
    mark_own(store, home)
    assert not is_copy(store, home)
    home.rename(tmp_path / "moved")
    assert not is_copy(store, tmp_path / "moved")


def test_a_home_put_back_from_a_backup_is_a_copy_until_it_is_marked(tmp_path: Path) -> None:
    store, home = MemoryStore(), tmp_path / "home"
    home.mkdir()
    mark_own(store, home)
    shutil.copytree(home, tmp_path / "backup")
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "backup", home)
    assert is_copy(store, home)
    mark_own(store, home)
    assert not is_copy(store, home)


def test_a_store_put_back_alone_is_one_too(tmp_path: Path) -> None:
    store = MemoryStore()
    mark_own(store, tmp_path)
    (tmp_path / "instance").unlink()
    assert is_copy(store, tmp_path)
