"""The package as it is built and shipped."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP = ["bootstrap", "crdt", "dht", "node", "transfer"]


def test_every_package_in_the_tree_is_listed() -> None:
    found = {
        "shoal." + ".".join(path.parent.relative_to(ROOT).parts)
        for top in TOP
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_the_checkers_links_point_at_the_packages() -> None:
    links = {path.name: path.readlink() for path in (ROOT / ".ns" / "shoal").iterdir() if path.is_symlink()}
    assert links == {top: Path("../..") / top for top in TOP}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_pin_versions_and_name_no_address(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-\[\]]+==[A-Za-z0-9.+!]+", line) for line in lines), lines


def test_what_the_package_asks_for_is_in_the_lock() -> None:
    locked = {
        line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    }
    asked = {re.split(r"[\[<>=]", need)[0].lower() for need in PROJECT["project"]["dependencies"]}
    assert asked <= locked


def test_the_wheel_holds_all_modules_and_nothing_at_the_top_but_shoal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run([*command, "--disable-pip-version-check"], check=True, capture_output=True, timeout=110)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"shoal"}
    modules = {f"shoal/{path.relative_to(ROOT)}" for top in TOP for path in (ROOT / top).rglob("*.py")}
    assert modules <= names
